"""What a call from a program of somebody else's has around it: it leaves the process as it found it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from lightning.pytorch import Trainer

from pdd_lightning.distilling.trainers import TRAINER_DEFAULTS, check_threads, check_trainer
from pdd_lightning.errors import ConfigError, PDDError, one_line
from pdd_lightning.process.launch import adopt
from pdd_lightning.process.quiet import quietly
from pdd_lightning.process.signals import listening

_ONE_PROCESS: Final = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
"""Options of the trainer that are as they are: other processes would run the caller's program once more."""

_WAIT: Final = 30.0
"""Minutes that a trainer waits for other processes, of which there are none."""


@contextmanager
def session(threads: int | None, again: str) -> Iterator[None]:
    """Signals, threads, warnings and messages of a call.

    Args:
        threads: CPU threads while it lasts; None leaves them as they are.
        again: What continues it, for the user.

    Raises:
        PDDError: What the block raises, with options named as Python knows them.
        KeyboardInterrupt: After a signal, once what is worth keeping is saved.
    """
    with in_python(), quietly(), listening(again):
        check_threads(threads)
        before = torch.get_num_threads()
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)


@contextmanager
def in_python() -> Iterator[None]:
    """Name options by the arguments of a function, where messages name them as the command line does.

    Raises:
        PDDError: Of the kind that was raised in the block.
    """
    try:
        yield
    except PDDError as error:
        text = re.sub(r"(?<![\w.-])(?:--)?(?:model|data|evaluation)\.(?=[a-z])", "", str(error))
        text = text.replace("--rebuild true", "rebuild=True")
        raise type(error)(re.sub(r"(?<![\w-])--(?=[a-z])", "", text)) from error


def trainer_options(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The trainer's options for a call.

    Args:
        given: Those of the caller.

    Raises:
        ConfigError: If one of them is refused.
    """
    options = dict(given or {})
    for name, value in _ONE_PROCESS.items():
        if options.get(name, value) not in (value, "auto"):
            raise ConfigError(
                f"trainer.{name}={options[name]}: a call is one process; for several devices or machines write a "
                "configuration and run `pdd-cli run`"
            )
    options = {**TRAINER_DEFAULTS, **options, **_ONE_PROCESS, "enable_progress_bar": False}
    check_trainer(options)
    make_trainer({**options, "logger": False})  # which says what is impossible before anything is written
    return options


def make_trainer(options: Mapping[str, Any]) -> Trainer:
    """A trainer for one fit.

    Args:
        options: Of Lightning's trainer.

    Raises:
        ConfigError: If they are impossible.
    """
    try:
        return adopt(Trainer(**options), _WAIT)
    except PDDError:
        raise
    except Exception as error:
        raise ConfigError(f"trainer: {one_line(error).rstrip('.!')}; correct the trainer's options") from error
