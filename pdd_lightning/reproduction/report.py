"""The table of an experiment: our accuracies, the published ones beside them, and which run is ahead of which."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Group
from rich.text import Text

from pdd_lightning.evaluation.compare import merged_rows
from pdd_lightning.evaluation.differences import difference, difference_lines, told_difference
from pdd_lightning.evaluation.report import render_table
from pdd_lightning.evaluation.row import Row
from pdd_lightning.evaluation.told_apart import told_apart
from pdd_lightning.reproduction.experiment import Experiment

COLUMNS: Final = ("set", "order", "stage", "images per class", "accuracy %", "seeds", "steps", "published %")
_TEXT: Final = ("set", "order")


def experiment_rows(experiment: Experiment, runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The rows of an experiment's table.

    Args:
        experiment: The experiment.
        runs: The rows of every run by its name.
    """
    return merged_rows(runs, every_stage=experiment.every_stage)


def cells(experiment: Experiment, row: Row) -> list[str]:
    """A row of the table, in the order of :data:`COLUMNS`."""
    accuracy = f"{100 * row.mean:.1f}" + (f" ± {100 * row.std:.1f}" if len(row.accuracies) > 1 else "")
    per_class = "-" if row.images_per_class is None else f"{row.images_per_class:g}"
    stage = "-" if row.stage is None else str(row.stage)
    known = _published(experiment, row) or "-"
    return [row.name, row.order, stage, per_class, accuracy, str(len(row.accuracies)), f"{row.steps:,}", known]


def _published(experiment: Experiment, row: Row) -> str | None:
    # A figure is that of a whole set, shown progressively unless its name says otherwise.
    keys = [f"{row.name} {row.order}", *([row.name] if row.order != "sequential" or row.stage is None else [])]
    return next((experiment.published[key] for key in keys if key in experiment.published), None)


def experiment_lines(experiment: Experiment, rows: Sequence[Row], missing: Sequence[str] = ()) -> list[str]:
    """Which run is ahead of which, which are missing, and where the published figures stand."""
    lines = []
    for name, other in experiment.against.items():
        lines += difference_lines([row for row in rows if row.name in (name, other)], [other])
    lines += _orders(rows)
    if missing:
        lines.append(f"not run yet: {', '.join(missing)}")
    return [*lines, f"published: {experiment.source}", f"here: {experiment.note}"]


def _orders(rows: Sequence[Row]) -> list[str]:
    """What the order makes of the same images, after the last stage."""
    lines, last = [], {(row.name, row.order): row for row in rows if row.stage is not None}
    for row in last.values():
        for other in last.values():
            others = row.name == other.name and row.order == "progressive" != other.order
            if others and (found := difference(row, other)) is not None:
                lines.append(
                    f"{row.name}: progressive is {found.verdict} {other.order}: {told_difference(found, row, other)}"
                )
    return lines


def render_experiment(
    experiment: Experiment, rows: Sequence[Row], missing: Sequence[str] = (), width: int = 80
) -> Group:
    """For the terminal: the table as any other, with the published figures below it.

    Args:
        experiment: The experiment.
        rows: Its rows.
        missing: Names of runs that have none yet.
        width: Of the terminal, in characters.
    """
    known = [f"{row.name} ({row.order}) {figure}" for row in rows if (figure := _published(experiment, row))]
    lines = [f"published %: {', '.join(known)}"] if known else []
    lines += experiment_lines(experiment, rows, missing)
    return Group(render_table(rows, width, experiment.title, ()), *(Text(line) for line in lines))


def experiment_page(experiment: Experiment, rows: Sequence[Row], missing: Sequence[str] = ()) -> str:
    """As Markdown."""
    rules = [":---" if column in _TEXT else "---:" for column in COLUMNS]
    # The published figures are found by a set's own name.
    told = [[shown.name, *cells(experiment, row)[1:]] for row, shown in zip(rows, told_apart(rows), strict=True)]
    table = [list(COLUMNS), rules, *told]
    lines = [f"| {' | '.join(line)} |" for line in table]
    notes = "".join(f"\n{line}\n" for line in experiment_lines(experiment, rows, missing))
    return f"# {experiment.title}\n\n" + "\n".join(lines) + "\n" + notes
