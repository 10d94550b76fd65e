"""`python -m pdd_lightning` and `pdd-cli`: the command line with what belongs to a process of its own."""

import os
import sys

from pdd_lightning.cli.main import main as command_line
from pdd_lightning.process.ranks import started_by_lightning
from pdd_lightning.process.signals import PARENT_VARIABLE, RESUME, Interrupted, follow_parent, leave, listen, requeue


def main() -> None:
    """Do what the arguments of the process say; signals end it in good order."""
    listen()
    try:
        follow_parent()
        # Children, such as Lightning's for the other devices, follow this process in turn.
        os.environ[PARENT_VARIABLE] = str(os.getpid())
        # As for `python -m`: classes of the user's own are named by where they are imported from.
        sys.path.insert(0, os.getcwd())
        command_line()
    except Interrupted as stop:
        print(f"pdd-cli: stopped by {stop.name}; run the same command again to continue", file=sys.stderr)
        requeue(stop.name)
        # Lightning kills the first process when another one ends with a status; that of the first one says it all.
        leave(0 if started_by_lightning() else RESUME)


if __name__ == "__main__":
    main()
