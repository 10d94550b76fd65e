"""Experts that are trained anew within a stage: which, from where, and that no interruption changes them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchs_sgd import by_hand
from toys import toy_context

from pdd_lightning.dynamics import ExpertTrajectories, Ranks, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.process import signals
from pdd_lightning.process.signals import Interrupted
from pdd_lightning.store.files import read_tensors, write_tensors
from pdd_lightning.training.augmentation import DSA
from pdd_lightning.training.learner import train_together

OPTIONS: dict[str, Any] = {"experts": 2, "epochs": 1, "max_start_epoch": 2, "learning_rate": 0.05, "batch_size": 4}


def renewing(**options: Any) -> ExpertTrajectories:
    return ExpertTrajectories(**{**OPTIONS, "start_states": 3, "renew_every": 10, **options})


def context_in(folder: Path, **changes: Any) -> StageContext:
    values: dict[str, Any] = {"members": 3, "augmentation": DSA(), "steps": range(60), "renewals": folder / "renewals"}
    return toy_context(folder, **{**values, **changes})


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    return context_in(tmp_path)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the random numbers of every expert are named after that is trained from here on."""
    found: list[tuple[object, ...]] = []

    def counting(*args: Any, **kwargs: Any) -> None:
        found.extend(keys[3:] for keys in args[6])
        train_together(*args, **kwargs)

    monkeypatch.setattr("pdd_lightning.dynamics.experts.train_together", counting)
    return found


def points(dynamics: ExpertTrajectories, steps: range) -> list[Tensor]:
    found = []
    for step in steps:
        dynamics.renew(step)
        point = dynamics.point(step, 0)
        assert point.target is not None
        found.append(torch.stack([point.start, point.target]))
    return found


def renewed(context: StageContext) -> list[str]:
    assert context.renewals is not None
    return sorted(path.name for path in context.renewals.glob("*/expert_*"))


def starts(dynamics: ExpertTrajectories, context: StageContext) -> list[int]:
    """The members of the bank at which the present experts begin."""
    flat = [context.network.layout.flatten(context.bank[member]) for member in range(len(context.bank))]
    return [
        next(member for member, state in enumerate(flat) if torch.equal(state, dynamics._row(expert, 0)))
        for expert in range(dynamics.experts)
    ]


# Which experts a step is matched with


def test_experts_begin_at_the_next_members_of_the_bank(context: StageContext) -> None:
    dynamics, found = renewing(), []
    dynamics.prepare(context)
    for step in range(0, 60, 10):
        dynamics.renew(step)
        found.append(starts(dynamics, context))
    assert found == [[0, 1], [2, 0], [1, 2], [0, 1], [2, 0], [1, 2]]
    assert dynamics.members == 3


def test_within_a_round_nothing_is_trained(context: StageContext, trained: list[object]) -> None:
    dynamics = renewing()
    dynamics.prepare(context)
    points(dynamics, range(10))
    assert len(trained) == 2
    points(dynamics, range(10, 20))
    assert len(trained) == 4


def test_renewed_experts_are_those_of_torchs_sgd(context: StageContext) -> None:
    dynamics = renewing()
    dynamics.prepare(context)
    for step, wanted in ((10, [(2, 0), (0, 1)]), (20, [(1, 1), (2, 1)]), (30, [(0, 2), (1, 2)])):
        dynamics.renew(step)
        for expert, (member, turn) in enumerate(wanted):
            found = torch.stack([dynamics._row(expert, epoch) for epoch in range(4)])
            torch.testing.assert_close(found, torch.stack(by_hand(context, member, 3, turn=turn)), rtol=1e-6, atol=1e-6)


def test_the_same_start_states_see_the_data_in_another_order(tmp_path: Path) -> None:
    context, dynamics = context_in(tmp_path, members=2), renewing(start_states=None)
    dynamics.prepare(context)
    before = [dynamics._row(expert, 1) for expert in range(2)]
    dynamics.renew(10)
    assert starts(dynamics, context) == [0, 1]
    assert all(not torch.equal(dynamics._row(expert, 1), row) for expert, row in enumerate(before))


def test_the_first_experts_are_those_of_a_run_without_renewals(tmp_path: Path, trained: list[object]) -> None:
    """They lie where such a run finds them, whatever the size of its bank."""
    context = context_in(tmp_path)
    renewing().prepare(context)
    ExpertTrajectories(**OPTIONS).prepare(replace(context, renewals=None))
    assert len(trained) == 2
    assert renewed(context) == []


# What is kept


def test_two_rounds_are_kept_at_most(context: StageContext) -> None:
    dynamics, most = renewing(), 0
    dynamics.prepare(context)
    for step in range(0, 60, 10):
        dynamics.renew(step)
        most = max(most, len(renewed(context)))
    assert most == 4
    turns = ["0000_0003", "0001_0003", "0002_0002", "0002_0003"]
    assert renewed(context) == [f"expert_{name}.safetensors" for name in turns]
    each = sum(path.stat().st_size for path in context.experts.glob("*/expert_*"))
    preparation = dynamics.preparation(context)
    assert preparation.passing == 2 * preparation.stored
    assert preparation.stored < each < 1.5 * preparation.stored  # headers are as long as these networks


@pytest.mark.parametrize(("steps", "rounds"), [(10, 0), (11, 1), (20, 1), (21, 2), (500, 2)])
def test_a_plan_is_told_of_what_passes(steps: int, rounds: int, tmp_path: Path) -> None:
    preparation = renewing().preparation(context_in(tmp_path, steps=range(steps)))
    assert preparation.passing == rounds * preparation.stored
    assert renewing().renewals(steps) == (steps - 1) // 10


