"""Which state of its images a stage ends with, against what is plain to see."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pdd_lightning.dynamics import StartStates
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.rng import generator
from pdd_lightning.stage.checks import require_held_out
from pdd_lightning.stage.keeping import Keep, Keeping, kept_line
from pdd_lightning.stage.options import StageOptions

PARTS: dict[str, Any] = {"network": ConvNet(), "objective": MeanEmbedding(), "dynamics": StartStates()}


def states(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Images and alpha after each step."""
    draw = generator(0, "states")
    images = torch.randn(steps, 4, 1, 2, 2, generator=draw)
    return list(zip(images, torch.rand(steps, generator=draw), strict=True))


def passed(keeping: Keeping, scores: list[float], stop: int | None = None) -> Keeping:
    """All steps, the first `stop` of them before a checkpoint."""
    for done, (images, alpha) in enumerate(states(keeping.steps), start=1):
        keeping.stepped(done, images, alpha)
        if keeping.due(done):
            keeping.scored(done, [scores[done - 1] - 0.01, scores[done - 1] + 0.01], images, alpha)
        assert not keeping.due(done)
        if done == stop:
            before, keeping = keeping, Keeping(keeping.keep, keeping.steps, keeping.watch_every)
            keeping.load(before.state())
    return keeping


@pytest.mark.parametrize(("steps", "count"), [(1, 1), (4, 1), (5, 1), (6, 2), (10, 2), (12, 3), (500, 100)])
def test_an_average_is_the_mean_of_the_last_fifth(steps: int, count: int) -> None:
    keeping = passed(Keeping("average", steps), [])
    assert keeping.images is not None
    assert keeping.alpha is not None
    for found, all_states in zip((keeping.images, keeping.alpha), zip(*states(steps), strict=True), strict=True):
        torch.testing.assert_close(found.double(), torch.stack(all_states[-count:]).double().mean(0), rtol=0, atol=2e-6)
    assert keeping.summary() == {"kept": {"keep": "average", "averaged": count, "of": steps}}


@pytest.mark.parametrize(
    ("every", "scores", "best"),
    [
        (1, [0.1, 0.9, 0.3, 0.4, 0.5, 0.6, 0.7], 2),
        (2, [1.0, 0.1, 1.0, 0.8, 1.0, 0.3, 0.5], 4),  # others are not looked at
        (3, [0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.5], 7),  # the last one is
        (9, [0.5] * 7, 7),
        (2, [0.5] * 7, 7),  # of equals the latest
        (2, [0.0, 0.2, 0.0, 0.5, 0.0, 0.5, 0.4], 6),
    ],
)
def test_the_best_is_the_one_with_the_best_score(every: int, scores: list[float], best: int) -> None:
    keeping = passed(Keeping("best", 7, every), scores)
    images, alpha = states(7)[best - 1]
    assert keeping.images is not None
    assert torch.equal(keeping.images, images)
    assert keeping.alpha == alpha
    found: Any = keeping.summary()
    assert found["kept"] == {"keep": "best", "step": best, "of": 7, "accuracy": pytest.approx(scores[best - 1])}
    assert [line[0] for line in found["watched"]] == sorted({*range(every, 8, every), 7})


@pytest.mark.parametrize("keep", ["last", "best", "average"])
@pytest.mark.parametrize("stop", range(1, 8))
def test_it_goes_on_from_a_checkpoint_anywhere(keep: Keep, stop: int) -> None:
    scores = [0.1, 0.4, 0.3, 0.7, 0.5, 0.6, 0.2]
    straight, found = (passed(Keeping(keep, 7, 2), scores, at) for at in (None, stop))
    assert found.summary() == straight.summary()
    assert (found.images is None) == (straight.images is None) == (keep == "last")
    if found.images is not None and straight.images is not None:
        assert torch.equal(found.images, straight.images)
        assert found.alpha == straight.alpha


def test_nothing_is_kept_of_the_last() -> None:
    keeping = passed(Keeping("last", 7), [])
    assert keeping.images is None
    assert keeping.summary() == {}


@pytest.mark.parametrize(
    ("kept", "line"),
    [
        (None, None),
        ({"keep": "best", "step": 300, "of": 500, "accuracy": 0.8123}, "kept step 300 of 500, the best at 81.2 %"),
        ({"keep": "best", "step": 500, "of": 500, "accuracy": 0.8123}, None),
        ({"keep": "average", "averaged": 100, "of": 500}, "kept the mean of the last 100 of 500 steps"),
        ({"keep": "average", "averaged": 1, "of": 4}, None),
    ],
)
def test_a_stage_says_what_it_kept_if_it_is_not_the_last(kept: object, line: str | None) -> None:
    assert kept_line({"kept": kept}) == line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"watch_every": -1}, "model.watch_every must be at least 0, got -1"),
        ({"watch_every": 5, "witnesses": 0}, "model.watch_every=5 .* set model.witnesses to 1 or more"),
        ({"keep": "best"}, r"model.keep=best .* model.watch_every .* is 0: set model.watch_every, such as 100"),
        ({"keep": "mean"}, "model.keep=mean: choose last, best, average"),
    ],
    ids=str,
)
def test_a_mistake_names_option_value_and_remedy(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        StageOptions(**PARTS, **options)


def test_without_held_out_images_nothing_can_be_scored() -> None:
    require_held_out("best", 10, 1)
    require_held_out("average", 0, 0)
    with pytest.raises(ConfigError, match=r"model\.watch_every=10 scores .* data\.validation_fraction=0 .* raise it"):
        require_held_out("last", 10, 0)
    with pytest.raises(ConfigError, match=r"watch_every=10 with model\.keep=best .* or set model\.keep=last and"):
        require_held_out("best", 10, 0)


def test_what_changes_numbers_is_recorded() -> None:
    plain = StageOptions(**PARTS).settings(1)
    assert not {"keep", "watch_every"} & plain.keys()  # so that runs go on that were begun before there was a choice
    assert StageOptions(**PARTS, watch_every=5).settings(1) == plain
    assert StageOptions(**PARTS, watch_every=5, keep="average").settings(1) == {**plain, "keep": "average"}
    best = {"keep": "best", "watch_every": 5, "witnesses": 3}
    assert StageOptions(**PARTS, watch_every=5, keep="best").settings(1) == {**plain, **best}
