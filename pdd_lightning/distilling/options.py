"""From a method's name and what a caller changes to the options of a stage and of an evaluation."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Final, NoReturn, TypeVar, get_args

from pdd_lightning.described import options_of
from pdd_lightning.distilling.methods import METHODS, PartName
from pdd_lightning.errors import ConfigError, one_line, suggest
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.evaluation.row import BASELINES, ORDERS
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.types import Json

_WORDS: Final[Mapping[str, tuple[str, ...]]] = {"orders": ORDERS, "baselines": BASELINES}

Made = TypeVar("Made")


def stage_options(method: str, stages: int, changes: Mapping[str, Any]) -> Json:
    """The options of a stage.

    Args:
        method: A name of `METHODS`.
        stages: Number of stages.
        changes: Options of the stage, or of the method's dynamics and objective.

    Returns:
        Arguments of :class:`pdd_lightning.stage.options.StageOptions`.

    Raises:
        ConfigError: If the method or an option is unknown, or a value is out of range.
    """
    found = next((value for name, value in METHODS.items() if name == method), None)
    if found is None:
        raise ConfigError(f"method={method!r}: choose from {', '.join(METHODS)}")
    # A stage by itself is for those who fit by hand.
    known = {option.name: None for option in fields(StageOptions) if option.name != "stage"}
    options = {**found.options(stages), **{name: value for name, value in changes.items() if name in known}}
    left = {name: value for name, value in changes.items() if name not in known}
    offered = dict(known)
    for part in get_args(PartName):
        if part in changes:
            continue  # an object, whose options are chosen already
        cls, given = found.part(part, stages)
        mine = {name: left.pop(name) for name in options_of(cls) if name in left}
        options[part] = made(cls, {**given, **mine})
        offered.update(dict.fromkeys(options_of(cls)))
    if left:
        _refuse(next(iter(left)), f"a distillation by {method!r}", offered)
    return options


def evaluation_options(changes: Mapping[str, Any]) -> Evaluation:
    """How a run is to be scored.

    Args:
        changes: Options of :class:`pdd_lightning.evaluation.protocol.Evaluation`.

    Raises:
        ConfigError: If an option is unknown or a value out of range.
    """
    known = [option.name for option in fields(Evaluation)]
    for name in changes:
        if name not in known:
            _refuse(name, "an evaluation", known)
    for name, words in _WORDS.items():
        given = changes.get(name, ())
        if isinstance(given, str) or any(word not in words for word in given):
            raise ConfigError(f"{name}={given!r}: give a list, of {', '.join(words)}")
    return made(Evaluation, {name: list(v) if isinstance(v, tuple) else v for name, v in changes.items()})


def made(cls: Callable[..., Made], options: Mapping[str, Any]) -> Made:
    """An object of a class of ours; a value of a type that it cannot take is one line.

    Args:
        cls: The class.
        options: Its arguments.

    Raises:
        ConfigError: If it refuses them.
    """
    try:
        return cls(**options)
    except TypeError as error:
        raise ConfigError(f"an option has a value of the wrong type ({one_line(error)}); correct it") from error


def _refuse(name: str, what: str, known: Iterable[str]) -> NoReturn:
    raise ConfigError(f"{name}: {what} has no such option{suggest(name, known)}; it has {', '.join(known)}")
