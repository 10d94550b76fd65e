"""`pdd-cli evaluate`: score a finished run and print the table."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from pdd_lightning.cli.application import application
from pdd_lightning.distilling.fitting import say
from pdd_lightning.errors import ArtifactError
from pdd_lightning.evaluation.report import render_table
from pdd_lightning.evaluation.usage import EvaluationUsage
from pdd_lightning.planning.estimate import Amounts
from pdd_lightning.planning.report import MEMORY, collect, identity
from pdd_lightning.process.launch import load_data
from pdd_lightning.progress import duration, size
from pdd_lightning.store.files import read_json
from pdd_lightning.store.folders import RunFolder


def main(args: Sequence[str]) -> int:
    """Train fresh networks on the run's sets and on the baselines; rows that are known are not trained again.

    Args:
        args: The options. With a run's folder and no configuration, the run's own is taken.

    Returns:
        Exit status 0.

    Raises:
        PDDError: If the user can mend what is wrong.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pdd_lightning.cli import select
        >>> few = ["--evaluation.baselines=[]", "--evaluation.random_rates=[0.1]"]
        >>> with TemporaryDirectory() as run:  # of selected images, which are made fastest
        ...     options = ["--config=configs/smoke/stage.yaml", f"--run_dir={run}", *few]
        ...     print(select.main(options), main(options))
        Results
        ...
        random progressive ...
        0 0
    """
    with application("evaluate", with_recorded(args)) as app:
        module, data, processes = app.model, app.datamodule, app.processes()
        load_data(processes, data, "test")
        if module.run.directory.is_dir():
            app.take()
        app.rebuild(processes)
        folder, main_process = module.run.evaluation, processes.is_global_zero
        which = identity(module, data.fingerprint, app.evaluation)
        usage = EvaluationUsage(folder.usage, which, processes.strategy.root_device, main_process)
        rows = app.evaluator(noting=usage.job, loggers=app.loggers("evaluation")).run()
        if main_process:
            app.keep(folder.config)
            if (used := collect(module)).lines:
                say(use_line(used, _plan(module.run, which)))
            say(f"pictures: {module.run.stage(module.run.completed(module.options.stages)).pictures}")
            say(f"results: {folder.results}, {folder.page}")
            console = Console()
            console.print(render_table(rows, console.width))  # last, where it does not scroll away
    return 0


def with_recorded(args: Sequence[str]) -> list[str]:
    """The arguments with the configuration that the run has recorded, where they name a run and no configuration.

    Args:
        args: Of the command; each of them takes precedence over what is recorded.
    """
    named = [arg.partition("=")[2] or after for arg, after in pairwise([*args, ""]) if _option(arg) == "--run_dir"]
    if not named or any(_option(arg) in ("--config", "-c") for arg in args):
        return list(args)
    recorded = RunFolder(Path(named[-1])).stage(1).config
    # A stage that was named then is no part of what the run is.
    return ["--config", str(recorded), "--stage=null", *args] if recorded.is_file() else list(args)


def _option(arg: str) -> str:
    return arg.partition("=")[0]


def use_line(used: Amounts, plan: Amounts | None) -> str:
    """What a run took, in one line.

    Args:
        used: Noted while it ran.
        plan: What was planned; None if nothing was.
    """

    def beside(what: str, show: Callable[[float], str], value: float, planned: float | None) -> str:
        return f"{what} {show(value)}" + (f" (planned {show(planned)})" if planned is not None else "")

    parts = [beside("took", duration, used.seconds, plan.seconds if plan else None)]
    for where, title in MEMORY.items():
        if (peak := used.peak(where)) is not None:
            parts.append(beside(title, size, peak, plan.peak(where) if plan else None))
    parts.append(beside("disk", size, used.stored, plan.stored if plan else None))
    return ", ".join(parts) + ("; `pdd-cli plan` shows every part" if plan else "")


def _plan(run: RunFolder, which: str) -> Amounts | None:
    """The run's plan, if there is one for these settings."""
    with suppress(ArtifactError, KeyError, TypeError):
        found = read_json(run.plan)
        return Amounts.from_json(found) if found.get("identity") == which else None
    return None
