"""The one way in: finds the command, and turns every mistake into one line.

Imports no torch; each command imports what it needs.
"""

import sys
from collections.abc import Sequence

from pdd_lightning.cli.commands import COMMANDS, Command, about
from pdd_lightning.cli.help import asked, show
from pdd_lightning.cli.shipped import found
from pdd_lightning.cli.strict_yaml import refuse_unreadable
from pdd_lightning.cli.suggestions import join, nearest
from pdd_lightning.cli.unknown import refuse_unknown
from pdd_lightning.errors import ConfigError
from pdd_lightning.process.failures import end
from pdd_lightning.process.quiet import quiet
from pdd_lightning.process.ranks import check_numbers


def main(args: Sequence[str] | None = None) -> None:
    """The command line, as a function: ``main(["fit", "--config", "configs/smoke/stage.yaml"])``.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        SystemExit: With a status other than 0: 2 after a mistake that the user can mend, of which one line on the
            standard error tells.

    Example:
        >>> main(["--help"])
        usage: pdd-cli COMMAND --config FILE [--OPTION VALUE ...]
        ...
        >>> main(["--version"])
        pdd-cli ...
    """
    arguments = sys.argv[1:] if args is None else [str(arg) for arg in args]
    if (text := about(arguments)) is not None:
        print(text, end="")
        return
    quiet()
    status = 0
    try:
        check_numbers()
        command = _find(arguments[0])
        if command.configured and (topic := asked(arguments[1:])) is not None:
            show(arguments[0], topic)
            return
        given = found(arguments[1:])
        refuse_unreadable(given)
        if command.configured:
            refuse_unknown(given, arguments[0])
        status = command.load()(given)
    except Exception as error:
        end(error)
    if status:
        raise SystemExit(status)


def _find(name: str) -> Command:
    """The row of a command.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name in COMMANDS:
        return COMMANDS[name]
    if name.startswith("-"):
        raise ConfigError(f"{name}: the command comes first, as in `pdd-cli fit --config FILE`")
    near = nearest(name, COMMANDS)
    meant = f"did you mean {near}? The" if near else "the"
    raise ConfigError(f"{name}: there is no such command; {meant} commands are {join(COMMANDS)}")
