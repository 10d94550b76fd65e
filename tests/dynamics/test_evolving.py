"""Dynamics whose network is in training: what it is trained on, where it begins, and that it continues bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from toys import NETWORK, SHAPE, toy_context, toy_images, toy_module

from pdd_lightning.compute.functional import Layout
from pdd_lightning.dynamics import RealTraining, StageContext, StartStates, SyntheticTraining
from pdd_lightning.dynamics.evolving import EvolvingNetwork
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.training.recipe import Batches
from pdd_lightning.types import LabelledImages

OPTIONS: dict[str, Any] = {"start_states": 3, "episode": 4, "batch_size": 4, "learning_rate": 0.05}
UNION = toy_images(9, seed=2)

Make = Callable[..., EvolvingNetwork]


def real(**options: Any) -> EvolvingNetwork:
    return RealTraining(**{**OPTIONS, "examples": 10, **options})


def synthetic(**options: Any) -> EvolvingNetwork:
    return SyntheticTraining(**{**OPTIONS, "epochs": 2, **options})


both = pytest.mark.parametrize("make", [real, synthetic])


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    return toy_context(tmp_path, members=3)


def prepared(dynamics: EvolvingNetwork, context: StageContext) -> EvolvingNetwork:
    dynamics.prepare(context)
    return dynamics


def states(dynamics: EvolvingNetwork, steps: range) -> list[Tensor]:
    """The match points of some steps, one after another."""
    found = []
    for step in steps:
        found.append(dynamics.point(step, 0).start)
        dynamics.advance(step, UNION, 0.1)
    return found


def member_at(context: StageContext, point: Tensor) -> int | None:
    flat = [context.network.layout.flatten(context.bank[member]) for member in range(len(context.bank))]
    return next((member for member, start in enumerate(flat) if torch.equal(start, point)), None)


# Where episodes begin


@both
def test_every_episode_begins_at_a_member_of_the_bank_and_leaves_it(make: Make, context: StageContext) -> None:
    found = [member_at(context, point) for point in states(prepared(make(), context), range(48))]
    beginnings = found[::4]
    assert set(beginnings) == {0, 1, 2}
    assert [member for step, member in enumerate(found) if step % 4] == [None] * 36


@both
def test_an_episode_does_not_depend_on_the_one_before(make: Make, context: StageContext) -> None:
    alone, later = prepared(make(), context), prepared(make(), context)
    onward = states(later, range(8))[4:]
    assert all(torch.equal(a, b) for a, b in zip(states(alone, range(4, 8)), onward, strict=True))


@both
def test_episodes_from_the_same_member_differ(make: Make, context: StageContext) -> None:
    """Their networks see other minibatches."""
    one = replace(context, bank=type(context.bank).stack([context.bank[0]], "one"))
    found = states(prepared(make(), one), range(8))
    assert torch.equal(found[0], found[4])
    assert not torch.equal(found[1], found[5])


@both
def test_the_match_points_of_a_step_are_the_same_state(make: Make, context: StageContext) -> None:
    dynamics = prepared(make(), context)
    states(dynamics, range(2))
    assert torch.equal(dynamics.point(2, 0).start, dynamics.point(2, 1).start)


@both
def test_a_match_point_is_a_copy(make: Make, context: StageContext) -> None:
    dynamics = prepared(make(), context)
    point = dynamics.point(0, 0)
    kept = point.start.clone()
    dynamics.advance(0, UNION, 0.1)
    assert torch.equal(point.start, kept)


@both
def test_nothing_is_trained_at_the_end_of_an_episode(make: Make, context: StageContext) -> None:
    """Whatever it became, nobody would look at it."""
    dynamics = prepared(make(episode=1), context)
    before = dynamics.point(0, 0).start
    dynamics.advance(0, UNION, 0.1)
    assert torch.equal(dynamics.learner.parameters(), before)


# What training does


def by_hand(
    context: StageContext,
    data: LabelledImages,
    augmentation: Augmentation,
    purpose: str,
    steps: int,
    momentum: float,
    weight_decay: float,
) -> list[Tensor]:
    """Match points of an episode of four, by torch's SGD."""
    member = int(torch.randint(len(context.bank), (), generator=generator(0, "stage", 1, "episode", 0)))
    module = toy_module(context.bank[member])
    layout = Layout.of(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=momentum, weight_decay=weight_decay)
    keys = ("stage", 1, purpose, 0)
    batches = Batches(len(data), 4, 0, *keys, "batches")
    points = [layout.flatten(module.state_dict())]
    for step in range(3 * steps):
        batch = data.take(batches[step])
        drawn = augmentation.draw(len(batch), SHAPE, generator(0, *keys, "augment step", step))
        optimizer.zero_grad()
        F.cross_entropy(module(augmentation.apply(batch.images, drawn)), batch.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % steps == 0:
            points.append(layout.flatten(module.state_dict()))
    return points


@pytest.mark.parametrize("augmentation", [NoAugmentation(), DSA()], ids=["plain", "dsa"])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 5e-4)])
@both
def test_an_episode_is_torchs_sgd(
    make: Make, momentum: float, weight_decay: float, augmentation: Augmentation, tmp_path: Path
) -> None:
    context = toy_context(tmp_path, members=3, augmentation=augmentation)
    found = states(prepared(make(momentum=momentum, weight_decay=weight_decay), context), range(4))
    # Ten real examples are three minibatches of four; two epochs of nine synthetic images are six.
    data, purpose, steps = (context.real, "real", 3) if make is real else (UNION, "synthetic", 6)
    wanted = by_hand(context, data, augmentation, f"{purpose} training", steps, momentum, weight_decay)
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=1e-6, atol=1e-6)


