"""Whether one set is better than another, by the networks that were trained on both."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scipy import stats

from pdd_lightning.evaluation.row import STEPS, Row
from pdd_lightning.evaluation.told_apart import told_apart

CONFIDENCE: Final = 0.95
"""Of the intervals."""


@dataclass(frozen=True)
class Difference:
    """How far the accuracy of one row is above that of another.

    Attributes:
        mean: Difference of the means, a fraction.
        low: Lower end of its interval.
        high: Upper end.
        paired: Whether network i of both rows began from one initialisation, so that each pair is compared.

    Example:
        >>> def row(*accuracies):
        ...     return Row("mine", "union", "ConvNet", None, 1, accuracies, 10, 50, 2640, (0.1,))
        >>> difference(row(0.82, 0.90, 0.87), row(0.80, 0.89, 0.85)).verdict
        'ahead of'
        >>> difference(row(0.82, 0.90, 0.87), row(0.86, 0.85, 0.87)).verdict
        'not to be told from'
    """

    mean: float
    low: float
    high: float
    paired: bool

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.low > 0:
            return "ahead of"
        return "behind" if self.high < 0 else "not to be told from"


def difference(row: Row, other: Row) -> Difference | None:
    """How far a row is above another: Student's interval over pairs, or Welch's where the numbers of networks differ.

    Args:
        row: Scored on the test set of the other.
        other: What it is compared with.

    Returns:
        None where a row has a single network, which says nothing about how much networks differ.
    """
    mine, theirs = row.accuracies, other.accuracies
    return compared(mine, theirs, paired=len(mine) == len(theirs))


def compared(mine: Sequence[float], theirs: Sequence[float], *, paired: bool) -> Difference | None:
    """How far the mean of some accuracies is above that of others: Student's interval over pairs, or Welch's.

    Args:
        mine: Fractions.
        theirs: What they are compared with.
        paired: Whether the two of each place belong together.

    Returns:
        None where there is a single one on a side.
    """
    if min(len(mine), len(theirs)) < 2:
        return None
    mean = statistics.fmean(mine) - statistics.fmean(theirs)
    if paired:
        error = statistics.stdev(a - b for a, b in zip(mine, theirs, strict=True)) / math.sqrt(len(mine))
        freedom = len(mine) - 1.0
    else:
        parts = [statistics.variance(values) / len(values) for values in (mine, theirs)]
        error = math.sqrt(sum(parts))
        spread = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (mine, theirs), strict=True))
        freedom = sum(parts) ** 2 / spread if spread else 1.0
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Difference(mean, mean - half, mean + half, paired)


def difference_lines(rows: Sequence[Row], against: Sequence[str]) -> list[str]:
    """A line for every distilled set of a table that says whether it is ahead of a set.

    Of several rows of that set, the one counts that was made likewise: of the same network, at its own best number of
    steps too, or else at as many steps.

    Args:
        rows: Of one test set.
        against: The names of the sets that the others are compared with.
    """
    lines = []
    told = list(zip(rows, told_apart(rows), strict=True))
    last = {(shown.name, row.order, row.network): (row, shown) for row, shown in told if row.stage is not None}
    for name in against:
        for other, theirs in told:
            if other.name != name or not (other.stage is None or (other, theirs) in last.values()):
                continue
            rivals = [row for row in rows if _set_of(row) == _set_of(other)]
            for row, mine in last.values():
                if row.name == name or row.network != other.network or (found := difference(row, other)) is None:
                    continue
                if _unlike(row, other) > min(_unlike(row, rival) for rival in rivals):
                    continue
                ahead = f"{mine.name} ({row.order}) is {found.verdict} {theirs.name}"
                lines.append(f"{ahead}: {told_difference(found, row, other)}")
    return lines


def _set_of(row: Row) -> tuple[object, ...]:
    return row.name, row.order, row.network, row.stage


def _unlike(row: Row, other: Row) -> tuple[bool, bool, int]:
    """How unlike two rows were made: networks, where their numbers of steps come from, and how far apart those are."""
    network, steps = (other.settings.get(key) != row.settings.get(key) for key in ("network", STEPS))
    return network, steps, 0 if STEPS in row.settings else abs(other.steps - row.steps)


def told_difference(found: Difference, row: Row, other: Row) -> str:
    """A difference in points, with its interval, and what it rests on.

    Args:
        found: The difference.
        row: Whose accuracy is the first.
        other: Whose is the second.
    """
    low, high = 100 * found.low, 100 * found.high
    networks = f"{len(row.accuracies)} pairs of {row.network}" if found.paired else f"{row.network}, not paired"
    steps = "" if row.steps == other.steps else f"; {row.steps:,} steps against {other.steps:,}"
    interval = f"{CONFIDENCE:.0%} interval {low:+.1f} to {high:+.1f}"
    return f"{100 * found.mean:+.1f} points, {interval} ({networks}{steps})"
