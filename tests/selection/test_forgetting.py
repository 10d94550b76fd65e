"""Forgetting events: the pure count, the training they come from, and the parts of the data."""

from pathlib import Path

import pytest
import torch
from toys import CLASSES, NETWORK, SHAPE, toy_images, toy_module, toy_state

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import initial_state
from pdd_lightning.rng import generator
from pdd_lightning.selection import SelectionContext
from pdd_lightning.selection.forgetting import (
    NEVER_LEARNED,
    count_events,
    equal_edges,
    forgetting_counts,
    partitions,
    require_classes,
)
from pdd_lightning.selection.trained import train_on_real
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe

NAMES = ("zero", "one", "two")
RECIPE = Recipe(epochs=4, batch_size=16)


def make_context(folder: Path, augmentation: Augmentation | None = None) -> SelectionContext:
    chosen = NoAugmentation() if augmentation is None else augmentation
    return SelectionContext(Problem(NETWORK, SHAPE, CLASSES, chosen), toy_images(40), NAMES, "toy", folder)


def naive_count(presentations: list[bool]) -> int:
    learned = events = 0
    for before, after in zip([False, *presentations], presentations, strict=False):
        learned += after
        events += before and not after
    return events if learned else NEVER_LEARNED


@pytest.mark.parametrize("epochs", [1, 2, 9])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_counts_are_those_of_a_loop(epochs: int, share: float) -> None:
    correct = torch.rand(epochs, 50, generator=generator(0, "correct")) < share
    assert count_events(correct).tolist() == [naive_count(column) for column in correct.T.tolist()]


def test_counts_by_hand() -> None:
    columns = ["0000", "1111", "1010", "0110", "0001", "1000"]
    correct = torch.tensor([[c == "1" for c in column] for column in columns]).T
    assert count_events(correct).tolist() == [NEVER_LEARNED, 0, 2, 1, 0, 1]


@pytest.mark.parametrize("batch_size", [16, 40])
@pytest.mark.parametrize("augmentation", [NoAugmentation(), DSA()], ids=["plain", "augmented"])
def test_predictions_are_those_before_the_update(tmp_path: Path, batch_size: int, augmentation: Augmentation) -> None:
    """A loop that predicts by a pass of its own sees the same, and the same network comes out."""
    context, recipe = make_context(tmp_path, augmentation), Recipe(epochs=3, batch_size=batch_size)
    found = train_on_real(context, 0.05, recipe)
    learner = Learner(toy_module(toy_state()))
    learner.load(initial_state(NETWORK, SHAPE, 3, 0, "selection"))
    batches = recipe.batches(40, 0, "selection")
    correct = torch.zeros(3, 40, dtype=torch.bool)
    for epoch in range(3):
        draws = generator(0, "selection", "augment", epoch)
        for index in range(batches.per_epoch):
            positions = batches[epoch * batches.per_epoch + index]
            batch = context.real.take(positions)
            images = augmentation.apply(batch.images, augmentation.draw(len(batch), SHAPE, draws))
            with torch.no_grad():
                correct[epoch, positions] = learner.network(images).argmax(1) == batch.labels
            learner.step(images, batch.labels, recipe.rate(0.05, epoch), recipe)
    assert torch.equal(found.correct, correct)
    assert 0 < found.correct.float().mean() < 1
    for name, tensor in learner.state().items():
        assert torch.equal(found.state[name], tensor)


def test_the_second_call_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_context(tmp_path)
    counts = forgetting_counts(context, 0.05, RECIPE)
    assert counts.shape == (40,)
    assert counts.dtype == torch.int64
    monkeypatch.setattr(Learner, "train", None)
    assert torch.equal(forgetting_counts(make_context(tmp_path), 0.05, RECIPE), counts)
    with pytest.raises(TypeError):
        forgetting_counts(context, 0.06, RECIPE)


def test_partitions_hold_everything_once() -> None:
    counts = torch.tensor([0, 5, 2, NEVER_LEARNED, 3, 1, 2, 0])
    parts = partitions(counts, [1, 3])
    assert [part.tolist() for part in parts] == [[0, 7], [2, 5, 6], [1, 3, 4]]
    assert [part.tolist() for part in partitions(counts, [])] == [list(range(8))]


def test_equal_edges() -> None:
    counts = torch.tensor([0, 9, NEVER_LEARNED, 4])
    assert equal_edges(counts, 1) == []
    assert equal_edges(counts, 2) == [5]
    assert equal_edges(counts, 5) == [2, 4, 6, 8]
    assert equal_edges(counts, 3) == [4, 7]
    assert equal_edges(torch.tensor([NEVER_LEARNED]), 1) == []
    with pytest.raises(ConfigError, match="at most 10 equal parts, not 11"):
        equal_edges(counts, 11)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([0], "must be above 0 and increase"),
        ([3, 3], "must be above 0 and increase"),
        ([4, 2], "must be above 0 and increase"),
        ([3, 4, 5], r"at least 3 and below 4 \(part 2\)"),
        ([1, 8], r"at least 8 \(part 3\)"),
    ],
)
def test_impossible_edges(edges: list[int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        partitions(torch.tensor([0, 1, 2, 4, 7]), edges)


def test_a_part_without_a_class() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1])
    parts = partitions(torch.tensor([0, 0, 0, 1, 1]), [1])
    require_classes(parts[:1], labels, NAMES)
    with pytest.raises(ConfigError, match="part 2 of 2 by forgetting count has 0 examples of class 'two', and 1 are"):
        require_classes(parts, labels, NAMES)
    with pytest.raises(ConfigError, match=r"part 1 of 1 .*1 examples of class 'zero', and 2 are"):
        require_classes(parts[:1], labels, NAMES, ipc=2)
