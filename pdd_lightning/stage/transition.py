"""The transition: start states and a cumulative union in, the next stage's start states out.

Source: PDD (arXiv 2310.06982), section 4.1: theta^(k) is where training from theta^(k-1) on U_k ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.errors import ArtifactError
from pdd_lightning.process.workers import share_out
from pdd_lightning.progress import Progress
from pdd_lightning.store.digests import digest, fingerprint
from pdd_lightning.store.files import read_tensors, write_tensors
from pdd_lightning.training.learner import Learner, groups, train_together
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages, State


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
    what: str = "transition",
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
    paths = [folder / f"member_{member:04d}.safetensors" for member in range(len(context.bank))]
    together = groups(
        context.ranks.share(len(paths)),
        context.networks_at_once,
        lambda member: _read(paths[member], identity, member) is not None,
    )
    title = f"{context.title}: {what} ({recipe.epochs} epochs each)"
    with Progress(enabled=context.ranks.rank == 0) as progress, progress.task(title, sum(map(len, together))) as task:

        def train(group: Sequence[int], advance: Callable[[int], object]) -> None:
            learners = train_members(context, group, union, rate, recipe, what)
            for learner, member in zip(learners, group, strict=True):
                accuracy = learner.accuracy(context.validation) if len(context.validation) else None
                write_tensors(paths[member], learner.state(), _signature(identity, member, accuracy))
            advance(len(group))

        if together:
            context.compile(recipe, len(union), len(context.bank))
        share_out(train, together, context.workers, task.advance)
    context.ranks.barrier()
    members = [_read(path, identity, member) for member, path in enumerate(paths)]
    if any(member is None for member in members):
        raise ArtifactError(f"members of the {what} vanished from {folder}; run the same command again")
    done = [member for member in members if member is not None]
    accuracies = tuple(accuracy for _, accuracy in done if accuracy is not None)
    return Transition(StateBank.stack([state for state, _ in done], identity), accuracies)


def train_members(
    context: StageContext, group: Sequence[int], union: LabelledImages, rate: float, recipe: Recipe, what: str
) -> list[Learner]:
    """Train some members of the bank on the union, side by side.

    Args:
        context: Start states and sources of randomness.
        group: Their numbers.
        union: U_k, on the context's device.
        rate: Learning rate alpha_k.
        recipe: How to train.
        what: Which training this is, for its random numbers.
    """
    learners = context.learners(len(group), recipe, len(union), len(context.bank))
    for learner, member in zip(learners, group, strict=True):
        learner.load(context.bank[member])
    keys = [context.keys(what, member) for member in group]
    train_together(learners, union, rate, recipe, context.augmentation, context.seed, keys)
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
