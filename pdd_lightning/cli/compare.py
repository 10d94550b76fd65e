"""`pdd-cli compare`: one table of several runs, with each baseline once."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.plain_parser import PlainParser
from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.compare import by_test_set, merged_rows
from pdd_lightning.evaluation.report import markdown_section, render_table
from pdd_lightning.evaluation.results import read_results
from pdd_lightning.evaluation.row import BASELINES
from pdd_lightning.store.files import write_text
from pdd_lightning.store.folders import RunFolder


def main(args: Sequence[str]) -> int:
    """Print one table for each test set; most often there is one.

    Args:
        args: Folders of runs, and options; see ``pdd-cli compare --help``.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: If two runs would bear the same label.
        ArtifactError: If a run was not evaluated, or its results are damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pdd_lightning.evaluation.results import write_results
        >>> from pdd_lightning.evaluation.row import Row
        >>> with TemporaryDirectory() as folder:
        ...     for label, accuracy in {"mine": 0.8, "yours": 0.7}.items():
        ...         row = Row("pdd", "progressive", "ConvNet", 5, 50, (accuracy,), 500, 6000, 132_000, (0.01,))
        ...         write_results([row], RunFolder(Path(folder, label)).evaluation)
        ...     main([f"{folder}/mine", f"{folder}/yours"])
        Results
        <BLANKLINE>
        set stage accuracy %
        ...
        mine 5 80.0
        yours 5 70.0
        ...
        0
    """
    options = parser().parse_args(args)
    runs = [Path(from_home(run, "RUN")) for run in options.runs]
    labels = [run.resolve().name for run in runs]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ConfigError(
            f"two runs are called {twice}: give each folder once, or rename one, for rows bear these names"
        )
    against: str = options.against or labels[0]
    if against not in labels and against not in BASELINES:
        raise ConfigError(f"--against={against}: name one of {', '.join([*labels, *BASELINES])}")
    found = {label: read_results(RunFolder(run).evaluation.results) for label, run in zip(labels, runs, strict=True)}
    console, sections, apart = Console(), list[str](), by_test_set(found)
    for test, alike in apart.items():
        rows = merged_rows(alike, every_stage=options.every_stage)
        title = f"Test set {test[:8] or 'unknown'}: {', '.join(alike)}" if len(apart) > 1 else "Results"
        console.print(render_table(rows, console.width, title, [against]))
        sections.append((f"## {title}\n\n" if len(apart) > 1 else "") + markdown_section(rows, [against]))
    if len(apart) > 1:
        console.print(f"There are {len(apart)} test sets: compare within a table only.")
    if options.output is not None:
        write_text(Path(from_home(options.output, "--output")), "\n".join(sections))
    return 0


def parser() -> PlainParser:
    """Its options."""
    made = PlainParser("compare")
    made.add_argument("runs", nargs="+", metavar="RUN", help="Folder of a run that was evaluated.")
    made.add_argument("--every_stage", action="store_true", help="Show what was reached after earlier stages too.")
    made.add_argument(
        "--against", metavar="RUN", help="The run that all others are compared with, by name; the first by default."
    )
    made.add_argument("--output", metavar="FILE", help="Write the table here too, as Markdown.")
    return made
