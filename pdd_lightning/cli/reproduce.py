"""`pdd-cli reproduce`: one of the paper's experiments, from its runs to its table."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pdd_lightning.cli import children, shipped
from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.plain_parser import PlainParser
from pdd_lightning.cli.strict_yaml import load_file
from pdd_lightning.errors import ConfigError, suggest
from pdd_lightning.evaluation.results import read_results
from pdd_lightning.progress import duration
from pdd_lightning.reproduction.experiment import Experiment
from pdd_lightning.reproduction.report import experiment_page, experiment_rows, render_experiment
from pdd_lightning.store.files import FORMAT, read_json, write_json, write_text
from pdd_lightning.store.folders import RunFolder

EXPERIMENTS = shipped.folder() / "experiments"


def main(args: Sequence[str]) -> int:
    """Do the runs that are missing, and print and write the table.

    Args:
        args: Name of the experiment, and options; see ``pdd-cli reproduce --help``.

    Returns:
        Exit status: 0, or that of the first run that failed or was stopped.

    Raises:
        ConfigError: If there is no such experiment or scale, or an option that it needs is missing.

    Example:
        >>> main(["table9"])
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.ConfigError: table9: there is no such experiment, did you mean table...
    """
    options, more = parser().parse_known_args(list(args))
    experiment = _find(options.experiment, options.scale)
    experiment.check(more)
    names = [run.name for run in experiment.runs]
    chosen = names if options.only is None else options.only.split(",")
    if unknown := [name for name in chosen if name not in names]:
        raise ConfigError(f"--only={options.only}: there is no run {unknown[0]}; the runs are {', '.join(names)}")
    default = f"checkpoints/{experiment.name}-{experiment.scale}"
    folder = Path(from_home(options.run_dir or default, "--run_dir"))
    runs = {run.name: run.arguments(folder, more) for run in experiment.runs if run.name in chosen}
    if options.plan:
        return _plan(folder, runs)
    COMMANDS["fit"].load()  # imports once what every run's processes need
    for number, (name, arguments) in enumerate(runs.items(), start=1):
        print(f"{experiment.name}, {experiment.scale}: {name}, run {number} of {len(runs)}", flush=True)
        if code := children.call("run", arguments):
            return code
    output = Path(from_home(options.output, "--output")) if options.output else folder / "table.json"
    _report(experiment, folder, output)
    return 0


def parser() -> PlainParser:
    """Its own options; the others are those of `run`."""
    made = PlainParser("reproduce")
    made.add_argument("experiment", metavar="NAME", help=f"One of {', '.join(_names())}.")
    made.add_argument("--scale", default="digits", help="digits (minutes a run), small (hours) or paper (a GPU).")
    made.add_argument("--run_dir", metavar="DIR", help="Folder of its runs; checkpoints/NAME-SCALE by default.")
    made.add_argument("--output", metavar="FILE.json", help="Write every row here, and the table beside it.")
    made.add_argument("--only", metavar="RUN,...", help="Do these runs alone; the table says which are missing.")
    made.add_argument("--plan", action="store_true", help="Say what each run would take, and do none.")
    return made


def _plan(folder: Path, runs: dict[str, list[str]]) -> int:
    """Plan every run; returns the exit status."""
    total = 0.0
    for name, arguments in runs.items():
        if code := children.call("plan", arguments):
            return code
        seconds = read_json(RunFolder(folder / name).plan)["total"]
        assert isinstance(seconds, dict)
        total += float(seconds["seconds"])
    print(f"{len(runs)} runs, one after the other: {duration(total)}")
    return 0


def _report(experiment: Experiment, folder: Path, output: Path) -> None:
    """Print the table, and write it."""
    results = {run.name: RunFolder(folder / run.name).evaluation.results for run in experiment.runs}
    rows = experiment_rows(experiment, {name: read_results(path) for name, path in results.items() if path.is_file()})
    missing = [name for name, path in results.items() if not path.is_file()]
    told = {"experiment": experiment.name, "scale": experiment.scale, "published": dict(experiment.published)}
    write_json(output, {"format": FORMAT, **told, "missing": missing, "rows": [row.to_json() for row in rows]})
    write_text(output.with_suffix(".md"), experiment_page(experiment, rows, missing))
    console = Console()
    console.print(render_experiment(experiment, rows, missing, console.width))
    print(f"table: {output}, {output.with_suffix('.md')}")


def _names() -> list[str]:
    return sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


def _find(name: str, scale: str) -> Experiment:
    names = _names()
    if name not in names:
        raise ConfigError(
            f"{name}: there is no such experiment{suggest(name, names) or '.'} They are {', '.join(names)}"
        )
    path = EXPERIMENTS / f"{name}.yaml"
    return Experiment.parse(path, load_file(path, str(path)), scale)
