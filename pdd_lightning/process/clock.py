"""How long this process has been at work for its command."""

import os
import time
from pathlib import Path

from pdd_lightning.process.forks import can_fork


class _Command:
    """When the present command began; the first one of a process began with the process."""

    def __init__(self) -> None:
        self.began = time.perf_counter() - _age()
        self.imported: float | None = None


def _age() -> float:
    """Seconds since this process was started, as Linux counts them; elsewhere its CPU time so far."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, float(Path("/proc/uptime").read_text().split()[0]) - started)
    except (OSError, ValueError, IndexError):
        return time.process_time()


_COMMAND = _Command()


def begin_command() -> None:
    """A command begins; a second one in a process must not count the time of the first."""
    now = time.perf_counter()
    if _COMMAND.imported is None:
        _COMMAND.imported = now - _COMMAND.began
    else:
        _COMMAND.began, _COMMAND.imported = now, 0.0


def since_start() -> float:
    """Seconds since the process was started for this command: the interpreter and all imports count."""
    return time.perf_counter() - _COMMAND.began


def importing() -> float:
    """Seconds of :func:`since_start` before the command began; none for a later command of the process."""
    return _COMMAND.imported or 0.0


def later_start(start: float) -> float:
    """Seconds until a later command of the run is ready, where this one took so many."""
    return start - importing() if can_fork() else start
