"""Lightning's trainer: what it says of a mistake becomes one line that names the option."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from pdd_lightning.cli.parts import fold
from pdd_lightning.errors import ConfigError, PDDError
from pdd_lightning.process.launch import adopt
from pdd_lightning.process.slurm import settle


@contextmanager
def explained_misuse() -> Iterator[None]:
    """Lightning says by an exception of its own that options do not fit each other.

    Raises:
        ConfigError: With what it says.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"--trainer: {fold(error)}; correct the trainer's options") from error


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
        raise ConfigError(f"{_culprit(options)}: {fold(error)}; correct the trainer's options") from error
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
