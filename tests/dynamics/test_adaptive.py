"""CAFE's loops: how long an episode lasts and how long its network is trained."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import SHAPE, toy_context, toy_images

from pdd_lightning.dynamics import DynamicTraining, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import Key, generator
from pdd_lightning.training.learner import Learner
from pdd_lightning.types import LabelledImages

UNION = toy_images(9, seed=2)
OPTIONS: dict[str, Any] = {
    "start_states": 3,
    "episode": 7,
    "epochs": 5,
    "watch": 3,
    "query_images": 6,
    "batch_size": 4,
    "learning_rate": 0.05,
}


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    return toy_context(tmp_path, members=3)


class Scripted(DynamicTraining):
    """Sees scores that are given, and counts the epochs of each step."""

    def __init__(self, of_steps: list[float], of_epochs: list[float], **options: Any) -> None:
        super().__init__(**{**OPTIONS, **options})
        self.step_scores, self.epoch_scores = iter(of_steps), iter(of_epochs)
        self.asked: list[str] = []

    def _score(self, *keys: int | str) -> float:
        self.asked.append(str(keys[0]))
        return next(self.step_scores if keys[0] == "step" else self.epoch_scores)


def play(dynamics: DynamicTraining, context: StageContext, steps: int) -> list[tuple[int, int]]:
    """The place of each step: episode, and step within it."""
    dynamics.prepare(context)
    places = []
    for step in range(steps):
        dynamics.point(step, 0)
        places.append(dynamics.place(step))
        dynamics.advance(step, UNION, 0.1)
    return places


def test_an_episode_ends_when_its_last_scores_agree(context: StageContext) -> None:
    steps = [0.1, 0.5, 0.5, 0.5, 0.2, 0.2, 0.2]  # the third 0.5 makes three that agree; an episode later, three 0.2
    dynamics = Scripted(steps, [0.0] * 100, outer_threshold=0.04)
    assert play(dynamics, context, 7) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    assert dynamics.place(7) == (2, 0)


def test_an_episode_has_a_largest_length(context: StageContext) -> None:
    dynamics = Scripted([0.0, 1.0] * 9, [0.0] * 100, episode=4)
    assert play(dynamics, context, 9) == [(step // 4, step % 4) for step in range(9)]


def test_the_network_is_trained_until_its_scores_differ(context: StageContext) -> None:
    # Of three scores the spread is 0.2 after three epochs; later 0.5, 0.5, 0.6 and 0.5, 0.6, 0.9 after four.
    dynamics = Scripted([0.0, 1.0], [0.1, 0.2, 0.3, 0.5, 0.5, 0.6, 0.9], inner_threshold=0.15)
    play(dynamics, context, 2)
    assert dynamics.asked == ["step", *["epoch"] * 3, "step", *["epoch"] * 4]


def test_the_network_s_training_has_a_largest_length(context: StageContext) -> None:
    dynamics = Scripted([0.0], [0.5] * 100)
    play(dynamics, context, 1)
    assert dynamics.asked == ["step", *["epoch"] * 5]


def test_the_training_goes_on_where_it_was(context: StageContext) -> None:
    """Epochs of different steps see different minibatches: those of one long training."""
    split = Scripted([0.0, 1.0], [0.5] * 100, epochs=2)
    whole = Scripted([0.0], [0.5] * 100, epochs=4)
    play(split, context, 2)
    play(whole, context, 1)
    assert torch.equal(split.learner.parameters(), whole.learner.parameters())


def test_an_episode_begins_at_a_member_of_the_bank(context: StageContext) -> None:
    dynamics = Scripted([0.0] * 9, [0.0] * 100)
    play(dynamics, context, 3)
    start = dynamics.point(3, 0).start
    assert any(torch.equal(start, context.network.layout.flatten(context.bank[member])) for member in range(3))


def test_the_score_is_the_accuracy_on_real_images(context: StageContext) -> None:
    dynamics = DynamicTraining(**{**OPTIONS, "query_images": 300})
    dynamics.prepare(context)
    dynamics.point(0, 0)
    assert dynamics._score("step", 0) == pytest.approx(dynamics.learner.accuracy(context.real))


@pytest.mark.parametrize(("classes", "each"), [(3, 427), (10, 128), (100, 13), (200, 6), (3000, 1)])
def test_the_query_holds_as_many_images_of_every_class(
    classes: int, each: int, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published: 128 of each of ten classes, which is 1,280."""
    asked: list[tuple[int, int]] = []

    def real_images(self: StageContext, label: int, count: int, *keys: Key) -> Tensor:
        asked.append((label, count))
        return torch.zeros(count, *SHAPE)

    monkeypatch.setattr(StageContext, "real_images", real_images)
    monkeypatch.setattr(Learner, "accuracy", lambda self, data: len(data))
    dynamics = DynamicTraining()
    dynamics.prepare(replace(context, problem=replace(context.problem, num_classes=classes)))
    assert dynamics._score("step", 0) == classes * each
    assert asked == [(label, each) for label in range(classes)]


