""":func:`pdd_lightning.evaluate`: scoring a run in one call."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from pdd_lightning.compute.memory import keep_freed_memory
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.distilled import load
from pdd_lightning.distilling.data import Data, as_data
from pdd_lightning.distilling.options import evaluation_options
from pdd_lightning.distilling.record import configuration
from pdd_lightning.distilling.recorded import recorded_data, recorded_options
from pdd_lightning.distilling.results import Results
from pdd_lightning.distilling.session import make_trainer, session, trainer_options
from pdd_lightning.distilling.trainers import evaluation_trainer_options
from pdd_lightning.distilling.whole_run import fit_stages, make_again
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.evaluation.usage import EvaluationUsage
from pdd_lightning.planning.report import identity
from pdd_lightning.process.clock import begin_command
from pdd_lightning.process.lock import RunLock
from pdd_lightning.stage.logs import loggers_of
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import one_stage_options
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.files import write_text
from pdd_lightning.store.folders import RunFolder


def evaluate(
    run: StageModule | str | PathLike[str],
    data: Data | None = None,
    *,
    threads: int | None = 1,
    trainer: Mapping[str, Any] | None = None,
    rebuild: bool = False,
    **options: Any,
) -> Results:
    """Train fresh networks on a finished run's sets and on the baselines, as `pdd-cli evaluate` does.

    Rows that are known are not trained again. A baseline of one stage is distilled first where it is asked for and not
    there: "one-stage" takes about as long as all stages together, "one-stage-short" as one of them.

    Args:
        run: The run's folder, or a stage that was fitted by hand.
        data: See :func:`pdd_lightning.distil`; None takes what the run was made from, unless that was tensors.
        threads: CPU threads of each process while the call lasts; None leaves them as they are.
        trainer: Options of Lightning's trainer, such as ``{"accelerator": "cpu", "logger": False}``.
        rebuild: Make damaged or missing end states of the stages again, from their subsets.
        **options: Of :class:`pdd_lightning.evaluation.protocol.Evaluation`, such as ``seeds=5``,
            ``orders=["progressive", "union"]``, ``baselines=["random", "one-stage", "full"]``. Without ``recipe``,
            networks train by that of the run.

    Returns:
        A list of rows, which prints as a table: also those of earlier evaluations that still hold.

    Raises:
        PDDError: If the user can mend what is wrong.
        KeyboardInterrupt: After an interruption; what is trained is kept.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import pdd_lightning as pdd
        >>> quick = {"network": pdd.ConvNet(width=4), "recipe": pdd.Recipe(epochs=2), "iterations": 2}
        >>> with TemporaryDirectory() as run:
        ...     distilled = pdd.distil("digits", "dm", stages=2, run_dir=run, start_states=2, **quick)
        ...     [(row.name, row.stage, len(row.accuracies)) for row in evaluate(run, seeds=3, baselines=[])]
        [('pdd', 1, 3), ('pdd', 2, 3)]
    """
    with session(threads, "call evaluate again with the same arguments"):
        begin_command()
        keep_freed_memory()
        module = run if isinstance(run, StageModule) else StageModule(**_arguments(_recorded(run)))
        real = recorded_data(module.run.directory) if data is None else as_data(data)
        lightning = trainer_options(trainer)
        real.prepare_data()
        real.setup("test")
        if rebuild:
            make_again(module, real, lightning)
        recipe = load(module.run.directory).about.recipe
        known = {} if recipe == module.options.recipe else {"recipe": recipe}
        evaluation = evaluation_options({**known, **options})
        text = configuration(module.options, real, trainer or {}, threads, evaluation)
        with RunLock(module.run.directory):
            return _score(module, real, evaluation, lightning, text)


def _score(
    module: StageModule, data: ImageDataModule, evaluation: Evaluation, trainer: Mapping[str, Any], text: str
) -> Results:
    def trainer_of(steps: int, callbacks: Sequence[Callback]) -> Trainer:
        return make_trainer({**trainer, **evaluation_trainer_options(module, steps, callbacks)})

    folder, which = module.run.evaluation, identity(module, data.fingerprint, evaluation)
    usage = EvaluationUsage(folder.usage, which, trainer_of(1, []).strategy.root_device)
    loggers = loggers_of(trainer.get("logger"), module.run, "evaluation")
    evaluator = Evaluator(module, data, evaluation, trainer_of, usage.job, loggers)
    evaluator.check()  # before a baseline is distilled, which takes long
    for baseline in evaluation.one_stages:
        alone = one_stage_options(module.options, baseline)
        fit_stages(_arguments(alone), data, trainer, configuration(alone, data, trainer))
    rows = Results(evaluator.run())
    write_text(folder.config, text)
    return rows


def _recorded(run: str | PathLike[str]) -> StageOptions:
    return recorded_options(RunFolder(Path(run).expanduser()))


def _arguments(options: StageOptions) -> dict[str, Any]:
    """Options as a stage takes them; not `asdict`, which would take the parts to pieces."""
    return dict(vars(options))
