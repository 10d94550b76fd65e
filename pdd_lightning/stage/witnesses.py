"""Fresh networks beside the bank: whether a stage's images serve networks that they were not matched with.

The images of a stage are learned from the states of its bank, and the next bank is made of the same networks, so a set
may come to suit these alone. A few networks that no stage ever matches are trained on the same unions, and compared.
"""

from dataclasses import replace
from typing import Final

from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.errors import ArtifactError
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.subsets import Subset, union_of
from pdd_lightning.stage.transition import Transition, end_identity, make_transition
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.training.problem import Problem

FRESH: Final = "fresh networks"
"""Which training theirs is, for people and for its random numbers."""


def train_witnesses(module: StageModule, subset: Subset) -> Transition | None:
    """Train the witnesses of a stage on from where those of the stage before ended, as its bank is trained.

    Args:
        module: Whose steps are done.
        subset: What they gave.

    Returns:
        Their end states and held-out accuracies, on every rank; None where none are wanted, or nothing is held out.
    """
    options, context = module.options, module.context
    if not options.witnesses or not options.transition or not len(context.validation):
        return None
    subsets = [*module.previous, subset]
    unions = [union_of(subsets[:k]) for k in range(1, len(subsets) + 1)]
    bank, first = fresh_networks(context.problem, options.witnesses), 1
    expected = bank.identity
    for stage, union in enumerate(unions[:-1], start=1):
        assert union is not None
        expected = end_identity(replace(context, stage=stage), expected, union, subsets[stage - 1].rate, options.recipe)
    if len(subsets) > 1 and (left := _read(module, expected)) is not None:
        bank, first = left, len(subsets)
    found: Transition | None = None
    for stage, union in enumerate(unions[first - 1 :], start=first):
        assert union is not None
        found = make_transition(
            replace(context, stage=stage, bank=bank),
            union.to(context.device),
            subsets[stage - 1].rate,
            options.recipe,
            module.folder.transition / f"witnesses_{stage:02d}",
            FRESH,
        )
        bank = found.bank
    return found


def fresh_networks(problem: Problem, count: int) -> StateBank:
    """Networks that no stage matches: the same ones first, however many.

    Args:
        problem: Networks and seed.
        count: How many.
    """
    states = [problem.initial_state("witness", number) for number in range(count)]
    return StateBank.stack(states, fingerprint(["witnesses", StateBank.random_identity(problem)]))


def _read(module: StageModule, identity: str) -> StateBank | None:
    """Those that the stage before left; None where they are missing, fewer or more, or of other subsets."""
    path = module.run.stage(module.stage - 1).witnesses
    try:
        found = StateBank.read(path, module.context.problem.initial_state("shape"))
    except ArtifactError:
        return None  # they are trained again from the beginning, which is dearer and the same
    return found if found.identity == identity and len(found) == module.options.witnesses else None
