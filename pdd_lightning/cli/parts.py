"""The parts of Lightning's trainer that a configuration names: callbacks, loggers, profilers and others.

What they refuse, early or late, becomes one line that names the option; what can be known is said before the work.
"""

import re
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment, Precision
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import LayerSync
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from pdd_lightning.distilling.trainers import is_lightnings, listed
from pdd_lightning.errors import ConfigError, PDDError, one_line
from pdd_lightning.process.failures import ended_line
from pdd_lightning.store.files import require_writable

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


_FOLDERS: Final = ("dirpath", "save_dir")
"""Options of Lightning's parts that name a folder to write to."""


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
                if not isinstance(error, PDDError) and (is_lightnings(cls) or isinstance(error, ImportError)):
                    failed.append(_refusal(option, cls, error))
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


@contextmanager
def explained_failures(parts: Sequence[object]) -> Iterator[None]:
    """What fails within Lightning's own code of a part that the configuration names is one line.

    Args:
        parts: Callbacks, loggers and profilers of the configuration; anything else is passed over.

    Raises:
        ConfigError: Naming the part.
        Exception: Any other one, such as a fault of our code, or of a class of somebody else's.
    """
    try:
        yield
    except Exception as error:
        part = None if ended_line(error) is not None else _failing(error, parts)
        if part is None:
            raise
        option = next(name for base, name in _PARTS.items() if isinstance(part, base))
        raise _refusal(option, type(part), error) from error


def _failing(error: Exception, parts: Sequence[object]) -> object | None:
    """The part in whose code an error was raised, by Lightning or by a library that it calls."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == "lightning":
            mine = frame.f_locals.get("self")
            if isinstance(mine, (Callback, Logger, Profiler)) and any(mine is part for part in parts):
                return mine
        elif package == "pdd_lightning" or not _of_library(frame):
            return None
    return None


def _of_library(frame: FrameType) -> bool:
    """Whether code is Python's own or of an installed package."""
    file = frame.f_code.co_filename
    return file.startswith("<") or any(
        file.startswith(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )


def _refusal(option: str, cls: type, error: Exception) -> ConfigError:
    return ConfigError(f"--trainer.{option}: {cls.__name__}: {fold(error)}; correct its options or leave it out")


def check_parts(trainer: Namespace) -> None:
    """Refuse options of the parts that would fail only while they work, some of them when all is done.

    Args:
        trainer: The trainer's section of the configuration.

    Raises:
        ConfigError: Naming part, option and value.
    """
    if trainer.default_root_dir is not None:
        _require_folder(trainer.default_root_dir, "--trainer.default_root_dir")
    for option in dict.fromkeys(_PARTS.values()):
        for part in listed(trainer.get(option)):
            given = part.get("init_args") if isinstance(part, Namespace) else None
            if given is None:
                continue
            shown = f"--trainer.{option}: {part.class_path.rpartition('.')[2]}"
            for name in _FOLDERS:
                if isinstance(given.get(name), (str, Path)):
                    _require_folder(given[name], f"{shown}.{name}")
            every = given.get("flush_logs_every_n_steps")
            if isinstance(every, int) and every < 1:
                raise ConfigError(f"{shown}.flush_logs_every_n_steps must be at least 1, got {every}")


def _require_folder(folder: str | Path, option: str) -> None:
    """Check that files can be written below a folder, which is left as it is.

    Raises:
        ConfigError: If that is not possible.
    """
    if "://" in str(folder):
        return  # of a store that is no part of the file system
    try:
        require_writable(Path(folder), option)
        # Permissions say little to the administrator, and nothing of a disk that is full or like /proc.
        path = Path(folder).absolute()
        with tempfile.TemporaryDirectory(dir=next(each for each in (path, *path.parents) if each.exists())):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option}: cannot write to {folder} ({error.strerror}); choose another folder or mend its permissions"
        ) from error


def fold(error: Exception) -> str:
    """What an error says, in one line without addresses of objects."""
    text = re.sub(r"<(?:\w+\.)*(\w+) object at 0x\w+>", r"\1", one_line(error))
    if isinstance(error, KeyError):
        return f"{text.strip(chr(39))} is not set"  # a variable of SLURM's or of torchrun's
    return text.rstrip(".!") or type(error).__name__