def published_epochs(accuracy: float, draw: torch.Generator) -> int:
    """The published inner loop, written out, of a network that no longer learns: scores differ by chance alone."""
    watched: list[float] = []
    for epoch in range(1, 1000):
        score = 0.0
        for _ in range(10):
            score += float((torch.rand(128, generator=draw) < accuracy).float().mean())
        watched.append(score / 10)
        if len(watched) == 10:
            if max(watched) - min(watched) > 0.03:
                return epoch
            watched.pop(0)
    return 1000


@pytest.mark.parametrize("classes", [10, 200])
def test_the_inner_loop_is_ended_by_the_noise_of_the_published_query(
    classes: int, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 128 of each of 200 classes it would never end."""
    draw, accuracy, loops = generator(0, "noise", classes), 0.3, 60
    scored: list[int] = []

    def noise(self: Learner, data: LabelledImages) -> float:
        scored.append(len(data))
        return float((torch.rand(len(data), generator=draw) < accuracy).float().mean())

    monkeypatch.setattr(Learner, "accuracy", noise)
    monkeypatch.setattr(Learner, "train_steps", lambda *args: None)
    monkeypatch.setattr(StageContext, "real_images", lambda self, label, count, *keys: torch.zeros(count, *SHAPE))
    dynamics = DynamicTraining(start_states=3)
    dynamics.prepare(replace(context, problem=replace(context.problem, num_classes=classes)))
    for step in range(loops):
        dynamics.train(step, UNION, 0.1)
    wanted = sum(published_epochs(accuracy, draw) for _ in range(loops)) / loops
    assert 10 <= wanted < 12
    assert len(scored) / loops == pytest.approx(wanted, abs=1.0)


def rising(step: int) -> float:
    """The accuracy of a network on ten classes along the steps of its episode, counted from 0: at first it guesses."""
    return 0.3 - 0.2 * math.exp(-step / 3)


def guessed(accuracy: float, draw: torch.Generator) -> float:
    """The score of a query of 1,280 images."""
    return float((torch.rand(1280, generator=draw) < accuracy).float().mean())


def published_steps(draw: torch.Generator) -> int:
    """The published outer loop, written out: a tenth of each score goes into the next one."""
    watched: list[float] = []
    score, step = 0.0, 0
    while True:
        score = guessed(rising(step), draw) + score / 10
        watched.append(score)
        step += 1
        if len(watched) == 10:
            if max(watched) - min(watched) < 0.04:
                return step
            watched.pop(0)


class Rising(DynamicTraining):
    """A network that learns as `rising` says."""

    draw = generator(0, "rising")

    def train(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Nothing: the scores do not ask for it."""

    def _score(self, *keys: int | str) -> float:
        return guessed(rising(self._inner), self.draw)


def test_a_published_network_is_twenty_steps(context: StageContext) -> None:
    """By which configurations convert the published number of networks to iterations; ours takes as many."""
    networks, draw = 400, generator(0, "published")
    lengths = sorted(published_steps(draw) for _ in range(networks))
    wanted = sum(lengths) / networks
    assert wanted == pytest.approx(20, abs=1.5)
    assert 10 < lengths[0] <= 15
    assert lengths[networks * 95 // 100] >= 29
    dynamics, steps = Rising(start_states=3), 3000
    episodes = play(dynamics, context, steps)[-1][0]
    assert steps / episodes == pytest.approx(wanted, abs=1.5)


@pytest.mark.parametrize("done", [1, 4, 6])
def test_it_continues_bit_for_bit(done: int, context: StageContext) -> None:
    """Without agreement between few scores, episodes of 7; with thresholds that end them at other times too."""

    def make() -> DynamicTraining:
        return DynamicTraining(**{**OPTIONS, "watch": 2, "outer_threshold": 0.3, "inner_threshold": 0.05})

    straight = make()
    straight.prepare(context)
    wanted = []
    for step in range(12):
        wanted.append(straight.point(step, 0).start)
        straight.advance(step, UNION, 0.1)
    first, second = make(), make()
    first.prepare(context)
    for step in range(done):
        first.point(step, 0)
        first.advance(step, UNION, 0.1)
    second.prepare(context)
    second.load_state_dict(first.state_dict())
    for step in range(done, 12):
        assert torch.equal(second.point(step, 0).start, wanted[step])
        second.advance(step, UNION, 0.1)
    assert len({tuple(point[:4].tolist()) for point in wanted}) > 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"watch": 1}, "dynamics.watch must be at least 2, got 1"),
        ({"query_images": 0}, "dynamics.query_images must be at least 1, got 0"),
        ({"outer_threshold": 1.5}, "dynamics.outer_threshold is a difference of accuracies"),
        ({"inner_threshold": -0.1}, "dynamics.inner_threshold is a difference of accuracies"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"episode": 0}, "dynamics.episode must be at least 1"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        DynamicTraining(**{**OPTIONS, **options})


def test_every_option_is_a_setting() -> None:
    changed = [{key: value + 1} for key, value in OPTIONS.items()]
    changed += [{"outer_threshold": 0.5}, {"inner_threshold": 0.5}, {"momentum": 0.1}, {"weight_decay": 0.1}]
    described = [DynamicTraining(**{**OPTIONS, **each}).describe() for each in [{}, *changed]]
    assert all(a != b for i, a in enumerate(described) for b in described[:i])
