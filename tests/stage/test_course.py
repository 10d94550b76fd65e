"""What a stage says of how it went."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import fit_into

from pdd_lightning.objectives import MeanEmbedding, TrajectoryMatching
from pdd_lightning.stage.course import Course, course_line, outside, warning
from pdd_lightning.store.folders import RunFolder

SUMMARY = {
    "course": {"steps": 5, "loss": [0.9812, 0.6434], "alpha": [0.1, 0.1864]},
    "validation_accuracies": [0.9, 0.95],
    "pixels_outside": 0.521,
}


def course(steps: int) -> Course:
    made = Course()
    for step in range(steps):
        made.add(1 - step / steps, 0.1 * step)
    return made


@pytest.mark.parametrize(("steps", "count"), [(1, 1), (2, 1), (9, 4), (12, 5), (100, 5), (200, 10), (5000, 250)])
def test_beginning_and_end_are_means_over_some_steps(steps: int, count: int) -> None:
    found = course(steps).summary(steps)
    mean = (count - 1) / 2 / steps
    assert found["steps"] == count
    assert found["loss"] == pytest.approx([1 - mean, 1 / steps + mean], rel=1e-5)
    assert found["alpha"] == pytest.approx([0.1 * (count - 1) / 2, 0.1 * (steps - (count + 1) / 2)], rel=1e-5)


def test_it_goes_on_from_a_checkpoint() -> None:
    one, other = course(40), Course()
    other.load(one.state())
    for made in (one, other):
        made.add(0.5, 0.25)
    assert other.summary(41) == one.summary(41)
    begun = course(20).summary(40)  # of which the beginning was not noted
    assert begun["loss"] == [None, pytest.approx(0.15, rel=1e-5)]
    assert Course().summary(40)["loss"] == [None, None]


def test_the_line() -> None:
    rest = ", alpha 0.1 -> 0.186, held-out accuracy 92.5 %, 52.1 % of pixels outside [0, 1]"
    assert course_line(SUMMARY, TrajectoryMatching()) == f"matching loss 0.981 -> 0.643 (1 = no movement){rest}"
    assert course_line(SUMMARY, MeanEmbedding()) == f"matching loss 0.981 -> 0.643{rest}"
    bare = {"course": {"loss": [None, 0.5], "alpha": [None, 0.1]}, "validation_accuracies": []}
    assert course_line(bare, MeanEmbedding()) == "matching loss ? -> 0.5, alpha ? -> 0.1"


@pytest.mark.parametrize(("last", "bad"), [(0.64, False), (0.9, False), (0.91, True), (1.18, True), (None, False)])
def test_a_loss_that_says_no_movement_is_a_warning(last: float | None, bad: bool) -> None:
    summary: dict[str, Any] = {"course": {"loss": [1.0, last]}}
    text = warning(summary, TrajectoryMatching(), 30.0)
    assert (text is not None) == bad
    if text is not None:
        assert f"ended at {last:.2f}" in text
        assert "model.image_lr (now 30)" in text
    assert warning(summary, MeanEmbedding(), 30.0) is None


def test_pixels_that_a_png_cuts_off() -> None:
    pixels = torch.tensor([-0.1, -0.001, 0.0, 0.5, 1.0, 1.001, 1.1, 1.2]).reshape(2, 1, 2, 2)
    assert outside(pixels) == 3 / 8


def summary(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RunFolder(run).stage(1).manifest.read_text())["summary"]
    return found


def test_a_stage_ends_with_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same one if it was interrupted."""
    straight, run = tmp_path / "straight", tmp_path / "run"
    fit_into(straight)
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"stage 1: {course_line(summary(straight), TrajectoryMatching())}"
    assert "?" not in line
    fit_into(run, "--trainer.max_steps", "4", "--checkpoint_every", "2")
    fit_into(run)
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert {**summary(run), "real_examples": None} == {**summary(straight), "real_examples": None}  # which has seconds
    assert summary(run)["course"]["steps"] == 5


def test_a_bad_stage_is_not_just_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit_into(tmp_path / "run", "--model.image_lr", "30")
    found = summary(tmp_path / "run")
    assert found["pixels_outside"] > 0.5
    assert found["course"]["loss"][1] > 0.9
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("warning: stage 1: the matching loss ended at ")


def test_the_baseline_is_called_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in (1, 2):
        RunFolder(tmp_path / "run").stage(stage).finish({}, "", None, {})
    fit_into(tmp_path / "run" / "one_stage", "--model.stages", "1", "--model.ipc", "2")
    printed = capsys.readouterr().err
    assert "the one-stage baseline is complete: " in printed
    assert "the one-stage baseline: matching loss" in printed
    assert "stage 1" not in printed.replace("stage_01", "")
