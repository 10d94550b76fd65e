"""Networks trained at once become what each becomes alone."""

from typing import Any

import pytest
import torch
from toys import NETWORK, SHAPE, toy_images, toy_state

from pdd_lightning.augment import DSA, NoAugmentation
from pdd_lightning.learning import Learner, Recipe
from pdd_lightning.learning_together import LearnersTogether, can_train_together
from pdd_lightning.networks import Architecture, ConvNet, ResNet, build_template
from pdd_lightning.types import State

DATA = toy_images(11, dtype=torch.float64)
KEYS = [("member", member) for member in range(3)]


def states(architecture: Architecture) -> list[State]:
    return [toy_state(architecture, key=member, dtype=torch.float64) for member in range(3)]


@pytest.mark.parametrize(
    ("architecture", "options", "augmentation"),
    [
        (NETWORK, {"epochs": 4, "momentum": 0.0, "weight_decay": 0.0}, NoAugmentation()),
        (NETWORK, {"epochs": 4, "batch_size": 4}, DSA()),
        (NETWORK, {"epochs": 4, "batch_size": 4, "cutmix": 0.7, "decay_at": (0.5,)}, DSA(one_per_step=False)),
        (ResNet(10, norm="instance"), {"epochs": 1, "batch_size": 6}, NoAugmentation()),
    ],
    ids=["plain", "minibatches", "cutmix", "ResNet"],
)
def test_each_network_becomes_what_it_becomes_alone(
    architecture: Architecture, options: dict[str, Any], augmentation: Any
) -> None:
    recipe = Recipe(**options)
    together = LearnersTogether(build_template(architecture, SHAPE, 3).double())
    together.load(states(architecture))
    seen: list[int] = []
    together.train(DATA, 0.05, recipe, augmentation, 0, KEYS, after_epoch=seen.append)
    assert seen == list(range(1, recipe.epochs + 1))
    for start, found, keys in zip(states(architecture), together.states(), KEYS, strict=True):
        alone = Learner(build_template(architecture, SHAPE, 3).double())
        alone.load(start)
        alone.train(DATA, 0.05, recipe, augmentation, 0, *keys)
        for name, wanted in alone.state().items():
            torch.testing.assert_close(found[name], wanted, rtol=1e-6, atol=1e-8)  # a deep network magnifies rounding
            if name.endswith("weight"):
                assert not torch.equal(wanted, start[name])


def test_momentum_starts_anew() -> None:
    recipe = Recipe(epochs=2, batch_size=4)
    together = LearnersTogether(build_template(NETWORK, SHAPE, 3).double())
    ends = []
    for _ in range(2):
        together.load(states(NETWORK))
        together.train(DATA, 0.05, recipe, NoAugmentation(), 0, KEYS)
        ends.append(together.parameters())
    assert torch.equal(*ends)


def test_networks_with_statistics_are_trained_alone() -> None:
    assert can_train_together(build_template(ConvNet(width=4), SHAPE, 3))
    assert not can_train_together(build_template(ConvNet(width=4, norm="batch"), SHAPE, 3))
