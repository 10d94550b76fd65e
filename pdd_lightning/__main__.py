"""`python -m pdd_lightning` and `pdd-cli`: the command line with what belongs to a process of its own."""

import io
import os
import sys

from pdd_lightning.cli.main import main as command_line
from pdd_lightning.process.signals import PARENT_VARIABLE, Interrupted, follow_parent, leave, listen, say_stopped


def main() -> None:
    """Do what the arguments of the process say; signals end it in good order."""
    try:
        encode_anything()
        listen()
        follow_parent()
        # Children, such as Lightning's for the other devices, follow this process in turn.
        os.environ[PARENT_VARIABLE] = str(os.getpid())
        # As for `python -m`: classes of the user's own are named by where they are imported from.
        sys.path.insert(0, os.getcwd())
        command_line()
    except Interrupted as stop:
        leave(say_stopped(stop.name))


def encode_anything() -> None:
    """Print what the terminal's encoding lacks by its number, rather than fail when all work is done."""
    for stream in (sys.stdout, sys.stderr):
        # Other handlers were chosen by somebody, or by Python for a locale without an encoding.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
