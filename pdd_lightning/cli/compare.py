"""`pdd-cli compare`: one table of several runs, with each baseline once."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.cli.paths import from_home
from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.compare import merged_rows
from pdd_lightning.evaluation.report import markdown_table, read_results, render_table
from pdd_lightning.store.files import write_text
from pdd_lightning.store.folders import RunFolder


class _Parser(ArgumentParser):
    """Gives a mistake as one line, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; `{self.prog} --help` describes the options")


def main(args: Sequence[str]) -> int:
    """Print one table.

    Args:
        args: Folders of runs, and options; see ``pdd-cli compare --help``.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: If two runs would bear the same label.
        ArtifactError: If a run was not evaluated, or its results are damaged.
    """
    parser = _Parser("pdd-cli compare", description=COMMANDS["compare"].help)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="Folder of a run that was evaluated.")
    parser.add_argument("--every_stage", action="store_true", help="Show what was reached after earlier stages too.")
    parser.add_argument("--output", metavar="FILE", help="Write the table here too, as Markdown.")
    options = parser.parse_args(args)
    runs = [Path(from_home(run, "RUN")) for run in options.runs]
    labels = [run.resolve().name for run in runs]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ConfigError(
            f"two runs are called {twice}: give each folder once, or rename one, for rows bear these names"
        )
    found = {
        label: read_results(RunFolder(run).evaluation / "results.json") for label, run in zip(labels, runs, strict=True)
    }
    rows = merged_rows(found, every_stage=options.every_stage)
    Console().print(render_table(rows))
    if options.output is not None:
        write_text(Path(from_home(options.output, "--output")), markdown_table(rows))
    return 0
