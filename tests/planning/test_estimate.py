"""The arithmetic of a plan, on costs that are easy to multiply."""

from dataclasses import replace
from typing import Any

import pytest

from pdd_lightning.planning.estimate import Amounts, Line, StageCost, StageWork, side_by_side, stage_lines

COST = StageCost(
    images=10,
    overhead=1,
    state=0.5,
    preparation=5,
    groups=5,
    parts=1,
    step=0.1,
    opening=2,
    checkpoint=0.25,
    epoch=0.01,
    member=0.3,
    finish=4,
    host=1000,
    device=500,
)
WORK = StageWork(fresh=6, members=6, epochs=100, steps=50, checkpoint_every=12, checkpoint_seconds=60)


def seconds(cost: StageCost = COST, **changes: Any) -> dict[str, float]:
    return {line.work: line.seconds for line in stage_lines("stage 1", 7, cost, replace(WORK, **changes))}


def test_every_work_is_counted() -> None:
    assert seconds() == pytest.approx(
        {
            "start": 7 + 1,
            "preparation": 6 * 0.5 + 5,
            "distillation": 2 + 50 * 0.1 + 4 * 0.25,
            "transition": 6 * (0.3 + 100 * 0.01) + 4,
        }
    )


@pytest.mark.parametrize(
    ("changes", "work", "wanted"),
    [
        ({"fresh": 0}, "preparation", 5.0),  # a later stage reads its start states
        ({"reused": True}, "preparation", 3.0),  # experts that another run left
        ({"members": 0}, "transition", 4.0),  # without transition
        ({"shares": 4}, "preparation", 3 + 2),  # two of five groups fall to the busiest process
        ({"workers": 2}, "preparation", 3 + 3),
        ({"shares": 2, "workers": 8}, "preparation", 3 + 1),
        ({"workers": 4}, "transition", 2 * 1.3 + 4),
        ({"shares": 4}, "transition", 2 * 1.3 + 4),  # two of six members fall to the busiest process
        ({"shares": 4}, "distillation", 8.0),  # a single part cannot be shared
        ({"watches": 5, "watched": 3}, "distillation", 8 + 5 * 3 * 1.3),
        ({"watches": 5, "watched": 3, "workers": 2}, "distillation", 8 + 5 * 2 * 1.3),
        ({"watches": 5, "watched": 3, "shares": 2, "workers": 2}, "distillation", 8 + 5 * 1.3),
        ({"renewals": 3}, "distillation", 8 + 3 * 5),  # experts
        ({"renewals": 3, "workers": 2}, "distillation", 8 + 3 * 3),
        ({"renewals": 3, "renewed": 6}, "distillation", 8 + 3 * (5 + 6 * 0.5)),  # start states of a first stage
        ({"renewals": 3, "renewed": 6, "earlier": 0.5}, "distillation", 8 + 3 * (5 + 6 * (0.5 + 0.65))),
        ({"renewals": 3, "renewed": 6, "workers": 4}, "distillation", 8 + 3 * (5 * 2 / 5 + 2 * 0.5)),
    ],
)
def test_each_option_changes_its_work(changes: dict[str, Any], work: str, wanted: float) -> None:
    plain, found = seconds(), seconds(**changes)
    assert found[work] == pytest.approx(wanted)
    if not {"shares", "workers"} & changes.keys():
        assert {name: value for name, value in found.items() if name != work} == {
            name: value for name, value in plain.items() if name != work
        }


@pytest.mark.parametrize(
    ("every", "each", "checkpoints"),
    [
        (10, 60.0, 5),
        (10, 1.0, 5),  # ten steps take a second: the clock never comes first
        (10, 0.25, 5 * (1 + 3)),  # after 2.5 steps, three times in the nine before the next one
        (1000, 1.0, 5),  # by the clock alone
        (40, 1.0, 1 + 3 + 1),
        (10, 0.01, 50),  # never more than one in a step
        (10, float("inf"), 5),
    ],
)
def test_checkpoints_come_by_steps_and_by_the_clock(every: int, each: float, checkpoints: int) -> None:
    found = seconds(checkpoint_every=every, checkpoint_seconds=each)["distillation"]
    assert found == pytest.approx(2 + 50 * 0.1 + checkpoints * 0.25)


def test_the_process_with_most_parts_decides_a_step() -> None:
    assert seconds(replace(COST, parts=10), shares=4)["distillation"] == pytest.approx(2 + 50 * 0.1 * 3 / 10 + 1)


def test_between_two_sizes_costs_lie_on_a_line() -> None:
    last = replace(COST, images=50, step=0.5, host=3000)
    middle = StageCost.between(COST, last, 20)
    assert (middle.images, middle.step, middle.host) == pytest.approx((20, 0.2, 1500))
    assert middle.epoch == COST.epoch
    assert StageCost.between(COST, COST, 10) == COST


def test_totals_add_time_and_take_the_largest_peak() -> None:
    lines = [Line("stage 1", "start", 1.5), Line("stage 1", "distillation", 2.0), Line("evaluation", "random", 4.0)]
    memory: dict[str, dict[str, int | None]] = {
        "stage 1": {"host": 5, "device": None},
        "evaluation": {"host": 8, "device": None},
    }
    amounts = Amounts(lines, memory, {"stage 1": 90, "evaluation": 9})
    assert (amounts.seconds, amounts.peak("host"), amounts.peak("device")) == (7.5, 8, None)
    value = amounts.to_json()
    assert value["total"] == {"seconds": 7.5, "host_bytes": 8, "device_bytes": None, "disk_bytes": 99}
    assert Amounts.from_json(value) == amounts


def test_nobody_waits_for_what_is_done_beside_something_longer() -> None:
    seconds = {"stage 1": 10.0, "stage 2": 20.0, "stage 3": 30.0, "one-stage": 45.0, "evaluation": 5.0}
    lines = [Line(part, "start", each) for part, each in seconds.items()]
    assert side_by_side(lines, ["one-stage"], ["stage 2", "stage 3"]) == 45.0
    assert side_by_side(lines, ["one-stage"], ["stage 3"]) == 30.0
    assert side_by_side(lines, ["one-stage"], []) == 0.0
    amounts = Amounts(lines, {}, {}, spared=45.0)
    assert amounts.seconds == 65.0
    assert Amounts.from_json(amounts.to_json()) == amounts
