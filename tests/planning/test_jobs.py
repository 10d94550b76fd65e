"""What an evaluation costs, from parts of it."""

import pytest
from lightning.pytorch import Trainer
from torch import Tensor, nn
from toys import CLASSES, SHAPE, toy_images

from pdd_lightning.augment import NoAugmentation
from pdd_lightning.modules.evaluation import EvaluationModule, Phase
from pdd_lightning.networks import ConvNet
from pdd_lightning.planning import jobs
from pdd_lightning.planning.jobs import ScoreClock
from pdd_lightning.recipe import Recipe


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
    clock, score = ScoreClock(seconds), toy_images(images, seed=1)
    module = Scored(ConvNet(width=4, depth=2), SHAPE, CLASSES, phases, score, NoAugmentation(), 0, "plan")
    module.networks[0].register_forward_pre_hook(look)
    Trainer(
        accelerator="cpu",
        max_steps=2,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module)
    assert counts == scored
    assert clock.each == 0.25
    assert clock.spent == 8.0 + 0.25 * sum(scored)
    assert shown == [min(images, 10), *scored]  # the first is a whole minibatch, for the peak of memory
    assert module.score_images is score
