"""What can go wrong in a way the user can mend."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final


class PDDError(Exception):
    """A mistake or a state that the user can act on.

    The message names the option or file, the value found and the remedy. The command line prints it
    without a traceback and exits with status 2.
    """


class ConfigError(PDDError):
    """Options that contradict each other, the data or the network."""


class DataError(PDDError):
    """A data set that is missing, unreadable or not of the promised form."""


class ArtifactError(PDDError):
    """A file of a run that is missing, damaged or made under other settings."""


class DivergenceError(PDDError):
    """A distillation that left the domain in which its loss means anything."""


def one_line(text: object) -> str:
    """What an error or a text says, without its line breaks and indentation."""
    return " ".join(str(text).split())


_NEAR: Final = 0.6
"""How alike two names must be, from 0 to 1, for one of them to have been meant."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The known name that is closest, as a question.

    Args:
        name: What was given.
        known: What there is.

    Example:
        >>> suggest("evalute", ["fit", "evaluate"])
        ', did you mean evaluate?'
    """
    close = get_close_matches(name, list(known), n=1, cutoff=_NEAR)
    return f", did you mean {close[0]}?" if close else ""
