"""The rows of several runs as those of one table, with each baseline once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pdd_lightning.evaluation.report import Row

OWN = ("pdd", "distilled")
"""Names of a run's own rows in its results: of several stages, and of one."""


def merged_rows(runs: Mapping[str, Sequence[Row]], *, every_stage: bool = False) -> list[Row]:
    """The rows of several runs as those of one table.

    Args:
        runs: The rows of each run by its label, which names the run's own rows in the table.
        every_stage: Keep the rows after earlier stages too.

    Returns:
        Baselines first, each of them once where runs agree on it and else with the run's label; then the runs in the
        order given; what was trained on the full data last.
    """
    baselines: list[tuple[str, Row]] = []
    own: list[Row] = []
    for label, rows in runs.items():
        for row in rows:
            if row.name not in OWN:
                if row not in [known for _, known in baselines]:
                    baselines.append((label, row))
            elif every_stage or row.stage == max(r.stage for r in rows if _kind(r) == _kind(row)):
                own.append(replace(row, name=label))
    kinds = Counter(_kind(row) for _, row in baselines)
    shared = [row if kinds[_kind(row)] == 1 else replace(row, name=f"{row.name}, {label}") for label, row in baselines]
    full = [row for row in shared if row.stage == 0]
    return [*(row for row in shared if row.stage), *own, *full]


def _kind(row: Row) -> tuple[str, str, str]:
    return row.name, row.order, row.network
