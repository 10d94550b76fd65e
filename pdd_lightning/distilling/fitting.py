"""Fitting one stage: what `pdd-cli fit` and :func:`pdd_lightning.distil` both do."""

from collections.abc import Callable, Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.distilling.trainers import of_all
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.stage.checkpoints import latest_checkpoint, read_checkpoint
from pdd_lightning.stage.course import course_line, overfit_warning, warning
from pdd_lightning.stage.disk import require_room
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.renewal import idle_renewal
from pdd_lightning.store.files import require_writable


@rank_zero_only
def say(line: str) -> None:
    """A line for the person at the terminal or the notebook, from one process."""
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def fit_stage(
    module: StageModule,
    data: ImageDataModule,
    trainer: Trainer,
    *,
    again: str,
    take: Callable[[], object] = lambda: None,
    evaluator: Evaluator | None = None,
    whole_run: bool = False,
    baselines: Sequence[str] = (),
) -> None:
    """Do the steps that are left of a stage, and hand it over to the next one.

    Args:
        module: The stage, whose earlier ones are verified.
        data: Its data, set up.
        trainer: With the callbacks of :func:`pdd_lightning.distilling.trainers.stage_callbacks`.
        again: What continues a stage that stops early, for the user.
        take: Holds the run's folder; called before the first file is written.
        evaluator: Refuses what the evaluation would refuse after the run; None asks nobody.
        whole_run: Whether the stages after this one follow, which need room on the disk too.
        baselines: Names of the baselines of one stage that follow.

    Raises:
        PDDError: If the user can mend what is wrong.
    """
    # Everything that can be refused is refused before the first file is written.
    module.check(data)
    if evaluator is not None:
        evaluator.check()
    checkpoint = latest_checkpoint(module.folder.checkpoints)
    if checkpoint is not None:
        module.verify_checkpoint(read_checkpoint(checkpoint), data.fingerprint)
        say(f"{module.title}: continuing from {checkpoint}")
    require_writable(module.folder.directory, "--run_dir")
    require_writable(module.options.experts_folder, "--experts_dir")
    disk = require_room(module, data, whole_run=whole_run, baselines=baselines)
    take()
    say(disk)
    if (idle := idle_renewal(module.options)) is not None:
        say(f"warning: {idle}")
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if trainer.global_step >= module.iterations:
        _say_complete(module)
    else:
        say(f"{module.title} stopped at step {trainer.global_step} of {module.iterations}: {again} to continue")


def _say_complete(module: StageModule) -> None:
    options, summary = module.options, module.folder.read_manifest().summary
    say(f"{of_all(module)} is complete: {module.folder.synthetic}")
    say(f"{module.title}: {course_line(summary, options.objective)}")
    for wrong in (warning(summary, options.objective, module.image_lr), overfit_warning(summary)):
        if wrong is not None:
            say(f"warning: {module.title}: {wrong}")
    if options.discard is not None:
        say(f"{module.title}: {module.saving}")
