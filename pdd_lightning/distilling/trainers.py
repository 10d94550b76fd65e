"""Lightning's trainers for the stages and the evaluation of a run: what the commands and the Python API share."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    ProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.loggers import Logger

from pdd_lightning.errors import ConfigError
from pdd_lightning.stage.callback import StageCallback
from pdd_lightning.stage.checkpoints import SealedCheckpointIO, StageCheckpoint
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.monitor import ImageMonitor, StepProgress
from pdd_lightning.stage.usage import StageUsage
from pdd_lightning.store.files import write_text
from pdd_lightning.types import Json

TRAINER_DEFAULTS: Final[Mapping[str, Any]] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "log_every_n_steps": 10,
}
"""Options of the trainer whose defaults are not Lightning's."""


CHECKPOINT_EVERY: Final = 100
"""Optimiser steps between two checkpoints of a stage."""


CHECKPOINT_MINUTES: Final = 10.0
"""Minutes between two checkpoints of a stage, whatever the steps."""


MOST_THREADS: Final = 1024
"""A number beyond it is a slip of the finger, which the system would try to make true."""


LOGGED: Final = ("loss", "alpha")
"""What a stage logs, and a callback can follow."""


_UNRECORDED: Final[Mapping[str, tuple[object, ...]]] = {
    "precision": (None, "32-true", "32", 32),
    "accumulate_grad_batches": (1,),
    "gradient_clip_val": (None,),
    "limit_train_batches": (None, 1.0),
    "overfit_batches": (0.0,),
    "fast_dev_run": (False,),
}
"""Options of the trainer that would change a result without being recorded in it, and what they may be."""


_CHANGING: Final = (
    BaseFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
"""Callbacks that take part in the training, of which the manifest of a stage knows nothing."""


def listed(value: Any) -> list[Any]:
    """What an option holds that takes nothing, one thing or several."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def check_threads(threads: int | None) -> None:
    """Refuse an impossible number of threads.

    Raises:
        ConfigError: Naming the option.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ConfigError(f"--threads must be from 1 to {MOST_THREADS}, got {threads}")


def check_trainer(given: Mapping[str, Any]) -> None:
    """Refuse options of the trainer that would change results without a word, or keep a stage from being saved.

    Args:
        given: The trainer's options.

    Raises:
        ConfigError: Naming the option.
    """
    for option, allowed in _UNRECORDED.items():
        value = given.get(option, allowed[0])
        if value not in allowed:
            raise ConfigError(
                f"--trainer.{option}={value}: this would change the result without being recorded in it; leave it out"
            )
    if given.get("barebones"):
        raise ConfigError("--trainer.barebones=true: a stage needs the checkpoints that this forbids; leave it out")
    every = given.get("log_every_n_steps", TRAINER_DEFAULTS["log_every_n_steps"])
    if not (every or 0) >= 1:
        raise ConfigError(
            f"--trainer.log_every_n_steps must be at least 1, got {every}; to log nothing, give --trainer.logger false"
        )


def is_lightnings(cls: type) -> bool:
    """Whether a class is Lightning's own."""
    return cls.__module__.partition(".")[0] in ("lightning", "lightning_fabric", "pytorch_lightning")


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Refuse callbacks that could only fail when a stage has done its work, or would change what comes of it.

    Args:
        callbacks: Those of the user.

    Raises:
        ConfigError: Naming the callback.
    """
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, ProgressBar):
            raise ConfigError(f"--trainer.callbacks: {name}: a stage has a progress bar already; leave this one out")
        if isinstance(callback, _CHANGING):
            raise ConfigError(
                f"--trainer.callbacks: {name}: this could change the result without being recorded in it; leave it out"
            )
    if not all(is_lightnings(type(callback)) for callback in callbacks):
        return  # one of somebody else's may log what another one follows
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in LOGGED:
            raise ConfigError(
                f"--trainer.callbacks: {type(callback).__name__}.monitor={monitor}: a stage logs nothing of this name; "
                f"choose {' or '.join(LOGGED)}"
            )


def stage_callbacks(
    module: StageModule, loggers: Sequence[Logger], every: int = CHECKPOINT_EVERY, minutes: float = CHECKPOINT_MINUTES
) -> list[Callback]:
    """What watches a stage, saves it, and hands it over to the next one.

    Args:
        module: The stage.
        loggers: Told once for each stage.
        every: Optimiser steps between two checkpoints.
        minutes: Minutes between two checkpoints.
    """
    progress = StepProgress(f"{of_all(module)}: distilling", module.iterations, "loss")
    checkpoints = StageCheckpoint(module.folder.checkpoints, every, minutes)
    return [StageCallback(loggers), StageUsage(), progress, ImageMonitor(), checkpoints]


def of_all(module: StageModule) -> str:
    """The title of a stage among those of the run."""
    return f"{module.title} of {module.options.stages}" if module.options.stages > 1 else module.title


def stage_trainer_options(
    module: StageModule, callbacks: Sequence[Callback], given: Mapping[str, Any], text: str
) -> Json:
    """Options of the trainer for one stage.

    Args:
        module: The stage.
        callbacks: Beside those of the user.
        given: The user's options.
        text: The configuration, to be kept beside the stage.

    Raises:
        ConfigError: If a callback of the user is refused.
    """
    iterations, most, mine = module.iterations, given.get("max_steps", -1), listed(given.get("callbacks"))
    every = given.get("log_every_n_steps", TRAINER_DEFAULTS["log_every_n_steps"])
    check_callbacks(mine)
    return {
        "callbacks": [*mine, *callbacks, KeepConfig(text)],
        "log_every_n_steps": min(every, iterations),  # a short stage logs its last step
        "plugins": [SealedCheckpointIO(), *listed(given.get("plugins"))],
        "max_steps": most if 0 <= most <= iterations else iterations,
        "default_root_dir": str(module.run.directory),
    }


def evaluation_trainer_options(module: StageModule, steps: int, callbacks: Sequence[Callback]) -> Json:
    """Options of the trainer for one fit of the evaluation.

    Args:
        module: Of the run.
        steps: Optimiser steps.
        callbacks: All of them: those of the user are for stages.
    """
    return {
        "max_steps": steps,
        "max_epochs": -1,
        "max_time": None,
        "callbacks": list(callbacks),
        "logger": False,
        "enable_checkpointing": False,
        "default_root_dir": str(module.run.directory),
    }


class KeepConfig(Callback):
    """Keeps the exact configuration beside what a stage makes.

    Args:
        text: The configuration.

    Example:
        >>> trainer = Trainer(callbacks=[KeepConfig("run_dir: checkpoints/mine")], accelerator="cpu", logger=False)
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml` into the stage's folder."""
        if trainer.is_global_zero and isinstance(pl_module, StageModule):
            write_text(pl_module.folder.config, self.text)
