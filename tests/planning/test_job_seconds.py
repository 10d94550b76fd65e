"""What an evaluation costs, from parts of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from pretended import pretend
from torch import Tensor, nn
from toys import CLASSES, SHAPE, toy_images

from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.module import EvaluationModule
from pdd_lightning.evaluation.protocol import Evaluation, Job, Training
from pdd_lightning.networks import Architecture, ConvNet
from pdd_lightning.planning import clock, evaluation
from pdd_lightning.planning.evaluation import job_seconds, score_seconds
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
NETWORK, RECIPE = ConvNet(width=4, depth=2), Recipe(epochs=10, batch_size=6)
FEW, MANY = toy_images(4, seed=1), toy_images(12, seed=1)
SCORE = 0.5
"""Seconds that an answer to one image takes, in the evaluations of these tests."""


def job(*sizes: int, networks: int = 1, network: Architecture = NETWORK, recipe: Recipe = RECIPE) -> Job:
    """With a training for each number of images."""
    trainings = [Training(lambda _, n=n: toy_images(n), n, [0.1] * networks, recipe) for n in sizes]  # type: ignore[misc]
    return Job("name", "union", network, trainings, [1, 2], [1, 2], [None] * len(sizes), list(range(networks)))


class Planned(Evaluator):
    """An evaluation of given jobs."""

    wanted: Sequence[Job] = ()

    def jobs(self) -> list[Job]:
        return list(self.wanted)


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Its networks take a time which is known."""
    now = 0.0

    class Slow(EvaluationModule):
        """Takes 3 s to be made, 9 s for the first step and 2 s for others."""

        def __init__(self, *args: Any, **options: Any) -> None:
            nonlocal now
            super().__init__(*args, **options)
            now += 3.0

        def training_step(self, batch: int, batch_idx: int) -> Tensor:
            nonlocal now
            now += 2.0 if batch_idx else 9.0
            return super().training_step(batch, batch_idx)

    time = SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr(evaluation, "time", time)
    monkeypatch.setattr(clock, "time", time)
    monkeypatch.setattr(evaluation, "EvaluationModule", Slow)
    monkeypatch.setattr(evaluation, "score_seconds", lambda problem, *_: SCORE * problem.architecture.width / 4)
    problem = Problem(NETWORK, SHAPE, CLASSES)
    options = {"network": NETWORK, "recipe": RECIPE, "compile_networks": False, "problem": lambda *_: problem}
    options["networks_at_once"] = 1
    module: Any = SimpleNamespace(options=SimpleNamespace(**options), run=RunFolder(tmp_path))
    data: Any = SimpleNamespace(image_shape=SHAPE, num_classes=CLASSES, test=MANY, validation=FEW)
    return Planned(module, data, Evaluation(), trainer)


def trainer(steps: int, callbacks: Sequence[Callback]) -> Trainer:
    return Trainer(max_steps=steps, callbacks=list(callbacks), **QUIET)


def test_a_job_is_its_overhead_its_steps_and_its_scoring(planned: Planned) -> None:
    planned.wanted = [job(6, 12)]
    cost = evaluation._measure(planned, planned.wanted[0], planned.wanted[0].trainings[0], 6.0, one=False)
    assert (cost.overhead, cost.opening, cost.step) == (3.0 + 7.0, 7.0, 2.0)
    found = job_seconds(planned, 12.0)
    assert found == {planned.wanted[0].label: 10.0 + (10 + 20) * 2.0 + 2 * 12 * SCORE}


def test_in_a_brief_look_one_network_stands_for_those_that_take_turns(planned: Planned) -> None:
    planned.wanted = [job(6, networks=3)]
    (whole,) = job_seconds(planned, 30.0).values()
    (brief,) = job_seconds(planned, 30.0, brief=True).values()
    assert brief == whole + 2 * 10 * 2.0  # a step takes as long here, however many networks it trains


def test_every_network_is_scored_after_every_training(planned: Planned) -> None:
    planned.wanted = [job(6), job(6, networks=2), job(6, network=replace(NETWORK, width=8))]
    found = job_seconds(planned, 30.0)
    assert sum(found.values()) == 3 * 10.0 + 3 * 10 * 2.0 + (1 + 2 + 2) * 12 * SCORE


def test_networks_that_other_processes_train_take_no_time(planned: Planned) -> None:
    planned.module.options.networks_at_once = 2  # type: ignore[misc]
    planned.wanted = [job(6, networks=3)]
    found = job_seconds(planned, 30.0)
    assert found["name union, ConvNet"] == 10.0 + 10 * 2.0 + 2 * 12 * SCORE


def test_rates_are_tried_on_held_out_images_first(planned: Planned) -> None:
    planned.wanted = [replace(job(6), candidates=[0.1, 0.2])]
    found = job_seconds(planned, 30.0)
    assert found["name-tuning union, ConvNet"] == 10.0 + 10 * 2.0 + 6 * 4 * SCORE
    assert found["name union, ConvNet"] == 10.0 + 10 * 2.0 + 12 * SCORE


def test_every_kind_of_training_is_recorded_anew(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    planned.wanted = [job(6, 12, 6)]
    (seconds,) = job_seconds(planned, 12.0).values()
    assert seconds == 10.0 + (10 + 20 + 10) * 2.0 + 3 * 12 * SCORE + 7.0


def test_some_images_are_timed_and_a_whole_minibatch_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, scoring the test sets of the published settings took most of a plan; a minibatch is for its memory."""
    shown: list[int] = []

    class Seen(ConvNet):
        def build(self, *args: Any) -> Any:
            network: nn.Module = super().build(*args)
            network.register_forward_pre_hook(lambda _, given: shown.append(len(given[0])))
            return network

    monkeypatch.setattr(evaluation, "SOME", 5)
    monkeypatch.setattr(evaluation, "SCORED_AT_ONCE", 10)
    monkeypatch.setattr(evaluation, "mean_seconds", lambda work, *_: (work(0), 2.0)[1])
    with torch.no_grad():
        assert score_seconds(Problem(Seen(width=4, depth=2), SHAPE, CLASSES), MANY, 1.0) == 2.0 / 5
    assert shown == [10, 5]
