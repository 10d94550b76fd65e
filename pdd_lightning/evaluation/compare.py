"""The rows of several runs as those of one table, with each baseline once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pdd_lightning.evaluation.row import Row


def merged_rows(runs: Mapping[str, Sequence[Row]], *, every_stage: bool = False) -> list[Row]:
    """The rows of several runs as those of one table.

    Args:
        runs: The rows of each run by its label, which names the run's own rows in the table: those of its stages.
        every_stage: Keep the rows after earlier stages too.

    Returns:
        Baselines first, each of them once where runs agree on it and else with the run's label; then the runs in the
        order given; what was trained on the full data last.
    """
    baselines: list[tuple[str, Row]] = []
    own: list[Row] = []
    for label, rows in runs.items():
        for row in rows:
            if row.stage is None:
                if row not in [known for _, known in baselines]:
                    baselines.append((label, row))
            elif every_stage or row.stage == max(r.stage or 0 for r in rows if _kind(r) == _kind(row)):
                own.append(replace(row, name=label))
    kinds = Counter(_kind(row) for _, row in baselines)
    shared = [
        (row.name == "full", row if kinds[_kind(row)] == 1 else replace(row, name=f"{row.name}, {label}"))
        for label, row in baselines
    ]
    return [*(row for full, row in shared if not full), *own, *(row for full, row in shared if full)]


def by_test_set(runs: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, list[Row]]]:
    """The rows of runs by the test set that they were scored on: within one set alone they can be compared.

    Args:
        runs: The rows of each run by its label.

    Returns:
        For each fingerprint of a test set, the rows of every run that was scored on it, by label.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    for label, rows in runs.items():
        for row in rows:
            found.setdefault(row.test, {}).setdefault(label, []).append(row)
    return found


def _kind(row: Row) -> tuple[object, ...]:
    return *row.key[:3], row.stage is None, *row.key[4:]
