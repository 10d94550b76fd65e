"""Derived randomness, and that nothing else touches torch's global generator."""

from collections.abc import Callable

import pytest
import torch
from toys import CLASSES, NETWORK, SHAPE, assert_same, toy_images

from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.networks import build_template
from pdd_lightning.rng import derive_seed, generator, scoped_seed
from pdd_lightning.training.augmentation import DSA
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe


def test_a_derived_seed_is_the_same_for_ever() -> None:
    """Another value would silently make other runs of every configuration."""
    assert derive_seed(0) == 7210762507766007076
    assert derive_seed(0, "stage", 1, "step", 17) == 4923759982646620122


def test_integers_and_strings_are_told_apart() -> None:
    assert derive_seed(0, 1) != derive_seed(0, "1")


def test_keys_do_not_run_together() -> None:
    assert len({derive_seed(0, "ab"), derive_seed(0, "a", "b"), derive_seed(0, "a, b"), derive_seed(0, 1, 2)}) == 4


def test_derived_seeds_suit_torch() -> None:
    seeds = [derive_seed(0, key) for key in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_a_generator_starts_again() -> None:
    first, second = (torch.randn(3, generator=generator(0, "a")) for _ in range(2))
    assert torch.equal(first, second)


def test_scoped_seed_decides_what_layers_draw() -> None:
    with scoped_seed(0, "a"):
        first = torch.randn(3)
    with scoped_seed(0, "a"):
        assert torch.equal(torch.randn(3), first)
    with scoped_seed(0, "b"):
        assert not torch.equal(torch.randn(3), first)


def scoped() -> None:
    with scoped_seed(0, "a"):
        torch.randn(3)


def scoped_failure() -> None:
    with pytest.raises(RuntimeError, match="negative"), scoped_seed(0, "a"):
        torch.cat([torch.randn(3), torch.randn(-1)])


def train() -> None:
    learner = Learner(build_template(NETWORK, SHAPE, CLASSES))
    learner.train(toy_images(10), 0.01, Recipe(epochs=2, batch_size=4), DSA(), 0, "a")


def fill_bank() -> None:
    StateBank.random(Problem(NETWORK, SHAPE, CLASSES, seed=0), 2)


@pytest.mark.parametrize("work", [scoped, scoped_failure, train, fill_bank])
def test_the_global_generator_is_left_alone(work: Callable[[], None]) -> None:
    before = torch.get_rng_state()
    work()
    assert torch.equal(torch.get_rng_state(), before)


def test_states_do_not_depend_on_the_global_generator() -> None:
    banks = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            banks.append(StateBank.random(Problem(NETWORK, SHAPE, CLASSES, seed=0), 1))
    assert_same(banks[0][0], banks[1][0])
