"""Fresh networks beside the bank: whether a stage's images serve networks that they were not matched with.

The images of a stage are learned from the states of its bank, and the next bank is made of the same networks, so a set
may come to suit these alone. A few networks that no stage ever matches are trained on the same unions, and compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from pdd_lightning.dynamics import StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.errors import ArtifactError
from pdd_lightning.process.signals import Interrupted, heed, pending
from pdd_lightning.process.workers import share_out
from pdd_lightning.progress import Progress
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.stage.subsets import Subset, union_of
from pdd_lightning.stage.transition import Transition, end_identity, make_transition, train_members
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.training.learner import groups
from pdd_lightning.training.problem import Problem

FRESH: Final = "fresh networks"
"""Which training theirs is, for people and for its random numbers."""


def train_witnesses(
    options: StageOptions, context: StageContext, previous: Sequence[Subset], subset: Subset
) -> Transition | None:
    """Train the witnesses of a stage on from where those of the stage before ended, as its bank is trained.

    Args:
        options: Of the run.
        context: Of the stage, whose steps are done.
        previous: The subsets of the stages before.
        subset: What the steps gave.

    Returns:
        Their end states and held-out accuracies, on every rank; None where none are wanted, or nothing is held out.
    """
    if not options.witnesses or not options.transition or not len(context.validation):
        return None
    return _trained(options, context, [*previous, subset], witness_start(options, context, previous))


def witness_start(options: StageOptions, context: StageContext, previous: Sequence[Subset]) -> StateBank:
    """The witnesses as the stage before left them, fresh ones at stage 1.

    Args:
        options: Of the run.
        context: Of the stage.
        previous: The subsets of the stages before.
    """
    start = fresh_networks(context.problem, options.witnesses)
    expected = start.identity
    for k, subset in enumerate(previous, start=1):
        union = union_of(previous[:k])
        assert union is not None
        expected = end_identity(replace(context, stage=k), expected, union, subset.rate, options.recipe)
    if previous and (left := _read(options, context, expected)) is not None:
        return left
    for k in range(1, len(previous) + 1):
        start = _trained(options, context, previous[:k], start).bank
    return start


def _trained(options: StageOptions, context: StageContext, subsets: Sequence[Subset], start: StateBank) -> Transition:
    """One phase: on the union of these subsets."""
    stage, union = len(subsets), union_of(subsets)
    assert union is not None
    waiting = options.run.stage(context.stage).transition / f"witnesses_{stage:02d}"
    where = replace(context, stage=stage, bank=start)
    return make_transition(where, union.to(context.device), subsets[-1].rate, options.recipe, waiting, FRESH)


def score_witnesses(
    options: StageOptions, context: StageContext, subsets: Sequence[Subset], sums: Callable[[Tensor], Tensor]
) -> list[float]:
    """What :func:`train_witnesses` would find out of a subset that is still being learned; nothing is stored.

    Args:
        options: Of the run.
        context: Of the stage, with the start of the witnesses for a bank.
        subsets: Those of the stages before, and the one that is learned.
        sums: Adds up a tensor over the ranks.

    Returns:
        Held-out accuracy of each witness, the same on every rank.

    Raises:
        Interrupted: On every rank, if a signal asked any of them to stop.
    """
    union, rate, recipe, bank = union_of(subsets), subsets[-1].rate, options.recipe, context.bank
    assert union is not None
    union = union.to(context.device)
    mine = context.ranks.share(len(bank))
    together = groups(mine, context.networks_at_once, lambda _: False)
    with Progress(enabled=context.ranks.rank == 0) as progress, progress.task(FRESH, len(mine)) as task:

        def score(group: Sequence[int], advance: Callable[[int], object]) -> list[float]:
            heed()
            starts = {member: bank[member] for member in group}
            learners = train_members(context, starts, union, rate, recipe, FRESH, len(bank))
            advance(len(group))
            return [learner.accuracy(context.validation) for learner in learners]

        if together:
            context.compile(recipe, len(union), len(bank))
        # The last of them counts the ranks that stopped: the others must not wait for those.
        found = torch.zeros(len(bank) + 1, dtype=torch.float64)
        try:
            scores = share_out(score, together, context.workers, task.advance)
            found[list(mine)] = found.new_tensor([score for group in scores for score in group])
        except Interrupted:
            found[-1] = 1.0
    *accuracies, stopped = sums(found).tolist()
    if stopped:
        raise Interrupted(pending() or "a signal to another process of this run")
    return accuracies


def fresh_networks(problem: Problem, count: int) -> StateBank:
    """Networks that no stage matches: the same ones first, however many.

    Args:
        problem: Networks and seed.
        count: How many.
    """
    states = [problem.initial_state("witness", number) for number in range(count)]
    return StateBank.stack(states, fingerprint(["witnesses", StateBank.random_identity(problem)]))


def _read(options: StageOptions, context: StageContext, identity: str) -> StateBank | None:
    """Those that the stage before left; None where they are missing, fewer or more, or of other subsets."""
    path = options.run.stage(context.stage - 1).witnesses
    try:
        found = StateBank.read(path, context.problem.initial_state("shape"))
    except ArtifactError:
        return None  # they are trained again from the beginning, which is dearer and the same
    return found if found.identity == identity and len(found) == options.witnesses else None
