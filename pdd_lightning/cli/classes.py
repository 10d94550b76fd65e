"""What is wrong with a class that an option names by its import path.

jsonargparse gives one answer for most mistakes in a class of the user's own, and none for a file that cannot be
imported. Here the class is looked for once more, to say which step failed.
"""

import importlib
import inspect
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_args

from pdd_lightning import datamodules, networks
from pdd_lightning.cli.suggestions import join
from pdd_lightning.errors import ConfigError, suggest

MOST_NAMES: Final = 15
"""Names that a message may list; nobody reads more."""


def import_exported() -> None:
    """Import what packages export and import late themselves: options take their classes by short names."""
    for package in (datamodules, networks):
        for name in package.__all__:
            getattr(package, name)


def fault_of(given: str, base: type) -> str | None:
    """What keeps a class from being used, and the remedy.

    Args:
        given: What was given as the class: the name of one of ours, or an import path.
        base: The class that it must extend.

    Returns:
        None if the class itself can be used, so that the mistake lies elsewhere.
    """
    module_name, _, name = given.rpartition(".")
    if not module_name:
        known = any(cls.__name__ == given for cls in subclasses(base))
        return None if known else f"this is not {_article(base)}{offer(given, base)}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if not f"{module_name}.".startswith(f"{missing}."):
            return f"{module_name} needs the module {missing}, which is not installed: install it or mend the import"
        begin = f"import paths begin at the current folder ({Path.cwd()}) or at an installed package"
        return f"there is no module {missing}; {begin}{offer(given, base)}"
    except Exception as error:
        return failed_import(error) or f"{module_name} cannot be imported ({error}); mend it"
    return _fault_in(module, name, base)


def _fault_in(module: ModuleType, name: str, base: type) -> str | None:
    """See :func:`fault_of`, for a class in a module that can be imported."""
    found = getattr(module, name, None)
    if found is None:
        near = [key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, base)]
        return f"{module.__name__} has no {name}{suggest(name, near)}{offer(name, base)}"
    if not inspect.isclass(found) or not issubclass(found, base):
        return f"this is not a subclass of {_public_path(base)}{offer(name, base)}"
    if inspect.isabstract(found):
        return f"{name} cannot be used without {join(_missing(found))}: define what is missing in it"
    return None


def _missing(cls: type) -> list[str]:
    """What a class would have to define to be used."""
    return sorted(name for name, value in inspect.getmembers(cls) if getattr(value, "__isabstractmethod__", False))


def failed_import(error: Exception) -> str | None:
    """Where and why the import of a file failed; None if the error did not come from an import."""
    if isinstance(error, SyntaxError):
        file, line, text = error.filename, error.lineno, error.msg
    else:
        # The innermost file in the middle of being imported; what it calls may be anywhere.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
        if not frames:
            return None
        file, line, text = frames[-1].filename, frames[-1].lineno, str(error)
    return f"{file}, line {line} cannot be imported ({type(error).__name__}: {text}); mend it there"


@contextmanager
def explained_imports() -> Iterator[None]:
    """Turn the failing import of a file that an option names into one line.

    Raises:
        ConfigError: Naming file and line.
    """
    try:
        yield
    except Exception as error:
        reason = None if isinstance(error, ConfigError) else failed_import(error)
        if reason is None:
            raise
        raise ConfigError(f"a class_path names a class in a file with a mistake: {reason}") from error


def class_of(hint: Any, packages: Sequence[str] = ("pdd_lightning",)) -> type | None:
    """The class of ours that an option takes, also where it may be null or a list.

    Args:
        hint: Type of the option.
        packages: What counts as ours.
    """
    if inspect.isclass(hint) and _top(hint) in packages:
        return hint
    return next((found for part in get_args(hint) if (found := class_of(part, packages)) is not None), None)


def offer(given: str, base: type) -> str:
    """The classes to choose from, as the end of a message."""
    names = sorted(cls.__name__ for cls in subclasses(base) if not inspect.isabstract(cls))
    which = f"choose {join(names, 'or')}" if len(names) <= MOST_NAMES else f"name a {base.__name__} of {_top(base)}"
    return f"{suggest(given, names)}; {which}, or give the import path of a class of your own"


def _article(base: type) -> str:
    return f"{'an' if base.__name__[0] in 'AEIOU' else 'a'} {base.__name__} that can be imported"


def _public_path(base: type) -> str:
    """Where users import a base class from: its package exports it."""
    package = base.__module__.rpartition(".")[0]
    exported = getattr(importlib.import_module(package), base.__name__, None) is base
    return f"{package if exported else base.__module__}.{base.__name__}"


def _top(cls: type) -> str:
    """The package that a class is from, as it is installed."""
    return cls.__module__.partition(".")[0]


def subclasses(base: type) -> set[type]:
    """The classes below one in its own package; those of others may have names of their own.

    Args:
        base: A class of ours.
    """
    below: list[type] = base.__subclasses__()
    direct = {cls for cls in below if _top(cls) == _top(base) and not cls.__name__.startswith("_")}
    return direct.union(*(subclasses(cls) for cls in direct))
