"""What an evaluation costs, from parts of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from pretended import pretend
from torch import Tensor, nn
from toys import CLASSES, SHAPE, toy_images

from pdd_lightning.evaluation.module import EvaluationModule, Phase
from pdd_lightning.evaluation.protocol import Evaluation, Job
from pdd_lightning.networks import ConvNet
from pdd_lightning.planning import clock
from pdd_lightning.planning import evaluation as jobs
from pdd_lightning.planning.evaluation import PlannedEvaluator, ScoreClock
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.augmentation import NoAugmentation
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.mark.parametrize(
    ("images", "seconds", "scored"),
    [
        (12, 12 * 0.25, [5, 12]),
        (12, 11 * 0.25, [5]),  # all would take longer
        (12, 0.0, [5]),
        (3, 60.0, [3]),
    ],
)
def test_all_images_are_scored_only_where_that_is_quick(
    images: int, seconds: float, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, scoring the test sets of the published settings took most of a plan."""
    counts: list[int] = []
    shown: list[int] = []

    def look(network: nn.Module, given: tuple[Tensor]) -> None:
        if not network.training:
            shown.append(len(given[0]))

    class Scored(EvaluationModule):
        def score(self, batch_size: int = 1000) -> list[float]:
            counts.append(len(self.score_images))
            return super().score(batch_size)

    def quarters(work: object) -> float:
        assert callable(work)
        work()
        return 0.25 * counts[-1] if counts else 8.0  # which pays for what is made once

    monkeypatch.setattr(jobs, "SOME", 5)
    monkeypatch.setattr(jobs, "SCORED_AT_ONCE", 10)
    monkeypatch.setattr(jobs, "timed", quarters)
    phases = [Phase([toy_images(6)], [0.1], Recipe(epochs=10, batch_size=6))]
    scoring, score = ScoreClock(seconds), toy_images(images, seed=1)
    module = Scored(Problem(ConvNet(width=4, depth=2), SHAPE, CLASSES, NoAugmentation(), 0), phases, score, "plan")
    module.networks[0].register_forward_pre_hook(look)
    Trainer(max_steps=2, callbacks=[scoring], **QUIET).fit(module)
    assert counts == scored
    assert scoring.each == 0.25
    assert scoring.spent == 8.0 + 0.25 * sum(scored)
    assert shown == [min(images, 10), *scored]  # the first is a whole minibatch, for the peak of memory
    assert module.score_images is score


NETWORK, RECIPE = ConvNet(width=4, depth=2), Recipe(epochs=10, batch_size=6)


@dataclass
class Slowly:
    """An evaluation that is planned, of networks that take a time which is known."""

    planned: PlannedEvaluator
    scored: list[int]
    shown: list[int]

    def job(self, *sizes: int, networks: int = 1) -> Job:
        """With a phase for each number of images."""
        phases = [Phase([toy_images(count)] * networks, [0.1] * networks, RECIPE) for count in sizes]
        return Job("name", "union", NETWORK, phases, [1, 2], [1, 2], [None] * len(sizes), list(range(networks)))


@pytest.fixture
def slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slowly:
    now, scored = 0.0, list[int]()

    class Slow(EvaluationModule):
        """Takes 3 s to be made, 9 s for the first step, 2 s for others, and 0.5 s to score a network on an image."""

        def __init__(self, *args: Any, **options: Any) -> None:
            nonlocal now
            super().__init__(*args, **options)
            now += 3.0

        def training_step(self, batch: int, batch_idx: int) -> Tensor:
            nonlocal now
            now += 2.0 if batch_idx else 9.0
            return super().training_step(batch, batch_idx)

        def score(self, batch_size: int = 1000) -> list[float]:
            nonlocal now
            now += 0.5 * len(self.score_images) * len(self.networks)
            scored.append(len(self.score_images))
            return super().score(batch_size)

    time = SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr(jobs, "time", time)
    monkeypatch.setattr(clock, "time", time)
    monkeypatch.setattr(jobs, "EvaluationModule", Slow)
    problem = Problem(NETWORK, SHAPE, CLASSES)
    options = {"network": NETWORK, "recipe": RECIPE, "compile_networks": False, "problem": lambda *_: problem}
    module: Any = SimpleNamespace(options=SimpleNamespace(**options), run=RunFolder(tmp_path))
    data: Any = SimpleNamespace(image_shape=SHAPE, num_classes=CLASSES)
    planned = PlannedEvaluator(module, data, Evaluation(), trainer)
    planned.selecting = False
    shown = list[int]()
    show = ScoreClock._show

    def showing(self: ScoreClock, network: nn.Module, images: LabelledImages) -> None:
        shown.append(len(images))
        show(self, network, images)

    monkeypatch.setattr(ScoreClock, "_show", showing)
    return Slowly(planned, scored, shown)


def trainer(steps: int, callbacks: Sequence[Callback]) -> Trainer:
    return Trainer(max_steps=steps, callbacks=list(callbacks), **QUIET)


FEW, MANY = toy_images(4, seed=1), toy_images(12, seed=1)


def test_a_job_is_its_overhead_its_steps_and_its_scoring(slowly: Slowly) -> None:
    job = slowly.job(6, 12)
    cost = slowly.planned._measure(job, job.phases[0], MANY, 6.0)
    assert (cost.overhead, cost.opening, cost.step, cost.score) == (3.0 + 7.0, 7.0, 2.0, 0.5)
    assert slowly.planned.seconds([(job, MANY)], 12.0) == {job.label: 10.0 + (10 + 20) * 2.0 + 2 * 12 * 0.5}


def test_scoring_is_measured_once_for_as_many_networks_and_on_the_most_images(slowly: Slowly) -> None:
    jobs = [(slowly.job(6), FEW), (slowly.job(12), MANY), (slowly.job(6, networks=2), FEW)]
    (seconds,) = slowly.planned.seconds(jobs, 30.0).values()
    assert slowly.scored == [12, 4]
    assert slowly.shown == [12, 12, 4]  # a minibatch of each, for the peak of memory
    steps, scoring = (10 + 20 + 10) * 2.0, (4 * 0.5, 12 * 0.5, 4 * 1.0)
    assert seconds == 3 * 10.0 + steps + sum(scoring)


def test_another_network_is_scored_by_itself(slowly: Slowly) -> None:
    jobs = [(slowly.job(6), FEW), (replace(slowly.job(6), network=ConvNet(width=5, depth=2)), FEW)]
    slowly.planned.seconds(jobs, 30.0)
    assert slowly.scored == [4, 4]


def test_scoring_does_not_depend_on_how_networks_are_trained(slowly: Slowly) -> None:
    job = slowly.job(6)
    rounded = [replace(phase, recipe=replace(phase.recipe, precision="bfloat16")) for phase in job.phases]
    slowly.planned.seconds([(job, FEW), (replace(job, phases=rounded), FEW)], 30.0)
    assert slowly.scored == [4]
    assert slowly.shown == [4, 4]


def test_every_kind_of_phase_is_recorded_anew(slowly: Slowly, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    job = slowly.job(6, 12, 6)
    (seconds,) = slowly.planned.seconds([(job, MANY)], 12.0).values()
    assert seconds == 10.0 + (10 + 20 + 10) * 2.0 + 3 * 12 * 0.5 + 7.0
