"""Damaged end states are made again by option, to the last bit or not at all."""

import shutil
from pathlib import Path

import pytest
from commandline import CONFIG, Fit, Refused

from pdd_lightning.cli.main import main
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.fixture
def damaged(two_stages: Path, run: Path) -> RunFolder:
    """A run of two stages, the end states of the first flipped in one bit, those of the second gone."""
    shutil.copytree(two_stages, run)
    folder = RunFolder(run)
    damage(folder.stage(1).end_states)
    folder.stage(2).end_states.unlink()
    return folder


def test_damage_is_refused_and_the_option_named(damaged: RunFolder, refused: Refused) -> None:
    line = refused()
    assert "end_states.safetensors was changed after stage 1 was complete" in line
    assert "--rebuild true" in line


def test_end_states_are_made_again_bit_for_bit(damaged: RunFolder, two_stages: Path, fit: Fit) -> None:
    fit("--rebuild", "true")
    for stage in (1, 2):
        wanted = RunFolder(two_stages).stage(stage)
        assert file_digest(damaged.stage(stage).end_states) == file_digest(wanted.end_states)
        assert not damaged.stage(stage).transition.exists()


def test_what_is_intact_is_left_alone(two_stages: Path, run: Path, fit: Fit) -> None:
    shutil.copytree(two_stages, run)
    path = RunFolder(run).stage(1).end_states
    before = path.stat().st_mtime_ns
    fit("--rebuild", "true")
    assert path.stat().st_mtime_ns == before


def test_a_damaged_subset_is_not_trained_on(damaged: RunFolder, refused: Refused) -> None:
    damage(damaged.stage(1).synthetic)
    assert "synthetic.safetensors was changed" in refused("--rebuild", "true")
    assert not damaged.stage(2).end_states.exists()


def test_other_end_states_are_not_kept(damaged: RunFolder, refused: Refused) -> None:
    before = file_digest(damaged.stage(1).end_states)
    line = refused("--rebuild", "true", "--model.recipe.epochs", "1")
    assert "leads to other end states" in line
    assert "restore" in line
    assert file_digest(damaged.stage(1).end_states) == before


@pytest.mark.parametrize("command", ["evaluate", "fit"])
def test_a_refusal_makes_no_folder(command: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--rebuild", "true", "--model.ipc", "9999"] if command == "fit" else []
    with pytest.raises(SystemExit) as exit_:
        main([command, "--config", str(CONFIG), "--run_dir", str(run), *args])
    assert exit_.value.code == 2
    assert not run.exists()
