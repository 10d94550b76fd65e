"""`python -m pdd_lightning` and `pdd-cli`: the command line with what belongs to a process of its own."""

import os
import sys

from pdd_lightning.cli.main import main as command_line
from pdd_lightning.process.signals import PARENT_VARIABLE, Interrupted, follow_parent, leave, listen, say_stopped


def main() -> None:
    """Do what the arguments of the process say; signals end it in good order."""
    try:
        listen()
        follow_parent()
        # Children, such as Lightning's for the other devices, follow this process in turn.
        os.environ[PARENT_VARIABLE] = str(os.getpid())
        # As for `python -m`: classes of the user's own are named by where they are imported from.
        sys.path.insert(0, os.getcwd())
        command_line()
    except Interrupted as stop:
        leave(say_stopped(stop.name))


if __name__ == "__main__":
    main()
