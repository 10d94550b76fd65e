"""The transition: start states and a cumulative union in, the next stage's start states out.

Source: PDD (arXiv 2310.06982), section 4.1: theta^(k) is where training from theta^(k-1) on U_k ended.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.errors import ArtifactError
from pdd_lightning.process.signals import Interrupted, are_deferred, heed, pending
from pdd_lightning.process.workers import share_out
from pdd_lightning.progress import Progress
from pdd_lightning.store.digests import digest, fingerprint
from pdd_lightning.store.files import read_tensors, write_tensors
from pdd_lightning.training.learner import Learner, groups, train_together
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages, State

BANK: Final = "transition"
"""Which training that of the bank is, for people and for its random numbers."""


@dataclass(frozen=True)
class Transition:
    """The end states of a stage and how good they are.

    Attributes:
        bank: theta^(k), one state for each member of theta^(k-1).
        accuracies: Of each member, fractions on the held-out training images; empty without any.

    Example:
        >>> from statistics import fmean
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.training.problem import Problem
        >>> bank = StateBank.random(Problem(ConvNet(width=4), (1, 8, 8), num_classes=2), members=2)
        >>> fmean(Transition(bank, accuracies=(0.5, 0.75)).accuracies)
        0.625
    """

    bank: StateBank
    accuracies: tuple[float, ...]


def make_transition(
    context: StageContext,
    union: LabelledImages,
    rate: float,
    recipe: Recipe,
    folder: Path,
    what: str = BANK,
) -> Transition:
    """Train every member of the bank on the union, each rank its share, each member once.

    Finished members wait in `folder`, so an interrupted transition continues.

    Args:
        context: Start states and sources of randomness.
        union: U_k, on the context's device.
        rate: Learning rate alpha_k.
        recipe: How to train.
        folder: Where finished members wait; the caller removes it when the bank is stored.
        what: Which training this is, for people and for its random numbers.

    Returns:
        The bank and its accuracies, on every rank.
    """
    # A stale member, from before the images changed, must never be taken for one of these.
    identity = end_identity(context, context.bank.identity, union, rate, recipe)

    def train(group: Sequence[int]) -> list[tuple[State, float | None]]:
        starts = {member: context.bank[member] for member in group}
        learners = train_members(context, starts, union, rate, recipe, what, len(context.bank))
        held_out = len(context.validation)
        return [(learner.state(), learner.accuracy(context.validation) if held_out else None) for learner in learners]

    done = make_members(context, train, [union], recipe, len(context.bank), identity, folder, what)
    accuracies = tuple(accuracy for _, accuracy in done if accuracy is not None)
    return Transition(StateBank.stack([state for state, _ in done], identity), accuracies)


def make_members(
    context: StageContext,
    train: Callable[[Sequence[int]], list[tuple[State, float | None]]],
    unions: Sequence[LabelledImages],
    recipe: Recipe,
    members: int,
    identity: str,
    folder: Path,
    what: str,
) -> list[tuple[State, float | None]]:
    """Have every member of a bank trained, each rank its share, except those that wait in the folder already.

    Args:
        context: Of the stage.
        train: Trains some members side by side; gives where they ended, and their accuracies.
        unions: What they are trained on.
        recipe: How they are trained.
        members: How many there are.
        identity: Fingerprint of where they end.
        folder: Where finished members wait.
        what: Which training this is, for people.

    Returns:
        State and accuracy of each, on every rank.

    Raises:
        Interrupted: Within the steps of a stage, on every rank, if a signal asked any of them to stop.
    """
    paths = [folder / f"member_{member:04d}.safetensors" for member in range(members)]
    together = groups(
        context.ranks.share(members),
        context.networks_at_once,
        lambda member: _read(paths[member], identity, member) is not None,
    )
    title = f"{context.title}: {what} ({recipe.epochs} epochs each)"
    with Progress(enabled=context.ranks.rank == 0) as progress, progress.task(title, sum(map(len, together))) as task:

        def make(group: Sequence[int], advance: Callable[[int], object]) -> None:
            heed()
            for member, (state, accuracy) in zip(group, train(group), strict=True):
                write_tensors(paths[member], state, _signature(identity, member, accuracy))
            advance(len(group))

        for union in unions if together else ():
            context.compile(recipe, len(union), members)
        with suppress(Interrupted) if are_deferred() else nullcontext():  # the other ranks wait for this one
            share_out(make, together, context.workers, task.advance)
    context.ranks.barrier()
    found = [_read(path, identity, member) for member, path in enumerate(paths)]
    done = [member for member in found if member is not None]
    if len(done) < members and are_deferred():
        raise Interrupted(pending() or "a signal to another process of this run")
    if len(done) < members:
        raise ArtifactError(f"members of the {what} vanished from {folder}; run the same command again")
    return done


def train_members(
    context: StageContext,
    starts: Mapping[int, State],
    union: LabelledImages,
    rate: float,
    recipe: Recipe,
    what: str,
    networks: int,
    watch: Callable[[Sequence[Learner], int], None] | None = None,
) -> list[Learner]:
    """Train some networks of a phase side by side.

    Args:
        context: Of the stage.
        starts: Where each begins, by its number.
        union: U_k, on the context's device.
        rate: Learning rate alpha_k.
        recipe: How to train.
        what: Which training this is, for its random numbers.
        networks: How many are trained in all, which decides whether they are worth compiling.
        watch: Called with them and the number of finished epochs, from 0 on.

    Returns:
        The networks where they ended, in the order of `starts`.
    """
    learners = context.learners(len(starts), recipe, len(union), networks)
    for learner, state in zip(learners, starts.values(), strict=True):
        learner.load(state)
    if watch is not None:
        watch(learners, 0)
    after = None if watch is None else partial(watch, learners)
    keys = [context.keys(what, member) for member in starts]
    train_together(learners, union, rate, recipe, context.augmentation, context.seed, keys, after)
    return learners


def end_identity(context: StageContext, start: str, union: LabelledImages, rate: float, recipe: Recipe) -> str:
    """The identity of the end states of a transition.

    Args:
        context: Of the stage.
        start: Identity of the start states.
        union: U_k.
        rate: Learning rate alpha_k.
        recipe: How they are trained.
    """
    return fingerprint(
        [
            *(start, context.stage, context.seed, rate),
            *(recipe.describe(), context.augmentation.describe()),
            digest(union.images, union.labels),
        ]
    )


def _signature(identity: str, member: int, accuracy: float | None) -> dict[str, str]:
    return {"identity": identity, "member": str(member), "accuracy": repr(accuracy)}


def _read(path: Path, identity: str, member: int) -> tuple[State, float | None] | None:
    """A finished member, or None if it is to be made."""
    try:
        state, metadata = read_tensors(path)
    except ArtifactError:
        return None
    if metadata.get("identity") != identity or metadata.get("member") != str(member):
        return None
    accuracy = metadata.get("accuracy", "None")
    return state, None if accuracy == "None" else float(accuracy)
