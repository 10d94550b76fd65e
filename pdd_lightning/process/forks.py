"""Processes that begin with all that is in this one's memory: they start at once, and import nothing anew.

Imports no torch.
"""

import multiprocessing
import sys
import warnings
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Final

from pdd_lightning.process.signals import held_back

_DRIVERS: Final = ("nvidia*", "kfd", "dxg", "accel*", "davinci*")
"""What drivers of accelerators put into /dev: their libraries do not survive a fork."""


def can_fork(devices: Path = Path("/dev")) -> bool:
    """Whether a process may be forked once libraries are imported: on Linux, and without an accelerator."""
    return sys.platform == "linux" and not any(found for name in _DRIVERS for found in devices.glob(name))


def fork(target: Callable[..., object], *args: Any, daemon: bool = False) -> ForkProcess:
    """Start a process in which signals wait for :func:`pdd_lightning.process.signals.listen`.

    Args:
        target: What it does.
        args: Arguments of the target.
        daemon: Whether it is ended with this process, and starts none itself.
    """
    process = multiprocessing.get_context("fork").Process(target=target, args=args, daemon=daemon)
    with held_back(), warnings.catch_warnings():
        # Threads of this process wait, and are not missed by the other one.
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
        process.start()
    return process
