"""`pdd-cli fit`: distil one stage; interrupted, it continues when it is run again."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Trainer

from pdd_lightning.cli.application import Application, application
from pdd_lightning.cli.run import STATUS_VARIABLE
from pdd_lightning.distilling.fitting import fit_stage, say
from pdd_lightning.distilling.trainers import stage_callbacks
from pdd_lightning.process.launch import load_data, require_meeting_point
from pdd_lightning.process.ranks import started_by_lightning
from pdd_lightning.stage.context import baseline_beside
from pdd_lightning.stage.one_stage import one_stage_arguments
from pdd_lightning.store.files import atomic_write


def main(args: Sequence[str]) -> int:
    """Fit the stage, continue it, or say that there is nothing to do.

    Args:
        args: The options.

    Returns:
        Exit status 0.

    Raises:
        PDDError: If the user can mend what is wrong.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> few = ["--model.iterations=2", "--model.recipe.epochs=1"]
        >>> with TemporaryDirectory() as run:
        ...     main(["--config=configs/smoke/stage.yaml", f"--run_dir={run}", *few])
        ...     sorted(path.name for path in Path(run, "stage_01").glob("*.safetensors"))
        0
        ['end_states.safetensors', 'synthetic.safetensors', 'witnesses.safetensors']
    """
    with application("fit", args) as app:
        module, data, trainer = app.model, app.datamodule, _trainer(app)
        load_data(trainer, data, "fit")
        app.rebuild(trainer)
        module.verify_finished(data.fingerprint)
        if module.folder.complete:
            stages = module.options.stages
            which = "all stages are" if module.stage == stages > 1 else f"{module.title} is"
            say(f"{which} complete in {module.run.directory}: nothing to do")
        else:
            _fit(app, trainer)
        _report_status(app, trainer)
    return 0


def _trainer(app: Application) -> Trainer:
    module = app.model
    schedule = app.option("checkpoint_every"), app.option("checkpoint_minutes")
    callbacks = stage_callbacks(module, app.loggers("stages"), *schedule)
    trainer = app.stage_trainer(module, callbacks, logger=app.loggers(module.folder.directory.name))
    require_meeting_point(trainer)
    return trainer


def _fit(app: Application, trainer: Trainer) -> None:
    """The steps that are left, and the hand-over to the next stage."""
    whole_run = STATUS_VARIABLE in os.environ
    fit_stage(
        app.model,
        app.datamodule,
        trainer,
        again="run the same command",
        take=app.take,
        evaluator=app.evaluator(),
        whole_run=whole_run,
        baselines=app.evaluation.one_stages if whole_run and app.model.options.stages > 1 else (),
    )


def _report_status(app: Application, trainer: Trainer) -> None:
    """Tell `pdd-cli run`, which does not parse the configuration itself, how far the run is."""
    path = os.environ.get(STATUS_VARIABLE)
    if path and not started_by_lightning():
        module = app.model
        problem = module.options.problem(app.datamodule, trainer.strategy.root_device)
        status = {
            "run_dir": str(module.run.directory),
            "stages": module.options.stages,
            "completed": module.run.completed(module.options.stages),
            "one_stage": [one_stage_arguments(module.options, name) for name in app.evaluation.one_stages],
            "beside": baseline_beside(module.options, problem, trainer.world_size),
        }
        atomic_write(Path(path), json.dumps(status).encode())
