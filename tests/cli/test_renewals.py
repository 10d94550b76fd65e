"""A stage that renews what it is matched with comes out the same, interrupted anywhere and whoever works on it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import CONFIG, Refused, fit_into
from processes import together

from pdd_lightning.dynamics import ExpertTrajectories
from pdd_lightning.process import signals
from pdd_lightning.process.signals import Interrupted
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.files import read_tensors
from pdd_lightning.store.folders import RunFolder

EXPERTS = ("--model.dynamics.start_states", "3", "--model.dynamics.renew_every", "5")


def files(run: Path) -> dict[str, str]:
    """Digests of what stages left, and of what they are."""
    found = {str(path.relative_to(run)): file_digest(path) for path in sorted(run.glob("stage_*/*.safetensors"))}
    return {**found, "settings": RunFolder(run).stage(1).fingerprint()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages without an interruption."""
    run = tmp_path_factory.mktemp("straight") / "run"
    for _ in range(2):
        fit_into(run, *EXPERTS)
    return run


def test_all_start_states_go_on_to_the_next_stage(straight: Path, first_stage: Path) -> None:
    stages = [RunFolder(straight).stage(stage) for stage in (1, 2)]
    for folder in stages:
        states, _ = read_tensors(folder.end_states)
        assert {len(tensor) for tensor in states.values()} == {3}
        assert not folder.renewals.exists()
    assert len(list((straight / "experts").glob("stage_01-*/expert_*"))) == 2
    assert files(straight)["stage_01/synthetic.safetensors"] != file_digest(RunFolder(first_stage).stage(1).synthetic)


def test_stopped_after_every_step_it_ends_the_same(straight: Path, run: Path) -> None:
    shutil.copytree(straight, run)
    shutil.rmtree(run / "stage_02")
    for step in range(1, 12):
        fit_into(run, *EXPERTS, "--trainer.max_steps", str(step))
    fit_into(run, *EXPERTS)
    assert files(run) == files(straight)


def test_a_process_that_is_killed_goes_back_over_a_renewal(
    straight: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed by the third expert after the first ones, when the last checkpoint is of the round before."""
    train, calls = ExpertTrajectories._train, [0]

    def dies(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2 + 2 + 1 + 1:
            raise KeyboardInterrupt
        return train(*args)

    monkeypatch.setattr(ExpertTrajectories, "_train", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit_into(run, *EXPERTS, "--checkpoint_every", "3")
    fit_into(run, *EXPERTS)
    assert calls[0] == 2 + 2 + 2 + 1
    found = files(run)
    assert {name: value for name, value in files(straight).items() if "stage_02" not in name} == found


@pytest.fixture
def no_signal() -> Iterator[None]:
    yield
    signals._inbox.name = None


def test_a_signal_within_a_renewal_leaves_a_checkpoint_of_the_step_before(
    straight: Path, run: Path, monkeypatch: pytest.MonkeyPatch, no_signal: None
) -> None:
    train, calls = ExpertTrajectories._train, [0]

    def asked(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            signals._inbox.name = "SIGTERM"
        return train(*args)

    monkeypatch.setattr(ExpertTrajectories, "_train", asked)
    with pytest.raises(Interrupted):
        fit_into(run, *EXPERTS)
    assert calls[0] == 3
    assert (RunFolder(run).stage(1).checkpoints / "step=5.ckpt").is_file()
    signals._inbox.name = None
    fit_into(run, *EXPERTS)
    assert calls[0] == 6
    assert files(run)["stage_01/synthetic.safetensors"] == files(straight)["stage_01/synthetic.safetensors"]


def test_workers_renew_what_one_process_renews(straight: Path, run: Path) -> None:
    fit_into(run, *EXPERTS, "--threads", "1", "--model.networks_at_once", "2")
    assert files(run)["stage_01/synthetic.safetensors"] == files(straight)["stage_01/synthetic.safetensors"]


@pytest.mark.slow
def test_several_processes_renew_what_one_renews(straight: Path, run: Path) -> None:
    devices = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--threads", "1")
    together(2, ["fit", "--config", str(CONFIG), "--run_dir", str(run), *EXPERTS, *devices])
    mine, theirs = (read_tensors(RunFolder(each).stage(1).synthetic)[0]["images"] for each in (run, straight))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--model.dynamics.start_states", "3"), "dynamics.start_states=3 are more than experts=2"),
        (("--model.dynamics.start_states", "1"), "dynamics.start_states=1 are too few for experts=2"),
        (("--model.dynamics.renew_every", "0"), "dynamics.renew_every must be at least 1, got 0"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(args: tuple[str, ...], words: str, refused: Refused, run: Path) -> None:
    assert words in refused(*args)
    assert not run.exists()


def test_a_stage_is_not_continued_under_another_renewal(straight: Path, run: Path, refused: Refused) -> None:
    shutil.copytree(straight, run)
    shutil.rmtree(run / "stage_02")
    assert "model.dynamics.renew_every: 5 then, 6 now" in refused(*EXPERTS[:2], "--model.dynamics.renew_every", "6")
