"""`pdd-cli compare`: one table of several runs, with each baseline once."""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.report import Row, markdown_table, read_results, render_table
from pdd_lightning.store.files import write_text
from pdd_lightning.store.folders import RunFolder

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


def _kind(row: Row) -> tuple[str, str, str, str]:
    return row.name, row.order, row.network, row.protocol


def main(args: Sequence[str]) -> None:
    """The command line.

    Args:
        args: Folders of runs, and options; see ``pdd-cli compare --help``.

    Raises:
        ConfigError: If two runs would bear the same label.
        ArtifactError: If a run was not evaluated, or its results are damaged.
    """
    parser = ArgumentParser(
        "pdd-cli compare", description="One table of several evaluated runs, each baseline in it once."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="Folder of a run that was evaluated.")
    parser.add_argument("--every_stage", action="store_true", help="Show what was reached after earlier stages too.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="Write the table here too, as Markdown.")
    options = parser.parse_args(args)
    labels = [run.resolve().name for run in options.runs]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ConfigError(
            f"two runs are called {twice}: give each folder once, or rename one, for rows bear these names"
        )
    found = {
        label: read_results(RunFolder(run).evaluation / "results.json")
        for label, run in zip(labels, options.runs, strict=True)
    }
    rows = merged_rows(found, every_stage=options.every_stage)
    Console().print(render_table(rows))
    if options.output is not None:
        write_text(options.output, markdown_table(rows))
