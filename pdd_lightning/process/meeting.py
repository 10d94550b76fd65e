"""Waiting for the other processes of a run: it is said, a signal ends it, and it does not last for ever.

PyTorch waits for them in C++, where no handler of Python's runs: for as long as it takes, the process would be deaf to
everything but kill -9. A thread watches in its place. Imports no torch.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pdd_lightning.errors import ConfigError, PDDError, one_line
from pdd_lightning.process.signals import SIGNALS, say_stopped

PATIENCE: Final = 5.0
"""Seconds of waiting after which it is said."""


GRACE: Final = 1.0
"""Seconds after a signal in which the main thread may come back to it by itself."""


@contextmanager
def meeting(others: int, where: str, minutes: float, patience: float = PATIENCE) -> Iterator[None]:
    """Watch while the block waits for other processes. Nothing may be at stake in it: the process may end there.

    After a signal it ends with the status of a command that is to be run again; after too long a time with status 2.

    Args:
        others: How many are waited for.
        where: The address at which they meet.
        minutes: How long to wait at most.
        patience: Seconds after which the waiting is said.

    Raises:
        ConfigError: If they cannot meet at this address.
    """
    heard, rings = os.pipe()
    os.set_blocking(rings, False)
    before = signal.set_wakeup_fd(rings, warn_on_full_buffer=False)
    watch = _Watch(heard, others, where, minutes, patience)
    watch.start()
    try:
        yield
    except PDDError:
        raise
    except Exception as error:
        reason = one_line(error)[:300]
        raise ConfigError(
            f"{where}: the {others + 1} processes of this run cannot meet there ({reason}); "
            "mend MASTER_ADDR and MASTER_PORT, choose a port that is free, or look at what the other processes say"
        ) from error
    finally:
        signal.set_wakeup_fd(before)
        watch.over.set()
        os.close(rings)  # which wakes the thread
        watch.join()
        os.close(heard)


class _Watch(threading.Thread):
    """See :func:`meeting`, whose arguments it takes.

    Args:
        heard: Where the numbers of signals can be read.
    """

    def __init__(self, heard: int, others: int, where: str, minutes: float, patience: float) -> None:
        super().__init__(daemon=True, name="meeting")
        self.heard, self.patience, self.minutes = heard, patience, minutes
        self.whom = "the other process" if others == 1 else f"the other {others} processes"
        self.where = where
        self.over = threading.Event()

    def run(self) -> None:
        """Watch until they have met."""
        began, told = time.monotonic(), False
        while not self.over.is_set():
            waited = time.monotonic() - began
            if waited > 60 * self.minutes:
                self._give_up()
            if not told and waited > self.patience:
                told = True
                self._say(f"waiting for {self.whom} of this run at {self.where}, for {self.minutes:g} minutes at most")
            soon = 60 * self.minutes if told else self.patience
            if select.select([self.heard], [], [], max(0.0, soon - waited) + 0.01)[0]:
                self._heed(os.read(self.heard, 64))

    def _heed(self, numbers: bytes) -> None:
        """End after a signal, unless the main thread can: what it raises then is better, for it may save."""
        names = [signal.Signals(number).name for number in numbers if number in SIGNALS]
        if names and not self.over.wait(GRACE):
            status = say_stopped(names[0])
            sys.stderr.flush()
            os._exit(status)

    def _give_up(self) -> None:
        self._say(
            f"error: --wait_minutes={self.minutes:g}: {self.whom} of this run did not come to {self.where}; start all "
            "of them, look at what they say, or wait longer"
        )
        os._exit(2)

    def _say(self, line: str) -> None:
        print(f"pdd-cli: {line}", file=sys.stderr, flush=True)
