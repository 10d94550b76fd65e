"""Other start states for a stage that is being fitted: fresh networks, carried through the stages before it."""

import shutil
from collections.abc import Sequence
from dataclasses import replace

from pdd_lightning.dynamics import StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.stage.subsets import Subset, union_of
from pdd_lightning.stage.transition import end_identity, make_members, train_members
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.types import State


def idle_renewal(options: StageOptions) -> str | None:
    """What is to be said of an option that asks for renewals of which no stage has any; None where one has some.

    Args:
        options: Of the run.
    """
    every = getattr(options.dynamics, "renew_every", None)
    if every is None or any(map(options.dynamics.renewals, options.steps_per_stage)):
        return None
    return (
        f"model.dynamics.renew_every={every} renews nothing in any stage, for model.iterations={options.iterations} "
        "has no more steps: lower it to less than the iterations of a stage"
    )


def renewed_states(options: StageOptions, context: StageContext, previous: Sequence[Subset], number: int) -> StateBank:
    """The start states of a renewal, trained on the earlier unions as the transitions trained those of the bank.

    Those that are finished wait in the stage's folder: an interrupted renewal continues, and so does a stage.

    Args:
        options: Of the run.
        context: Of the stage.
        previous: The subsets of the stages before.
        number: Of the renewal, from 1.

    Returns:
        As many as the bank has, on every rank.

    Raises:
        Interrupted: Within the steps, on every rank, if a signal asked any of them to stop.
    """
    problem, recipe, members = context.problem, options.recipe, options.dynamics.members
    what, seeds = f"start states, renewal {number}", ("renewal", context.stage, number)
    identity = fingerprint(["renewed", StateBank.random_identity(problem), *seeds])

    def fresh(member: int) -> State:
        return problem.initial_state("bank", *seeds, member)

    if not previous or not options.transition:
        return StateBank.stack([fresh(member) for member in range(members)], identity)
    unions = [union.to(context.device) for k in range(len(previous)) if (union := union_of(previous[: k + 1]))]
    phases = [(replace(context, stage=s.stage), union, s.rate) for s, union in zip(previous, unions, strict=True)]
    for phase, union, rate in phases:
        identity = end_identity(phase, identity, union, rate, recipe)

    def train(group: Sequence[int]) -> list[tuple[State, float | None]]:
        states = {member: fresh(member) for member in group}
        for phase, union, rate in phases:
            learners = train_members(phase, states, union, rate, recipe, what, members)
            states = {member: learner.state() for member, learner in zip(group, learners, strict=True)}
        return [(state, None) for state in states.values()]

    folder = options.run.stage(context.stage).renewals
    if context.ranks.rank == 0:
        # The last checkpoint may be of the one before; the one after may be the work of a process that was killed.
        near = {folder / f"bank_{other:04d}" for other in (number - 1, number, number + 1)}
        for path in {*folder.glob("bank_*")} - near:
            shutil.rmtree(path, ignore_errors=True)
    waiting = folder / f"bank_{number:04d}"
    done = make_members(context, train, unions, recipe, members, identity, waiting, what)
    return StateBank.stack([state for state, _ in done], identity)
