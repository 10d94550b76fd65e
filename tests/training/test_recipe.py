"""Minibatches as a function of the step's number."""

from itertools import chain

import pytest
import torch

from pdd_lightning.training.recipe import Batches


def epoch(batches: Batches, number: int) -> list[list[int]]:
    first = number * batches.per_epoch
    return [batches[step].tolist() for step in range(first, first + batches.per_epoch)]


def test_every_epoch_is_a_permutation() -> None:
    batches = Batches(10, 4, 0)
    for number in range(3):
        assert sorted(chain(*epoch(batches, number))) == list(range(10))


def test_every_epoch_is_another_permutation() -> None:
    batches = Batches(10, 4, 0)
    assert epoch(batches, 0) != epoch(batches, 1)


def test_the_short_minibatch_comes_last() -> None:
    assert [len(batch) for batch in epoch(Batches(10, 4, 0), 1)] == [4, 4, 2]


@pytest.mark.parametrize(("examples", "batch_size", "count"), [(10, 4, 3), (8, 4, 2), (1, 1, 1), (5, 1, 5), (4, 9, 1)])
def test_minibatches_of_an_epoch(examples: int, batch_size: int, count: int) -> None:
    assert Batches(examples, batch_size, 0).per_epoch == count


def test_the_same_step_gives_the_same_examples_in_any_order_of_asking() -> None:
    onward, back = Batches(10, 4, 0, "a"), Batches(10, 4, 0, "a")
    forwards = [onward[step].tolist() for step in range(9)]
    backwards = [back[step].tolist() for step in reversed(range(9))]
    assert forwards == backwards[::-1]


@pytest.mark.parametrize("other", [Batches(10, 4, 1, "a"), Batches(10, 4, 0, "b")], ids=["seed", "keys"])
def test_seed_and_keys_decide(other: Batches) -> None:
    assert epoch(Batches(10, 4, 0, "a"), 0) != epoch(other, 0)


@pytest.mark.parametrize("batch_size", [None, 10, 11])
def test_the_whole_set_comes_in_its_own_order(batch_size: int | None) -> None:
    batches = Batches(10, batch_size, 0)
    assert batches.whole
    assert all(torch.equal(batches[step], torch.arange(10)) for step in range(3))
