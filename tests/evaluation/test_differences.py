"""Which set is ahead of which, against the textbook's tests."""

from dataclasses import replace

import pytest
from scipy import stats

from pdd_lightning.evaluation.differences import compared, difference, difference_lines
from pdd_lightning.evaluation.report import markdown_section
from pdd_lightning.evaluation.row import Row
from pdd_lightning.types import Json

MINE = (0.961, 0.958, 0.972, 0.955, 0.966)
THEIRS = (0.941, 0.955, 0.950, 0.948, 0.953)
BASE = Row("one-stage", "union", "ConvNet", None, 3, THEIRS, 30, 450, 100, (0.1,))
PDD = Row("pdd", "progressive", "ConvNet", 3, 3, MINE, 30, 450, 100, (0.1, 0.1, 0.1))


def test_pairs_give_the_interval_of_the_paired_t_test() -> None:
    found = difference(PDD, BASE)
    wanted = stats.ttest_rel(MINE, THEIRS).confidence_interval(0.95)
    assert found is not None
    assert found.paired
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_other_numbers_of_networks_give_the_interval_of_welch() -> None:
    found = difference(PDD, replace(BASE, accuracies=THEIRS[:3]))
    wanted = stats.ttest_ind(MINE, THEIRS[:3], equal_var=False).confidence_interval(0.95)
    assert found is not None
    assert not found.paired
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_networks_that_are_no_pairs_are_compared_by_welch_too() -> None:
    wanted = stats.ttest_ind(MINE, THEIRS, equal_var=False).confidence_interval(0.95)
    found = compared(MINE, THEIRS, paired=False)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


@pytest.mark.parametrize("shift", [0.02, 0.0, -0.02])
def test_networks_that_differ_alike_leave_no_doubt(shift: float) -> None:
    found = difference(replace(PDD, accuracies=tuple(value + shift for value in MINE)), replace(PDD, name="other"))
    assert found is not None
    assert found.mean == pytest.approx(shift)
    assert found.high - found.low == pytest.approx(0.0, abs=1e-12)


def test_one_network_says_nothing() -> None:
    assert difference(replace(PDD, accuracies=(0.9,)), BASE) is None
    assert difference_lines([replace(PDD, accuracies=(0.9,)), BASE], ["one-stage"]) == []


def test_the_last_stage_of_every_order_is_compared() -> None:
    first, union = replace(PDD, stage=1, accuracies=THEIRS), replace(PDD, order="union", accuracies=THEIRS, steps=900)
    lines = difference_lines([BASE, first, PDD, union], ["one-stage"])
    assert lines == [
        "pdd (progressive) is ahead of one-stage: +1.3 points, 95% interval +0.3 to +2.3 (5 pairs of ConvNet)",
        "pdd (union) is not to be told from one-stage: +0.0 points, 95% interval +0.0 to +0.0 (5 pairs of ConvNet; "
        "900 steps against 450)",
    ]


def test_networks_of_one_kind_are_compared() -> None:
    other = replace(BASE, network="ResNet10", accuracies=MINE)
    assert len(difference_lines([BASE, other, PDD], ["one-stage"])) == 1


def made(row: Row, epochs: int, *, steps: int, chosen: bool = False, width: int = 8) -> Row:
    settings: Json = {"network": {"width": width}, "recipe": {"epochs": epochs}}
    return replace(row, steps=steps, settings={**settings, **({"steps": "chosen"} if chosen else {})})


def test_rows_of_a_kind_are_compared() -> None:
    """Those of equal steps with each other, and those that are each at its best number of steps."""
    bases = [made(BASE, 450, steps=450), made(BASE, 900, steps=900), made(BASE, 1350, steps=1350, chosen=True)]
    rows = [made(PDD, 150, steps=450), made(PDD, 300, steps=900), made(PDD, 150, steps=450, chosen=True)]
    lines = difference_lines([*bases, *rows], ["one-stage"])
    assert [line.partition(": ")[0] for line in lines] == [
        "pdd, epochs 150 (progressive) is ahead of one-stage, epochs 450",
        "pdd, epochs 300 (progressive) is ahead of one-stage, epochs 900",
        "pdd, epochs 150, steps chosen (progressive) is ahead of one-stage, epochs 1350, steps chosen",
    ]
    assert [line.partition("ConvNet")[2] for line in lines] == [")", ")", "; 450 steps against 1,350)"]


def test_rows_of_one_network_are_compared() -> None:
    rows = [made(row, 450, steps=450, width=width) for row in (BASE, PDD) for width in (8, 16)]
    lines = difference_lines(rows, ["one-stage"])
    assert [line.partition(": ")[0] for line in lines] == [
        f"pdd, width {width} (progressive) is ahead of one-stage, width {width}" for width in (8, 16)
    ]


def test_rows_of_another_kind_are_compared_where_there_are_no_others() -> None:
    (line,) = difference_lines([made(BASE, 900, steps=900), made(PDD, 150, steps=450, chosen=True)], ["one-stage"])
    assert line.endswith("; 450 steps against 900)")


def test_every_baseline_of_one_stage_is_compared_with() -> None:
    page = markdown_section([BASE, replace(BASE, name="one-stage-short"), PDD])
    assert "pdd (progressive) is ahead of one-stage: " in page
    assert "pdd (progressive) is ahead of one-stage-short: " in page


def test_a_page_says_it_where_there_is_what_to_compare_with() -> None:
    assert "pdd (progressive) is ahead of one-stage" in markdown_section([BASE, PDD])
    assert "ahead" not in markdown_section([PDD])


def test_recipes_that_differ_are_told() -> None:
    heavy, plain = {"epochs": 450, "momentum": 0.9}, {"epochs": 150, "momentum": 0.0}
    page = markdown_section([replace(BASE, settings={"recipe": heavy}), replace(PDD, settings={"recipe": plain})])
    assert "\nmomentum: 0.9 for one-stage (union), 0.0 for pdd (progressive)\n" in page
    assert "epochs:" not in page
