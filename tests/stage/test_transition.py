"""The transition between stages."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import CLASSES, SHAPE, assert_same, toy_context, toy_images

from pdd_lightning.dynamics import Ranks, StageContext
from pdd_lightning.errors import ArtifactError
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.stage.transition import BANK, Transition, make_transition, train_members
from pdd_lightning.training.augmentation import DSA
from pdd_lightning.training.learner import Learner, train_together
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages

BATCH_NORM = ConvNet(width=4, depth=2, norm="batch")
UNION = toy_images(6, seed=5)
RECIPE = Recipe(epochs=3, batch_size=4)


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    return toy_context(tmp_path, architecture=BATCH_NORM, members=3, augmentation=DSA())


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The number of every member that is trained from here on."""
    members: list[object] = []

    def counting(*args: Any, **kwargs: Any) -> None:
        members.extend(keys[-1] for keys in args[6])
        train_together(*args, **kwargs)

    monkeypatch.setattr("pdd_lightning.stage.transition.train_together", counting)
    return members


def transition(context: StageContext, folder: Path, union: LabelledImages = UNION, rate: float = 0.05) -> Transition:
    return make_transition(context, union, rate, RECIPE, folder)


def assert_same_banks(found: Transition, wanted: Transition) -> None:
    assert len(found.bank) == len(wanted.bank)
    for member in range(len(wanted.bank)):
        assert_same(found.bank[member], wanted.bank[member])
    assert found.bank.identity == wanted.bank.identity
    assert found.accuracies == wanted.accuracies


def test_every_member_is_trained_on_the_union_from_its_own_state(context: StageContext, tmp_path: Path) -> None:
    made = transition(context, tmp_path / "members")
    for member in range(3):
        learner = Learner(build_template(BATCH_NORM, SHAPE, CLASSES))
        learner.load(context.bank[member])
        learner.train(UNION, 0.05, RECIPE, DSA(), 0, "stage", 1, "transition", member)
        assert_same(made.bank[member], learner.state())
        assert made.accuracies[member] == learner.accuracy(context.validation)


def test_looking_at_members_on_the_way_changes_nothing(context: StageContext, tmp_path: Path) -> None:
    seen: list[tuple[int, list[float]]] = []

    def watch(learners: Sequence[Learner], epoch: int) -> None:
        seen.append((epoch, [learner.accuracy(context.validation) for learner in learners]))

    starts = {member: context.bank[member] for member in (2, 0)}
    ended = train_members(context, starts, UNION, 0.05, RECIPE, BANK, 3, watch)
    made = transition(context, tmp_path / "members")
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3]
    assert seen[-1][1] == [made.accuracies[member] for member in starts]
    for learner, member in zip(ended, starts, strict=True):
        assert_same(learner.state(), made.bank[member])


def test_without_held_out_images_there_are_no_accuracies(context: StageContext, tmp_path: Path) -> None:
    nothing = context.validation.take(torch.arange(0))
    assert transition(replace(context, validation=nothing), tmp_path).accuracies == ()


def test_an_interrupted_transition_continues(context: StageContext, tmp_path: Path, loaded: list[object]) -> None:
    whole = transition(context, tmp_path)
    (tmp_path / "member_0001.safetensors").unlink()
    loaded.clear()
    continued = transition(context, tmp_path)
    assert loaded == [1]
    assert_same_banks(continued, whole)


def test_a_damaged_member_is_made_again(context: StageContext, tmp_path: Path, loaded: list[object]) -> None:
    whole = transition(context, tmp_path)
    path = tmp_path / "member_0002.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    loaded.clear()
    continued = transition(context, tmp_path)
    assert loaded == [2]
    assert_same_banks(continued, whole)


def test_members_of_other_images_are_not_used(context: StageContext, tmp_path: Path, loaded: list[object]) -> None:
    transition(context, tmp_path / "stale")
    other = toy_images(6, seed=6)
    loaded.clear()
    made = transition(context, tmp_path / "stale", other)
    assert loaded == [0, 1, 2]
    assert_same_banks(made, transition(context, tmp_path / "fresh", other))


def test_a_small_change_of_one_pixel_is_another_union(context: StageContext, tmp_path: Path) -> None:
    images = UNION.images.clone()
    images[3, 0, 2, 2] += 1e-3
    before, after = (transition(context, tmp_path, union) for union in (UNION, replace(UNION, images=images)))
    assert before.bank.identity != after.bank.identity


def test_members_of_another_rate_are_not_used(context: StageContext, tmp_path: Path, loaded: list[object]) -> None:
    transition(context, tmp_path)
    loaded.clear()
    transition(context, tmp_path, rate=0.04)
    assert loaded == [0, 1, 2]


def test_two_ranks_share_the_work(context: StageContext, tmp_path: Path, loaded: list[object]) -> None:
    alone = transition(context, tmp_path / "alone")
    loaded.clear()
    second: list[Transition] = []

    def barrier() -> None:
        """While rank 0 waits here, rank 1 does its share."""
        second.append(transition(replace(context, ranks=Ranks(1, 2)), tmp_path / "shared"))

    first = transition(replace(context, ranks=Ranks(0, 2, barrier)), tmp_path / "shared")
    assert loaded == [0, 2, 1]
    assert_same_banks(first, alone)
    assert_same_banks(second[0], alone)


def test_members_that_vanish_are_an_error(context: StageContext, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"vanished from {tmp_path}; run the same command again"):
        transition(replace(context, ranks=Ranks(0, 2)), tmp_path)


@pytest.mark.parametrize("architecture", [ConvNet(width=4, depth=2), BATCH_NORM], ids=["instance", "batch norm"])
def test_members_trained_at_once_are_those_trained_alone(architecture: ConvNet, tmp_path: Path) -> None:
    alone = toy_context(tmp_path, architecture=architecture, members=3, augmentation=DSA())
    wanted = transition(alone, tmp_path / "alone")
    found = transition(replace(alone, networks_at_once=2), tmp_path / "together")
    assert found.bank.identity == wanted.bank.identity
    for member in range(3):
        assert_same(found.bank[member], wanted.bank[member], 0.0)
