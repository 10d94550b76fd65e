"""Options of the commands that read no configuration. Imports no torch."""

import re
from argparse import ArgumentParser
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.cli.suggestions import no_option
from pdd_lightning.errors import ConfigError


class PlainParser(ArgumentParser):
    """Gives a mistake as one line, as the other commands do.

    Args:
        command: Its name.
        **options: Of :class:`argparse.ArgumentParser`.
    """

    def __init__(self, command: str, **options: Any) -> None:
        super().__init__(f"pdd-cli {command}", description=COMMANDS[command].help, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`.

        Raises:
            ConfigError: Always.
        """
        if found := re.match(r"unrecognized arguments: --([^\s=]+)", message):
            names = [name.removeprefix("--") for action in self._actions for name in action.option_strings]
            raise ConfigError(no_option(found[1], names, f"{self.prog} --help"))
        raise ConfigError(f"{message}; `{self.prog} --help` describes the options")


def require_one_of(option: str, value: str, names: Iterable[str]) -> None:
    """Refuse a value that is none of some names.

    Args:
        option: As users write it.
        value: What was given.
        names: What may be given.

    Raises:
        ConfigError: With the nearest name.
    """
    known = list(names)
    if value in known:
        return
    close = get_close_matches(value, known, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(f"{option}={value}: {meant}Choose one of {', '.join(known)}")
