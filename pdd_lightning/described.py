"""What a result depends on: every option of the classes that made it, found out by one rule.

A run is continued, and what it stored is used again, only under the settings that it was made with. A setting that is
forgotten would mix two results without a word.
"""

import inspect
import sys
from contextlib import suppress
from importlib import import_module
from typing import ClassVar, TypeVar

from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.types import Json


class Described:
    """Records every option of its constructor, except those that its class lists as changing no number.

    Each option is an attribute of the same name. A class of your own that keeps it elsewhere defines `describe`.

    Example:
        >>> class Smoothed(Described):
        ...     unrecorded = ("workers",)
        ...
        ...     def __init__(self, width: int = 3, workers: int = 1) -> None:
        ...         self.width, self.workers = width, workers
        >>> Smoothed(width=5).describe()["width"]
        5
        >>> "workers" in Smoothed().describe()
        False
    """

    unrecorded: ClassVar[tuple[str, ...]] = ()
    """Options that change no number; those that a base class lists need not be listed again."""

    def describe(self) -> Json:
        """The class by the name that users import, and its options, as JSON would read them back.

        Raises:
            ConfigError: If an option is not an attribute.
        """
        cls = type(self)
        values: Json = {}
        for name in recorded_options(cls):
            if not hasattr(self, name):
                raise ConfigError(
                    f"{exported_name(cls)} does not keep its option {name!r}, so that it cannot be recorded: set "
                    f"self.{name} in __init__, name it in `unrecorded` if it changes no number, or define describe()"
                )
            values[name] = plain(getattr(self, name))
        return {"class_path": exported_name(cls), **values}


def plain(value: object) -> object:
    """A value as JSON would read it back, so that a stored description compares equal to a fresh one."""
    if isinstance(value, Described):
        return value.describe()
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return value


def options_of(cls: type) -> list[str]:
    """Names of a constructor's options, those that it hands on to its bases by ``**options`` included."""
    names: dict[str, None] = {}
    for part in cls.__mro__[:-1]:
        if "__init__" not in vars(part):
            continue
        parameters = list(inspect.signature(vars(part)["__init__"]).parameters.values())[1:]
        variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names.update({parameter.name: None for parameter in parameters if parameter.kind not in variadic})
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return list(names)


def recorded_options(cls: type) -> list[str]:
    """The options of a class that its description holds."""
    left_out = {name for part in cls.__mro__ for name in vars(part).get("unrecorded", ())}
    return [name for name in options_of(cls) if name not in left_out]


def exported_name(cls: type) -> str:
    """What a class is imported by: the package that exports it, else its module.

    A file that moves within its package then leaves finished runs as they are.

    Example:
        >>> from pdd_lightning.objectives.trajectory import TrajectoryMatching
        >>> exported_name(TrajectoryMatching)
        'pdd_lightning.objectives.TrajectoryMatching'
    """
    parts = cls.__module__.split(".")
    packages = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    home = next((name for name in packages if getattr(sys.modules.get(name), cls.__qualname__, None) is cls), None)
    return f"{home or cls.__module__}.{cls.__qualname__}"


_Base = TypeVar("_Base", bound=Described)
_Class = TypeVar("_Class")


def rebuilt(description: object, base: type[_Base]) -> _Base:
    """The object that :meth:`Described.describe` told of.

    Descriptions come from files of other people, so only classes of this package are imported for them; one of the
    user's own must have been imported already.

    Args:
        description: As it was read from a file.
        base: What it must be.

    Raises:
        ArtifactError: If its class is unknown, of another kind, or has other options.

    Example:
        >>> from pdd_lightning.networks import Architecture, ConvNet
        >>> rebuilt(ConvNet(width=8).describe(), Architecture)
        ConvNet(width=8, depth=None, norm='instance', activation='relu', pooling='average')
    """
    values = dict(description) if isinstance(description, dict) else {}
    path = str(values.pop("class_path", ""))
    cls = known_class(path, base)
    try:
        return cls(**{key: _restored(value) for key, value in values.items()})
    except (TypeError, ConfigError) as error:
        raise ArtifactError(f"made with {path} under options that it does not take here: {error}") from error


def _restored(value: object) -> object:
    """An option as a constructor takes it, from what JSON gives back; see :func:`plain`."""
    if isinstance(value, dict) and "class_path" in value:
        return rebuilt(value, Described)
    return tuple(map(_restored, value)) if isinstance(value, list) else value


def known_class(path: str, base: type[_Class]) -> type[_Class]:
    """A class that a file names: one of this package, or of a module that was imported already.

    Args:
        path: Its import path.
        base: What it must be.

    Raises:
        ArtifactError: If it is unknown, or of another kind.
    """
    module, _, name = path.rpartition(".")
    if module.startswith("pdd_lightning."):
        with suppress(ModuleNotFoundError):  # told below, as for a module of the user's own
            import_module(module)
    cls = getattr(sys.modules.get(module), name, None)
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        remedy = f"import {module} first" if module not in sys.modules else "use the release that made it"
        raise ArtifactError(f"made with {path}, which is no {base.__name__} that is known here: {remedy}")
    return cls
