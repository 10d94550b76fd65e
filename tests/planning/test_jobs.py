"""What an evaluation costs, from parts of it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from toys import CLASSES, SHAPE, toy_images

from pdd_lightning.augment import NoAugmentation
from pdd_lightning.modules.evaluation import EvaluationModule, Phase
from pdd_lightning.networks import ConvNet
from pdd_lightning.planning import clock, jobs
from pdd_lightning.planning.jobs import PlannedEvaluator, ScoreClock
from pdd_lightning.recipe import Recipe
from pdd_lightning.scoring.protocol import Evaluation, Job
from pdd_lightning.store import RunFolder

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
    module = Scored(ConvNet(width=4, depth=2), SHAPE, CLASSES, phases, score, NoAugmentation(), 0, "plan")
    module.networks[0].register_forward_pre_hook(look)
    Trainer(max_steps=2, callbacks=[scoring], **QUIET).fit(module)
    assert counts == scored
    assert scoring.each == 0.25
    assert scoring.spent == 8.0 + 0.25 * sum(scored)
    assert shown == [min(images, 10), *scored]  # the first is a whole minibatch, for the peak of memory
    assert module.score_images is score


def test_a_job_is_its_overhead_its_steps_and_its_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, scored = 0.0, list[int]()

    class Slow(EvaluationModule):
        """Takes 3 s to be made, 9 s for the first step, 2 s for others and half a second to score an image."""

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
            now += 0.5 * len(self.score_images)
            scored.append(len(self.score_images))
            return super().score(batch_size)

    time = SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr(jobs, "time", time)
    monkeypatch.setattr(clock, "time", time)
    monkeypatch.setattr(jobs, "EvaluationModule", Slow)

    network, recipe = ConvNet(width=4, depth=2), Recipe(epochs=10, batch_size=6)

    def trainer(steps: int, callbacks: Sequence[Callback]) -> Trainer:
        quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        return Trainer(
            accelerator="cpu", max_steps=steps, callbacks=list(callbacks), enable_checkpointing=False, **quiet
        )

    options = {"architecture": network, "augmentation": NoAugmentation(), "seed": 0, "compile_networks": False}
    module: Any = SimpleNamespace(**options, recipe=recipe, run=RunFolder(tmp_path))
    data: Any = SimpleNamespace(image_shape=SHAPE, num_classes=CLASSES)
    planned = PlannedEvaluator(module, data, Evaluation(), trainer)
    planned.selecting = False
    phases = [Phase([toy_images(count)], [0.1], recipe) for count in (6, 12)]
    job = Job("name", "union", network, phases, [1, 2], [1, 2], [None, None], [0])
    score = toy_images(12, seed=1)
    cost = planned._measure(job, phases[0], score, 6.0)
    assert (cost.overhead, cost.opening, cost.step, cost.score) == (3.0 + 7.0, 7.0, 2.0, 0.5)
    found = planned.seconds([(job, score)], 12.0)
    assert found == {job.label: 10.0 + (10 + 20) * 2.0 + 2 * 12 * 0.5}
    assert scored == [12, 12]  # once by itself, and once for both phases
