"""`pdd-cli diagnose`: the trainings that stages end with, measured as they go."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import fit_into, options
from PIL import Image
from pretended import Playing

from pdd_lightning.cli.main import main
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.distilling.recorded import recorded_data, recorded_options
from pdd_lightning.evaluation import curves_picture
from pdd_lightning.evaluation.diagnosis import phase_curves
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder

SAMPLE = Path(__file__).parents[2] / "checkpoints" / "sample"

Failed = Callable[..., str]


def diagnosed(run: Path, *args: str) -> list[dict[str, Any]]:
    main(["diagnose", str(run), "--networks", "4", *args])
    stages: list[dict[str, Any]] = json.loads((run / "diagnose.json").read_text())["stages"]
    return stages


def files_of(run: Path) -> dict[str, str]:
    return {path.relative_to(run).as_posix(): file_digest(path) for path in run.rglob("*") if path.is_file()}


@pytest.fixture
def failed(capsys: pytest.CaptureFixture[str]) -> Failed:
    """Runs the command with a mistake; returns the one line that it must print."""

    def call(run: Path, *args: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(["diagnose", str(run), *args])
        assert exit_.value.code == 2
        assert not (run / "diagnose.json").exists()
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("pdd-cli: error: ")
        return line

    return call


@pytest.fixture
def copied(two_stages: Path, run: Path) -> Path:
    shutil.copytree(two_stages, run)
    return run


def test_networks_end_where_the_stages_left_them(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(copied)
    stages = diagnosed(copied)
    printed = capsys.readouterr().out
    for number, stage in enumerate(stages, start=1):
        summary: Any = RunFolder(copied).stage(number).read_manifest().summary
        assert stage["epochs"] == [0, 1, 2, 3]
        for networks, noted in (("bank", "validation_accuracies"), ("fresh", "fresh_accuracies")):
            ends = [round(own[-1], 6) for own in stage[networks]["accuracies"]]
            assert ends[: len(summary[noted])] == summary[noted] == stage[networks]["recorded"]
        for row in (f"{number} 2 bank ", f"{number} 4 fresh "):
            assert row in " ".join(printed.split())
    for networks in ("bank", "fresh"):
        first, second = (stage[networks]["accuracies"] for stage in stages)
        assert [own[-1] for own in first] == [own[0] for own in second]
    after = files_of(copied)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"diagnose.json", "diagnose.png"}
    assert Image.open(copied / "diagnose.png").size[0] > 500


def test_it_gives_the_same_again(copied: Path) -> None:
    diagnosed(copied)
    first = (copied / "diagnose.json").read_bytes()
    diagnosed(copied, "--model.networks_at_once", "2")
    assert (copied / "diagnose.json").read_bytes() == first


def test_fewer_networks_are_the_first_ones(copied: Path) -> None:
    more = diagnosed(copied, "--networks", "5")
    fewer = diagnosed(copied)
    assert fewer[1]["fresh"]["accuracies"] == more[1]["fresh"]["accuracies"][:4]


def test_the_test_set_is_not_looked_at(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def test(data: ImageDataModule) -> None:
        raise AssertionError("the test set was asked for")

    monkeypatch.setattr(ImageDataModule, "test", property(test))
    assert len(diagnosed(copied)) == 2


def test_end_states_are_not_needed(copied: Path) -> None:
    kept = diagnosed(copied)
    RunFolder(copied).stage(1).end_states.unlink()
    assert diagnosed(copied) == kept


def test_end_states_are_not_trusted(copied: Path, failed: Failed) -> None:
    path = RunFolder(copied).stage(1).end_states
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert "end_states.safetensors was changed" in failed(copied)
    assert len(diagnosed(copied, "--rebuild", "true")) == 2


def test_stages_that_are_not_complete_are_left_out(
    first_stage: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(first_stage, run)
    assert len(diagnosed(run)) == 1
    assert "1 of 2 stages are complete, and these alone are shown" in capsys.readouterr().out


def test_a_run_without_a_transition_is_trained_through_all_the_same(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        fit_into(run, *options("start"), "--model.transition=false", "--model.iterations=1")
    stages = diagnosed(run)
    for first, second in zip(*(stage["bank"]["accuracies"] for stage in stages), strict=True):
        assert first[-1] == second[0]
    assert stages[0]["bank"]["recorded"] == []
    assert "model.transition=false: every stage was matched at the states" in capsys.readouterr().out


def test_the_sample_is_diagnosed_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(SAMPLE, tmp_path / "run", ignore=shutil.ignore_patterns("stage_02", "stage_03"))
    (stage,) = diagnosed(tmp_path / "run")
    ends = [own[-1] for own in stage["bank"]["accuracies"]]
    assert ends == pytest.approx(stage["bank"]["recorded"], abs=0.03)  # last digits are those of a machine
    assert len(stage["epochs"]) == 51


def test_a_picture_that_fails_costs_nothing(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(phases: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(curves_picture, "_figure", fail)
    assert len(diagnosed(copied)) == 2
    assert capsys.readouterr().out.endswith(f"every number: {copied}/diagnose.json\n")
    assert "diagnose.png could not be made: no font" in caplog.text
    assert not (copied / "diagnose.png").exists()


def test_nothing_held_out_is_one_line(run: Path, failed: Failed) -> None:
    fit_into(run, *options("start"), "--data.validation_fraction=0", "--model.iterations=1")
    line = failed(run)
    assert "data.validation_fraction=0 held out none of the training images" in line
    assert line.endswith("distil a run with --data.validation_fraction 0.1")


def test_selected_images_are_refused(run: Path, failed: Failed) -> None:
    main(["select", "--config=tests/conf/micro.yaml", f"--run_dir={run}"])
    assert "holds images selected by random, which were matched with no networks" in failed(run)


def test_mistakes_are_one_line(copied: Path, tmp_path: Path, failed: Failed) -> None:
    assert "holds no complete stage" in failed(tmp_path)
    assert "--networks=1: one network does not say what is chance" in failed(copied, "--networks", "1")
    assert "model.recipe.epochs: 3 then, 5 now" in failed(copied, "--model.recipe.epochs=5")
    assert "holds 2 networks, and model.dynamics now asks for 3" in failed(copied, "--model.dynamics.experts=3")
    assert "stage 1 in" in failed(copied, "--data.validation_fraction=0.2")
    assert "model.ipc" in failed(copied, "--model.ipcs=2")
    for stage in (1, 2):
        RunFolder(copied).stage(stage).config.unlink()
    assert "config.yaml is missing, which says what the run is made of: give it by --config FILE" in failed(copied)
    assert len(diagnosed(copied, "--config=tests/conf/micro.yaml")) == 2


def test_a_device_that_records_trains_them_alike(copied: Path, playing: Playing) -> None:
    chosen, data = replace(recorded_options(RunFolder(copied)), networks_at_once=1), recorded_data(copied)
    data.setup()
    plain = phase_curves(chosen, data, torch.device("cpu"), 3)
    with playing() as device:
        found = phase_curves(chosen, data, torch.device(device), 3)
    for phase, wanted in zip(found, plain, strict=True):
        for (_, curves), (_, same) in zip(phase.named, wanted.named, strict=True):
            assert torch.tensor(curves.accuracies).numpy() == pytest.approx(
                torch.tensor(same.accuracies).numpy(), abs=0.03
            )


def test_drawing_is_imported_when_it_is_used() -> None:
    picture = curves_picture.__name__
    code = f"import sys; import pdd_lightning.cli.diagnose; assert {picture!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
