"""`pdd-cli select`: real images in place of distilled ones, as a finished run of one stage that `evaluate` scores."""

from collections.abc import Sequence

from pdd_lightning.cli.application import application
from pdd_lightning.cli.given import make_given
from pdd_lightning.distilling.fitting import say
from pdd_lightning.evaluation.selected_run import SelectedRun
from pdd_lightning.process.launch import load_data


def main(args: Sequence[str]) -> int:
    """Choose real images, tune their learning rate and write them as a finished run.

    Args:
        args: The options.

    Returns:
        Exit status 0.

    Raises:
        PDDError: If the user can mend what is wrong.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from pdd_lightning.stage.subsets import read_run
        >>> from pdd_lightning.store.folders import RunFolder
        >>> options = ["--config=configs/smoke/stage.yaml", "--select.ipc=3", "--evaluation.random_rates=[0.1]"]
        >>> with TemporaryDirectory() as run:
        ...     main([*options, f"--run_dir={run}"])
        ...     [len(subset.data) for subset in read_run(RunFolder(Path(run)))]
        0
        [30]
    """
    with application("select", args) as app:
        selecting, processes = app.option("select"), app.processes()
        load_data(processes, app.datamodule, "fit")
        subset = make_given(app, SelectedRun(app.evaluator(), selecting), processes.is_global_zero)
        if subset is not None:
            where = app.model.run.stage(1).synthetic
            say(f"{len(subset.data)} images selected by {selecting.method.name}: {where}")
    return 0
