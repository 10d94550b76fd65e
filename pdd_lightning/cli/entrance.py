"""The command line of a process: its arguments, its signals, and how it ends. Imports no torch."""

import io
import os
import sys
from importlib import import_module

from pdd_lightning.process.signals import PARENT_VARIABLE, Interrupted, follow_parent, leave, listen, say_stopped


def enter() -> None:
    """Do what the arguments of the process say; signals end it in good order."""
    try:
        encode_anything()
        listen()
        follow_parent()
        # Children, such as Lightning's for the other devices, follow this process in turn.
        os.environ[PARENT_VARIABLE] = str(os.getpid())
        # As for `python -m`: classes of the user's own are named by where they are imported from.
        if sys.path[:1] != [os.getcwd()]:  # a copy of a process has it already
            sys.path.insert(0, os.getcwd())
        import_module("pdd_lightning.cli.main").main()
    except Interrupted as stop:
        leave(say_stopped(stop.name))


def encode_anything() -> None:
    """Print what the terminal's encoding lacks by its number, rather than fail when all work is done."""
    for stream in (sys.stdout, sys.stderr):
        # Other handlers were chosen by somebody, or by Python for a locale without an encoding.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
