""":func:`pdd_lightning.distil`: all stages of a distillation in one call."""

from collections.abc import Mapping
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any, Final

from pdd_lightning.compute.memory import keep_freed_memory
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.distilled import DistilledSet, load
from pdd_lightning.distilling.data import Data, as_data
from pdd_lightning.distilling.fitting import fit_stage, say
from pdd_lightning.distilling.options import made, stage_options
from pdd_lightning.distilling.record import configuration
from pdd_lightning.distilling.session import make_trainer, session, trainer_options
from pdd_lightning.distilling.trainers import stage_callbacks, stage_trainer_options
from pdd_lightning.errors import ArtifactError
from pdd_lightning.process.clock import begin_command
from pdd_lightning.process.lock import RunLock
from pdd_lightning.stage.logs import loggers_of
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.rebuild import rebuild_end_states
from pdd_lightning.store.files import remove_unfinished
from pdd_lightning.types import Json

_AGAIN: Final = "call distil again with the same arguments"


def distil(
    data: Data = "digits",
    method: str = "mtt",
    *,
    run_dir: str | PathLike[str],
    stages: int = 3,
    threads: int | None = 1,
    trainer: Mapping[str, Any] | None = None,
    rebuild: bool = False,
    **options: Any,
) -> DistilledSet:
    """Distil a data set; a call that was interrupted is continued by the same call.

    Everything happens in this process, and with the same settings the same numbers come out as by `pdd-cli run`. The
    settings of a method are those of `configs/digits`, for small images and CPU cores. Finished stages are verified
    and skipped.

    Args:
        data: An :class:`ImageDataModule`, the path of an image folder, "digits", or tensors as (train_images,
            train_labels) or (train_images, train_labels, test_images, test_labels); see :class:`TensorData`.
        method: "mtt", "dc", "dsa", "idc", "dm", "cafe" or "cafe_dsa".
        run_dir: Folder of the run.
        stages: Number of stages.
        threads: CPU threads of each process while the call lasts; tiny networks are fastest with one. None leaves them.
        trainer: Options of Lightning's trainer, such as ``{"accelerator": "cpu", "logger": False}``.
        rebuild: Make damaged or missing end states of finished stages again, from their subsets.
        **options: Of :class:`pdd_lightning.stage.options.StageOptions`, such as ``ipc``, ``iterations``, ``seed``,
            ``network=ConvNet(width=64)``, ``recipe=Recipe(epochs=100)``, or an ``objective`` and ``dynamics`` of your
            own; and those of the method's dynamics and objective, such as ``experts``.

    Returns:
        The set of all stages, as :func:`pdd_lightning.load` gives it.

    Raises:
        PDDError: If the user can mend what is wrong.
        KeyboardInterrupt: After an interruption, when a checkpoint is saved.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.training import Recipe
        >>> quick = {"network": ConvNet(width=4), "iterations": 2, "start_states": 2, "recipe": Recipe(epochs=2)}
        >>> with TemporaryDirectory() as run:
        ...     distil("digits", "dm", stages=2, ipc=1, run_dir=run, **quick)
        DistilledSet pdd, 2 stages: 10 + 10 images of 1x8x8, 10 classes
        ...
    """
    with session(threads, _AGAIN):
        given = stage_options(method, stages, {**options, "run_dir": str(Path(run_dir).expanduser())})
        module, real, lightning = _stage(given), as_data(data), trainer_options(trainer)
        keep_freed_memory()
        real.prepare_data()
        real.setup("fit")
        if rebuild:
            make_again(module, real, lightning)
        fit_stages(given, real, lightning, configuration(module.options, real, trainer or {}, threads))
        if not module.run.completed():
            raise ArtifactError(f"{module.run.directory} holds no complete stage yet: {_AGAIN} to continue")
        return load(module.run.directory)


def make_again(module: StageModule, data: ImageDataModule, trainer: Mapping[str, Any]) -> None:
    """Make damaged or missing end states of finished stages again.

    Args:
        module: Of the run.
        data: Its data, set up.
        trainer: Options of Lightning's trainer.

    Raises:
        PDDError: If that is not possible, or another process works in the run's folder.
    """
    if module.run.directory.is_dir():
        with RunLock(module.run.directory):
            device = make_trainer({**trainer, "logger": False}).strategy.root_device
            for path in rebuild_end_states(module, data, device):
                say(f"made again: {path}")


def fit_stages(given: Json, data: ImageDataModule, trainer: Mapping[str, Any], text: str) -> None:
    """Fit the stages that are not complete, in turn, until one stops early.

    Args:
        given: Options of the stages.
        data: Their data, set up.
        trainer: Options of Lightning's trainer.
        text: The configuration, to be kept beside each stage.

    Raises:
        PDDError: If the user can mend what is wrong.
    """
    module = _stage(given)
    module.verify_finished(data.fingerprint)
    if module.folder.complete:
        return
    module.check(data)  # before the folder is made
    with RunLock(module.run.directory):
        remove_unfinished(module.run.directory, module.run.experts)
        done, stages = module.stage - 1, module.options.stages
        while done < stages:
            begin_command()
            module = _stage(given)
            _fit(module, data, trainer, text)
            if module.run.completed(stages) == done:  # stopped early on purpose, by max_steps or max_time
                return
            done += 1


def _stage(given: Json) -> StageModule:
    """The next stage: parts of its own, for objectives and dynamics keep what one stage needs."""
    return made(StageModule, deepcopy(given))


def _fit(module: StageModule, data: ImageDataModule, trainer: Mapping[str, Any], text: str) -> None:
    def loggers(part: str) -> list[Any]:
        return loggers_of(trainer.get("logger"), module.run, part)

    callbacks = stage_callbacks(module, loggers("stages"))
    mine = stage_trainer_options(module, callbacks, trainer, text)
    lightning = make_trainer({**trainer, **mine, "logger": loggers(module.folder.directory.name)})
    fit_stage(module, data, lightning, again=_AGAIN, whole_run=True)
