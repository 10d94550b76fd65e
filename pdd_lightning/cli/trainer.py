"""Lightning's trainer and its parts: what it says of a mistake becomes one line that names the option."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment, Precision
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from pdd_lightning.cli.classes import join
from pdd_lightning.errors import ConfigError, PDDError, one_line
from pdd_lightning.process.launch import adopt
from pdd_lightning.process.slurm import settle

_PARTS: Final[Mapping[type, str]] = {
    Callback: "callbacks",
    Logger: "logger",
    Profiler: "profiler",
    Strategy: "strategy",
    Accelerator: "accelerator",
    CheckpointIO: "plugins",
    ClusterEnvironment: "plugins",
    LayerSync: "plugins",
    Precision: "plugins",
}
"""The classes that options of the trainer take."""


LOGGED: Final = ("loss", "alpha")
"""What a stage logs, and a callback can follow."""


Instantiator = tuple[Callable[..., Any], type, bool]


@contextmanager
def explained_parts() -> Iterator[list[Instantiator]]:
    """What jsonargparse is to make the trainer's parts with; a part that cannot be made is one line.

    jsonargparse tries every type that an option may have, and in the end tells of them all.

    Raises:
        ConfigError: If a class of Lightning's refuses its options, or needs what is not installed.
        Exception: What a class of somebody else's raised.
    """
    failed: list[Exception] = []

    def making(option: str) -> Callable[..., Any]:
        def make(cls: type, *args: Any, **kwargs: Any) -> Any:
            try:
                return cls(*args, **kwargs)
            except Exception as error:
                if not isinstance(error, PDDError) and (_is_lightnings(cls) or isinstance(error, ImportError)):
                    line = f"--trainer.{option}: {cls.__name__}: {_told(error)}; correct its options or leave it out"
                    failed.append(ConfigError(line))
                else:
                    failed.append(error)
                raise failed[-1] from error

        return make

    try:
        yield [(making(option), base, True) for base, option in _PARTS.items()]
    except Exception as error:
        if not failed or isinstance(error, PDDError):
            raise
        raise failed[-1] from error


def _is_lightnings(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("lightning", "lightning_fabric", "pytorch_lightning")


@contextmanager
def explained_misuse() -> Iterator[None]:
    """Lightning says by an exception of its own that options do not fit each other.

    Raises:
        ConfigError: With what it says.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"--trainer: {_told(error)}; correct the trainer's options") from error


def make_trainer(options: Mapping[str, Any], *, wait_minutes: float, together: bool = True) -> Trainer:
    """A trainer that is part of a command.

    Args:
        options: Of Lightning's trainer.
        wait_minutes: How long to wait for its other processes.
        together: Whether it works in all processes of the command, not in this one alone.

    Raises:
        ConfigError: If they are impossible, or the processes would not work together.
    """
    try:
        if together and any(name.startswith("SLURM_") for name in os.environ):
            settle(_world(options))
        trainer = Trainer(**options)
    except PDDError:
        raise
    except Exception as error:
        raise ConfigError(f"{_culprit(options)}: {_told(error)}; correct the trainer's options") from error
    _check_strategy(trainer)
    return adopt(trainer, wait_minutes)


def _world(options: Mapping[str, Any]) -> int:
    """How many processes the options ask for."""
    names = ("accelerator", "devices", "num_nodes")
    alone = Trainer(
        **{name: options[name] for name in names if name in options},
        plugins=[LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
    )
    return alone.num_devices * alone.num_nodes


def _culprit(options: Mapping[str, Any]) -> str:
    """The option of the trainer that is impossible by itself; `--trainer` if it takes several."""
    names = ["enable_checkpointing", *options]  # the first is as it always is: then the trainer fails by itself
    for name in names:
        value = options.get(name)
        try:
            trial: dict[str, Any] = {"logger": False, name: value}
            Trainer(**trial)
        except Exception:  # of whatever class: it refused this option once already, and the name is all that is asked
            plain = f"={value}" if isinstance(value, (str, int, float)) else ""
            return "--trainer" if name == names[0] else f"--trainer.{name}{plain}"
    return "--trainer"


def _check_strategy(trainer: Trainer) -> None:
    """Refuse what shares out a model, or starts processes that run no command.

    Raises:
        ConfigError: Naming the strategy.
    """
    strategy = trainer.strategy
    popen = not isinstance(strategy, DDPStrategy) or strategy._start_method == "popen"
    if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)) or not popen:
        name = getattr(strategy, "_start_method", None)
        shown = f"ddp_{name}" if isinstance(strategy, DDPStrategy) and name else type(strategy).__name__
        raise ConfigError(
            f"--trainer.strategy: a run on several devices is one process for each, which {shown} is not; choose "
            "--trainer.strategy ddp, or auto for one device"
        )


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Refuse callbacks that could only fail when a stage has done its work.

    Args:
        callbacks: Those of the configuration.

    Raises:
        ConfigError: Naming the callback.
    """
    bars = [type(callback).__name__ for callback in callbacks if isinstance(callback, ProgressBar)]
    if bars:
        raise ConfigError(f"--trainer.callbacks: {bars[0]}: a stage has a progress bar already; leave this one out")
    if not all(_is_lightnings(type(callback)) for callback in callbacks):
        return  # one of somebody else's may log what another one follows
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in LOGGED:
            raise ConfigError(
                f"--trainer.callbacks: {type(callback).__name__}.monitor={monitor}: a stage logs nothing of this name; "
                f"choose {join(LOGGED, 'or')}"
            )


def _told(error: Exception) -> str:
    """What an error says, in one line without addresses of objects."""
    text = re.sub(r"<(?:\w+\.)*(\w+) object at 0x\w+>", r"\1", one_line(error))
    if isinstance(error, KeyError):
        return f"{text.strip(chr(39))} is not set"  # a variable of SLURM's or of torchrun's
    return text.rstrip(".!") or type(error).__name__
