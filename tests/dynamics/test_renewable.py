"""Start states that are renewed within a stage: when, for whom, and that a stage continues with them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import toy_context, toy_images

from pdd_lightning.dynamics import DynamicTraining, RealTraining, StageContext, StartStates, SyntheticTraining
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.dynamics.evolving import EvolvingNetwork
from pdd_lightning.dynamics.renewable import RenewableBank
from pdd_lightning.errors import ConfigError

UNION = toy_images(9, seed=2)
MAKE: dict[str, Callable[..., RenewableBank]] = {
    "start states": StartStates,
    "real": lambda **options: RealTraining(episode=2, examples=8, **options),
    "synthetic": lambda **options: SyntheticTraining(episode=2, epochs=1, **options),
    "dynamic": lambda **options: DynamicTraining(episode=2, epochs=1, watch=2, query_images=6, **options),
}
every_kind = pytest.mark.parametrize("kind", MAKE)


def other_bank(context: StageContext, number: int) -> StateBank:
    return StateBank.stack([context.problem.initial_state("other", number, m) for m in range(3)], f"other {number}")


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    context = toy_context(tmp_path, members=3, steps=range(40))
    return replace(context, renewed_bank=lambda number: other_bank(context, number))


def renewing(kind: str, **options: Any) -> RenewableBank:
    return MAKE[kind](**{"start_states": 3, "renew_every": 4, **options})


def points(dynamics: RenewableBank, steps: range) -> list[Tensor]:
    found = []
    for step in steps:
        dynamics.renew(step)
        found.append(dynamics.point(step, 0).start)
        dynamics.advance(step, UNION, 0.1)
    return found


def bank_of(context: StageContext, point: Tensor) -> int | None:
    """Number of the renewal that a match point is a start state of."""
    for number in range(10):
        bank = other_bank(context, number) if number else context.bank
        if any(torch.equal(context.network.layout.flatten(bank[member]), point) for member in range(3)):
            return number
    return None


@every_kind
def test_networks_begin_at_the_start_states_of_the_last_renewal(kind: str, context: StageContext) -> None:
    dynamics = renewing(kind)
    dynamics.prepare(context)
    found = points(dynamics, range(12))
    # An episode of the others is two steps, of which the second begins elsewhere.
    beginnings = found if kind == "start states" else found[::2]
    each = len(beginnings) // 3
    assert [bank_of(context, point) for point in beginnings] == [number for number in range(3) for _ in range(each)]


@every_kind
def test_without_the_option_the_bank_stays(kind: str, context: StageContext) -> None:
    dynamics = renewing(kind, renew_every=None)
    dynamics.prepare(replace(context, renewed_bank=None))
    assert {bank_of(context, point) for point in points(dynamics, range(12))[::2]} == {0}
    assert dynamics.renewals(500) == 0


def test_an_episode_that_has_begun_goes_on(context: StageContext) -> None:
    plain, dynamics = (SyntheticTraining(3, episode=6, epochs=1, renew_every=every) for every in (None, 4))
    for each in (plain, dynamics):
        each.prepare(context)
    wanted, found = points(plain, range(7)), points(dynamics, range(7))
    assert all(torch.equal(a, b) for a, b in zip(found[:6], wanted[:6], strict=True))
    assert bank_of(context, found[6]) == 1


@every_kind
@pytest.mark.parametrize("step", [3, 4, 5, 9])
def test_a_stage_that_continues_begins_at_the_same(kind: str, step: int, context: StageContext) -> None:
    whole, second = renewing(kind), renewing(kind)
    whole.prepare(context)
    points(whole, range(step))
    state = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    wanted = points(whole, range(step, 16))
    second.prepare(replace(context, steps=range(step, 40)))
    second.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(points(second, range(step, 16)), wanted, strict=True))


def test_each_renewal_is_asked_for_once(context: StageContext) -> None:
    asked = list[int]()

    def counting(number: int) -> StateBank:
        asked.append(number)
        return other_bank(context, number)

    dynamics = renewing("start states")
    dynamics.prepare(replace(context, renewed_bank=counting))
    points(dynamics, range(12))
    assert asked == [1, 2]
    assert dynamics.renewals(12) == 2
    assert dynamics.renewals(13) == 3


def test_when_all_steps_are_made_no_renewal_follows(context: StageContext) -> None:
    dynamics = renewing("start states")
    dynamics.prepare(replace(context, steps=range(4, 4), renewed_bank=None))
    assert torch.equal(dynamics.bank[0]["head.weight"], context.bank[0]["head.weight"])


@every_kind
def test_a_mistake_is_named_and_the_option_recorded(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"dynamics\.renew_every must be at least 1, got 0"):
        renewing(kind, renew_every=0)
    assert renewing(kind).describe()["renew_every"] == 4


def test_a_class_of_ones_own_keeps_its_bank(context: StageContext) -> None:
    """It need not know of renewals."""

    class Still(EvolvingNetwork):
        def train(self, step: int, synthetic: object, rate: float) -> None:
            pass

    dynamics = Still(start_states=3, episode=2, learning_rate=0.1)
    dynamics.prepare(replace(context, renewed_bank=None))
    assert {bank_of(context, point) for point in points(dynamics, range(8))} == {0}
