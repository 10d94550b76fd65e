"""Paths from one's own home: a shell expands `~` in front of a word, but neither after `=` nor in a file."""

import os
import re
from argparse import Namespace
from copy import copy
from typing import Any

from pdd_lightning.errors import ConfigError


def from_home(text: str, option: str) -> str:
    """A path with the folder that its `~` stands for; other text as it is.

    Args:
        text: The value of an option.
        option: Its name, for the message.

    Raises:
        ConfigError: If it begins in the home of a user who is not known.
    """
    found = os.path.expanduser(text)
    if found == text and re.match(r"~[^/\s]+/", text):
        user = text.partition("/")[0]
        raise ConfigError(
            f"{option}={text}: there is no home {user} here; write the whole path, or ./{text} for that name"
        )
    return found


def all_from_home(config: Any, option: str = "-") -> Any:
    """A configuration to make the parts from; the one that was given stays as it is, to be recorded.

    Every option is looked at, for the parts of others have paths too, such as a logger's `save_dir`.

    Args:
        config: Namespaces, lists, dicts and values.
        option: Its dotted name, for messages.

    Raises:
        ConfigError: See :func:`from_home`.
    """
    if isinstance(config, Namespace):
        # Values before sections: those of the run are linked into the model, where nobody writes them.
        items = sorted(vars(config).items(), key=lambda item: isinstance(item[1], Namespace))
        expanded = copy(config)
        for key, value in items:
            vars(expanded)[key] = all_from_home(value, _below(option, key))
        return expanded
    if type(config) is dict:
        return {key: all_from_home(value, _below(option, key)) for key, value in config.items()}
    if type(config) in (list, tuple):
        return type(config)(all_from_home(value, option) for value in config)
    return from_home(config, option) if isinstance(config, str) else config


def _below(option: str, key: Any) -> str:
    """The name of an option within another one, as users write it."""
    return option if key == "init_args" else f"--{key}" if option == "-" else f"{option}.{key}"
