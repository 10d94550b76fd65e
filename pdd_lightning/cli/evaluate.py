"""`pdd-cli evaluate`: score a finished run and print the table."""

from collections.abc import Sequence

from rich.console import Console

from pdd_lightning.cli.application import application, say
from pdd_lightning.evaluation.report import render_table
from pdd_lightning.evaluation.usage import EvaluationUsage
from pdd_lightning.planning.report import compare_with_plan, identity
from pdd_lightning.process.launch import load_data


def main(args: Sequence[str]) -> int:
    """Train fresh networks on the run's sets and on the baselines; rows that are known are not trained again.

    Args:
        args: The options.

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
    with application("evaluate", args) as app:
        module, data, processes = app.model, app.datamodule, app.processes()
        load_data(processes, data, "test")
        if module.run.directory.is_dir():
            app.take()
        app.rebuild(processes)
        folder, main_process = module.run.evaluation, processes.is_global_zero
        which = identity(module, data.fingerprint, app.evaluation)
        usage = EvaluationUsage(folder, which, processes.strategy.root_device, main_process)
        rows = app.evaluator(noting=usage.job, loggers=app.loggers("evaluation")).run()
        if main_process:
            app.keep(folder)
            Console().print(render_table(rows))
            say(f"results: {folder / 'results.json'}, {folder / 'results.md'}")
            compare_with_plan(module, data.fingerprint, app.evaluation)
            say(f"pictures: {module.run.stage(module.run.completed(module.options.stages)).pictures}")
    return 0
