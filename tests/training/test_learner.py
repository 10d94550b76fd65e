"""The learner's flat arithmetic against torch's own SGD."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import CLASSES, SHAPE, assert_same, toy_images, toy_module, toy_state

from pdd_lightning.compute.functional import detached
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.training.cutmix import Mix
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.recipe import Batches, Recipe

INSTANCE, BATCH = ConvNet(width=4, depth=2), ConvNet(width=4, depth=2, norm="batch")
DATA = toy_images(10)
RECIPE = Recipe(epochs=4, batch_size=4, momentum=0.9, weight_decay=5e-2)


def learner_of(architecture: ConvNet = INSTANCE, key: int = 0) -> Learner:
    learner = Learner(build_template(architecture, SHAPE, CLASSES))
    learner.load(toy_state(architecture, key=key))
    return learner


def train(
    learner: Learner,
    recipe: Recipe = RECIPE,
    *keys: str,
    rate: float = 0.05,
    augmentation: Augmentation = NoAugmentation(),  # noqa: B008 (immutable)
    after_epoch: Callable[[int], None] | None = None,
) -> Learner:
    learner.train(DATA, rate, recipe, augmentation, 0, *keys, after_epoch=after_epoch)
    return learner


def sgd_by_hand(module: nn.Module, recipe: Recipe, rate: float, augmentation: Augmentation) -> list[dict[str, Tensor]]:
    """The states after every epoch of torch's SGD."""
    optimizer = torch.optim.SGD(
        module.parameters(), lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    batches = Batches(len(DATA), recipe.batch_size, 0, "a", "batches")
    states = []
    for epoch in range(recipe.epochs):
        optimizer.param_groups[0]["lr"] = rate if epoch < recipe.epochs / 2 else rate * recipe.decay
        draws = generator(0, "a", "augment", epoch)
        for index in range(batches.per_epoch):
            batch = DATA.take(batches[epoch * batches.per_epoch + index])
            images = augmentation.apply(batch.images, augmentation.draw(len(batch), SHAPE, draws))
            optimizer.zero_grad()
            F.cross_entropy(module(images), batch.labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        states.append(detached(module.state_dict()))
    return states


@pytest.mark.parametrize("augmentation", [NoAugmentation(), DSA()], ids=["plain", "dsa"])
@pytest.mark.parametrize(
    "recipe",
    [RECIPE, replace(RECIPE, momentum=0.0), replace(RECIPE, weight_decay=0.0), replace(RECIPE, batch_size=100)],
    ids=["momentum+decay", "no-momentum", "no-weight-decay", "whole-set"],
)
@pytest.mark.parametrize("architecture", [INSTANCE, BATCH], ids=["instance", "batch-norm"])
def test_training_is_torchs_sgd(architecture: ConvNet, recipe: Recipe, augmentation: Augmentation) -> None:
    """Parameters and buffers, after every epoch."""
    learner, found = learner_of(architecture), []
    train(learner, recipe, "a", augmentation=augmentation, after_epoch=lambda _: found.append(learner.state()))
    wanted = sgd_by_hand(toy_module(toy_state(architecture), architecture), recipe, 0.05, augmentation)
    assert len(found) == len(wanted) == recipe.epochs
    for mine, naive in zip(found, wanted, strict=True):
        assert_same(mine, naive, tolerance=1e-6)


def test_one_step_returns_the_loss_before_it() -> None:
    module, learner = toy_module(toy_state()), learner_of()
    loss = learner.step(DATA.images, DATA.labels, 0.05, RECIPE)
    torch.testing.assert_close(loss, F.cross_entropy(module(DATA.images), DATA.labels).detach())
    assert not loss.requires_grad


@pytest.mark.parametrize("architecture", [INSTANCE, BATCH], ids=["instance", "batch-norm"])
def test_snapshots_do_not_follow_the_network(architecture: ConvNet) -> None:
    learner = learner_of(architecture)
    state, parameters = learner.state(), learner.parameters()
    copies = detached(state), parameters.clone()
    train(learner)
    assert_same(state, copies[0])
    assert torch.equal(parameters, copies[1])
    assert not torch.equal(learner.parameters(), parameters)


def test_the_vector_and_the_named_state_are_the_same_parameters() -> None:
    learner = train(learner_of())
    assert torch.equal(learner.parameters(), learner.layout.flatten(learner.state()))


class CountingLearner(Learner):
    """Remembers the learning rate and the size of every minibatch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.rates: list[float] = []
        self.sizes: list[int] = []

    def _step(self, images: Tensor, labels: Tensor, mix: Mix | None, rate: float, recipe: Recipe) -> Tensor:
        self.rates.append(rate)
        self.sizes.append(len(labels))
        return super()._step(images, labels, mix, rate, recipe)


@pytest.fixture
def counting() -> CountingLearner:
    return CountingLearner(build_template(INSTANCE, SHAPE, CLASSES))


def test_not_one_step_and_not_one_epoch_too_many(counting: CountingLearner) -> None:
    epochs: list[int] = []
    train(counting, after_epoch=epochs.append)
    assert epochs == [1, 2, 3, 4]
    assert counting.sizes == [4, 4, 2] * 4
    assert len(counting.sizes) == RECIPE.steps(len(DATA))


def test_the_rate_falls_half_way(counting: CountingLearner) -> None:
    train(counting, rate=1e-3)
    assert counting.rates == pytest.approx([1e-3] * 6 + [1e-4] * 6)


def test_the_rate_of_an_odd_number_of_epochs_falls_after_the_middle_one() -> None:
    assert [Recipe(epochs=5).rate(1.0, epoch) for epoch in range(5)] == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_the_rate_can_fall_more_than_once_or_never() -> None:
    assert [Recipe(epochs=4, decay_at=(0.5, 0.75), decay=0.5).rate(1.0, e) for e in range(4)] == [1, 1, 0.5, 0.25]
    assert {Recipe(epochs=4, decay_at=()).rate(1.0, e) for e in range(4)} == {1}


def test_training_is_a_function_of_the_keys() -> None:
    first, again, other = (train(learner_of(), RECIPE, key, augmentation=DSA()).parameters() for key in "aab")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_training_starts_with_fresh_momentum() -> None:
    used, fresh = learner_of(), learner_of(key=1)
    train(used)
    fresh.load(used.state())
    assert torch.equal(train(used).parameters(), train(fresh).parameters())


def test_loading_forgets_the_momentum() -> None:
    used, fresh = train(learner_of()), learner_of()
    used.load(toy_state())
    for learner in (used, fresh):
        learner.step(DATA.images, DATA.labels, 0.05, RECIPE)
    assert torch.equal(used.parameters(), fresh.parameters())


def test_loading_goes_by_name_and_takes_the_buffers_along() -> None:
    state = train(learner_of(BATCH)).state()
    learner = learner_of(BATCH, key=1)
    learner.load(dict(reversed(state.items())))
    assert_same(learner.state(), state)


def test_loading_copies() -> None:
    state = toy_state()
    before = detached(state)
    learner = learner_of()
    learner.load(state)
    train(learner)
    assert_same(state, before)


def test_loading_the_state_of_another_network_fails() -> None:
    with pytest.raises(RuntimeError, match="running_mean"):
        learner_of(INSTANCE).load(toy_state(BATCH))


def test_accuracy_is_measured_in_evaluation_mode_and_leaves_training_mode() -> None:
    learner = train(learner_of(BATCH))
    before = learner.state()
    module = toy_module(before, BATCH).eval()
    wanted = (module(DATA.images).argmax(1) == DATA.labels).double().mean().item()
    assert learner.accuracy(DATA, batch_size=3) == pytest.approx(wanted)
    assert learner.network.training
    assert_same(learner.state(), before)


def test_a_network_learns_the_toys() -> None:
    learner = train(learner_of(), replace(RECIPE, epochs=30, weight_decay=0.0))
    assert learner.accuracy(DATA) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        ({"decay_at": (0.5, 1.0)}, r"decay_at holds fractions of the epochs in \(0, 1\), got \[0.5, 1.0\]"),
    ],
    ids=str,
)
def test_a_recipe_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(**options)