def test_real_training_can_have_an_augmentation_of_its_own(tmp_path: Path) -> None:
    plain, augmented = toy_context(tmp_path), toy_context(tmp_path, augmentation=DSA())
    found = states(prepared(real(augmentation=NoAugmentation()), augmented), range(3))
    wanted = states(prepared(real(), plain), range(3))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_real_training_does_not_see_synthetic_images_and_synthetic_training_no_real_ones(context: StageContext) -> None:
    other = replace(context, real=toy_images(10, seed=7))
    for make, same in ((real, False), (synthetic, True)):
        a, b = (states(prepared(make(), c), range(2))[1] for c in (context, other))
        assert torch.equal(a, b) == same


@pytest.mark.parametrize(
    ("examples", "batch_size", "steps"),
    [(1, 4, 1), (4, 4, 1), (5, 4, 2), (10, 4, 3), (3, 100, 1), (10, 100, 1), (25, 100, 3)],
)
def test_examples_are_rounded_up_to_whole_minibatches(
    examples: int, batch_size: int, steps: int, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ten images of the data are one minibatch, where the batch size is larger."""
    dynamics = prepared(real(examples=examples, batch_size=batch_size), context)
    sizes: list[int] = []
    step_of = dynamics.learner.step

    def counting(images: Tensor, *args: Any) -> Tensor:
        sizes.append(len(images))
        return step_of(images, *args)

    monkeypatch.setattr(dynamics.learner, "step", counting)
    states(dynamics, range(3))
    assert len(sizes) == 3 * steps
    assert min(batch_size, 10) in sizes


def test_minibatches_of_real_data_go_on_from_step_to_step(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of six examples in minibatches of three show each of twelve images once."""
    context = replace(context, real=toy_images(12))
    dynamics = prepared(real(examples=6, batch_size=3), context)
    shown: list[Tensor] = []
    step_of = dynamics.learner.step

    def noting(images: Tensor, *args: Any) -> Tensor:
        shown.append(images)
        return step_of(images, *args)

    monkeypatch.setattr(dynamics.learner, "step", noting)
    states(dynamics, range(2))
    assert len(torch.unique(torch.cat(shown), dim=0)) == 12


# Continuing


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("done", [1, 3, 4, 6])
@both
def test_it_continues_bit_for_bit(make: Make, done: int, norm: Any, tmp_path: Path) -> None:
    context = toy_context(tmp_path, architecture=replace(NETWORK, norm=norm), members=3)
    straight = states(prepared(make(), context), range(10))
    interrupted = prepared(make(), context)
    states(interrupted, range(done))
    kept = {name: tensor.clone() for name, tensor in interrupted.state_dict().items()}
    states(interrupted, range(done, 10))  # what happens afterwards must not reach into what was kept
    continued = prepared(make(), context)
    continued.load_state_dict(kept)
    onward = states(continued, range(done, 10))
    assert all(torch.equal(a, b) for a, b in zip(onward, straight[done:], strict=True))


@both
def test_what_is_kept_is_a_copy(make: Make, context: StageContext) -> None:
    dynamics = prepared(make(), context)
    states(dynamics, range(2))
    kept = dynamics.state_dict()
    before = {name: tensor.clone() for name, tensor in kept.items()}
    states(dynamics, range(2, 3))
    assert all(torch.equal(kept[name], before[name]) for name in before)


# Start states


def test_start_states_are_drawn_by_counter(context: StageContext) -> None:
    dynamics = StartStates(start_states=3)
    dynamics.prepare(context)
    found = [member_at(context, dynamics.point(step, index).start) for step in range(20) for index in range(2)]
    again = [member_at(context, dynamics.point(step, index).start) for step in range(20) for index in range(2)]
    assert set(found) == {0, 1, 2}
    assert found == again


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_states": 0}, "dynamics.start_states must be at least 1, got 0"),
        ({"episode": 0}, "dynamics.episode must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "dynamics.learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "dynamics.learning_rate must be positive and finite, got nan"),
        ({"learning_rate": float("inf")}, "dynamics.learning_rate must be positive and finite, got inf"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"momentum": 1.0}, "momentum must be in"),
    ],
    ids=str,
)
@both
def test_options_that_make_no_sense_are_refused(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_options_of_one_dynamics_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dynamics.examples must be at least 1, got 0"):
        real(examples=0)
    with pytest.raises(ConfigError, match="epochs must be at least 1, got 0"):
        synthetic(epochs=0)
    with pytest.raises(ConfigError, match=r"dynamics.start_states must be at least 1, got 0"):
        StartStates(start_states=0)


@both
def test_a_network_that_diverges_is_named(make: Make, context: StageContext) -> None:
    dynamics = prepared(make(learning_rate=1e30), context)
    with pytest.raises(ConfigError, match=r"dynamics.learning_rate=1e\+30: the network diverged .* of stage 1; lower"):
        states(dynamics, range(3))


@both
def test_every_option_is_a_setting(make: Make) -> None:
    own: list[dict[str, Any]] = (
        [{"examples": 7}, {"augmentation": DSA()}, {"augmentation": NoAugmentation()}]
        if make is real
        else [{"epochs": 7}]
    )
    common: list[dict[str, Any]] = [
        {"start_states": 9},
        {"episode": 9},
        {"batch_size": 9},
        {"learning_rate": 9.0},
        {"momentum": 0.1},
        {"weight_decay": 0.1},
    ]
    described = [make(**change).describe() for change in [{}, *common, *own]]
    assert all(a != b for i, a in enumerate(described) for b in described[:i])