# Interrupted and continued


@pytest.mark.parametrize("step", [4, 10, 17, 29, 30])
def test_a_stage_that_continues_is_matched_with_the_same(step: int, tmp_path: Path) -> None:
    whole = renewing()
    whole.prepare(context_in(tmp_path / "whole"))
    wanted = points(whole, range(35))
    first, second = renewing(), renewing()
    first.prepare(context_in(tmp_path))
    points(first, range(step))
    second.prepare(context_in(tmp_path, steps=range(step, 60)))
    found = points(second, range(step, 35))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted[step:], strict=True))


def test_a_stage_that_goes_back_over_a_renewal_finds_both_rounds(tmp_path: Path, trained: list[object]) -> None:
    """As from the last checkpoint, after the process was killed."""
    first = renewing()
    first.prepare(context_in(tmp_path))
    points(first, range(31))
    before = len(trained)
    second = renewing()
    second.prepare(context_in(tmp_path, steps=range(25, 60)))
    points(second, range(25, 40))
    assert len(trained) == before


def test_a_killed_renewal_goes_on_where_it_was(
    tmp_path: Path, trained: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, first, written = context_in(tmp_path), renewing(), list[Path]()
    first.prepare(context)
    points(first, range(10))

    def dies(path: Path, *rest: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write_tensors(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("pdd_lightning.dynamics.experts.write_tensors", dies)
        with pytest.raises(KeyboardInterrupt):
            first.renew(10)
    trained.clear()
    second = renewing()
    second.prepare(replace(context, steps=range(7, 60)))
    points(second, range(7, 20))
    assert trained == [(0, "turn", 1)]


def test_when_all_steps_are_made_no_round_follows(tmp_path: Path, trained: list[object]) -> None:
    dynamics = renewing()
    dynamics.prepare(context_in(tmp_path, steps=range(20, 20)))
    assert trained == [(2,), (0, "turn", 1)]


@pytest.fixture
def no_signal() -> Iterator[None]:
    yield
    signals._inbox.name = None


def test_a_signal_waits_for_one_expert_and_the_other_comes_later(
    context: StageContext, trained: list[object], no_signal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamics = renewing()
    dynamics.prepare(context)
    trained.clear()
    counting = dynamics._train

    def asked(*args: Any) -> Any:
        signals._inbox.name = "SIGTERM"
        return counting(*args)

    monkeypatch.setattr(dynamics, "_train", asked)
    with pytest.raises(Interrupted, match="SIGTERM"):
        dynamics.renew(10)
    assert trained == [(2,)]
    signals._inbox.name = None
    monkeypatch.undo()
    dynamics.renew(10)
    assert starts(dynamics, context) == [2, 0]


# Who makes them


def test_two_ranks_renew_together_what_one_renews_alone(tmp_path: Path) -> None:
    alone = renewing()
    alone.prepare(context_in(tmp_path / "alone"))
    shared = context_in(tmp_path)
    dynamics = [renewing(), renewing()]
    for each in dynamics:
        each.prepare(shared)
    dynamics[1]._context = replace(shared, ranks=Ranks(1, 2))
    # While rank 0 waits at the barrier, rank 1 does its share.
    dynamics[0]._context = replace(shared, ranks=Ranks(0, 2, lambda: dynamics[1].renew(10)))
    wanted = points(alone, range(10, 14))
    for each in dynamics:
        assert all(torch.equal(a, b) for a, b in zip(points(each, range(10, 14)), wanted, strict=True))


def test_a_signal_to_one_rank_ends_the_renewal_of_all(context: StageContext, no_signal: None) -> None:
    """Those that wait for it must not wait for ever, or go on without its experts."""
    asked, other = renewing(), renewing()
    for each in (asked, other):
        each.prepare(context)
    asked._context = replace(context, ranks=Ranks(1, 2))

    def come() -> None:
        signals._inbox.name = "SIGTERM"
        with pytest.raises(Interrupted):
            asked.renew(10)
        signals._inbox.name = None

    other._context = replace(context, ranks=Ranks(0, 2, come))
    with pytest.raises(Interrupted, match="another process"):
        other.renew(10)
    other._context = replace(context, ranks=Ranks(0, 2, lambda: asked.renew(10)))
    other.renew(10)
    assert starts(asked, context) == starts(other, context) == [2, 0]


def test_workers_renew_together_what_one_process_renews(tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        context, dynamics = context_in(tmp_path / str(workers), workers=workers), renewing()
        dynamics.prepare(context)
        dynamics.renew(10)
        assert context.renewals is not None
        found.append([read_tensors(path)[0]["rows"] for path in sorted(context.renewals.glob("*/expert_*"))])
    assert len(found[0]) == 2
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_states": 1}, "dynamics.start_states=1 are too few for experts=2.*raise start_states"),
        ({"renew_every": None}, "dynamics.start_states=3 are more than experts=2.*set dynamics.renew_every"),
        ({"renew_every": 0}, "dynamics.renew_every must be at least 1, got 0"),
        ({"start_states": 0}, "dynamics.start_states must be at least 1, got 0"),
    ],
    ids=str,
)
def test_a_mistake_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        renewing(**options)


def test_what_is_renewed_is_recorded() -> None:
    found = renewing().describe()
    assert (found["start_states"], found["renew_every"]) == (3, 10)
