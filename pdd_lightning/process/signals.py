"""Signals that ask a process to stop: what is worth keeping is saved first, and the exit status says "resume me".

Imports no torch: `run` uses it while it waits.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from pdd_lightning.process.ranks import started_by_lightning

RESUME: Final = 75
"""Exit status of a command that was asked to stop and saved its state: run the same command again (EX_TEMPFAIL)."""


SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
"""What asks for a stop: SLURM and container runtimes, Ctrl-C, SLURM's warning of the time limit, a lost terminal."""


BURST: Final = 2.0
"""Seconds within which several signals count as one: a terminal's Ctrl-C may come from `run` a second time."""


AGAIN: Final = 0.05
"""Seconds after which a signal is raised again that struck where nothing can be raised."""


PARENT_VARIABLE: Final = "PDD_PARENT"
"""Environment variable with the process that a command must not outlive."""


class Interrupted(BaseException):
    """A signal asked for a stop. Not an Exception, as KeyboardInterrupt is none: nobody handles it on the way."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Inbox:
    """What this process was asked."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.deferred = 0
        self.last = float("-inf")

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now, before = time.monotonic(), self.last
        self.last = now
        if self.name is None or now - before > BURST:
            self.name = self.name or signal.Signals(number).name
            if not self.deferred:
                raise Interrupted(self.name)


_inbox = _Inbox()


def listen() -> None:
    """Take the signals from here on: each raises `Interrupted` in the main thread, except while :func:`deferred`.

    What the caller of this process made ignored stays ignored, as `nohup` and background jobs of a shell do.

    Raises:
        Interrupted: By a signal that came since the process was started, if it was :func:`held_back`.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _inbox)
    _inbox.deferred = 0  # a process that is forked within :func:`deferred` is not within it
    before = sys.unraisablehook

    def unraisable(found: "sys.UnraisableHookArgs") -> None:
        """In a destructor, or where a weak reference calls back, Python ends the exception that a signal raises."""
        if isinstance(found.exc_value, Interrupted):
            _inbox.last = float("-inf")
            threading.Timer(AGAIN, os.kill, (os.getpid(), signal.Signals[found.exc_value.name])).start()
        else:
            before(found)

    sys.unraisablehook = unraisable
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def listening(again: str) -> Iterator[None]:
    """Take the signals while the block lasts, inside a program of somebody else's, such as a notebook.

    Outside the main thread, where Python hands out no signals, and in a process that listens already, the block is done
    as it is.

    Args:
        again: What continues the block, for the user.

    Raises:
        KeyboardInterrupt: After a signal, once what is worth keeping is saved; unless the program handles that signal
            in a way of its own, which ends it by default.
    """
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not _inbox
    handlers, hook = {number: signal.getsignal(number) for number in SIGNALS}, sys.unraisablehook
    try:
        if mine:
            listen()
        yield
    except Interrupted as stop:
        stopped = stop
    else:
        return
    finally:
        if mine:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            sys.unraisablehook = hook
            _inbox.name, _inbox.last = None, float("-inf")
    if not mine and signal.getsignal(signal.SIGINT) is _inbox:
        raise stopped
    # Handlers that the program has keep their say; Python's own would raise without a word.
    found = signal.Signals.__members__.get(stopped.name)
    if mine and found is not None and handlers[found] is not signal.default_int_handler:
        signal.raise_signal(found)
    raise KeyboardInterrupt(f"stopped by {stopped.name}; {again} to continue") from None


@contextmanager
def held_back() -> Iterator[None]:
    """Start processes of ours in which signals wait for :func:`listen`: before it they would end without a word."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pending() -> str | None:
    """The name of the signal that asked for a stop, if one did."""
    return _inbox.name


def heed() -> None:
    """Stop before the next piece of work, where signals are noted and not raised.

    Raises:
        Interrupted: If one asked for a stop.
    """
    if (name := pending()) is not None:
        raise Interrupted(name)


def are_deferred() -> bool:
    """Whether signals are noted at present, and not raised."""
    return _inbox.deferred > 0


@contextmanager
def deferred() -> Iterator[None]:
    """Note signals without raising: whoever enters asks :func:`pending` where it can stop in good order."""
    _inbox.deferred += 1
    try:
        yield
    finally:
        _inbox.deferred -= 1


def follow_parent(environment: Mapping[str, str] = os.environ, interval: float = 0.5, grace: float = 30.0) -> None:
    """Ask this process to stop when the one that started it is gone, also where that was killed without warning.

    A child that went on alone would hold the run's folder, or wait for a process that never comes.

    Args:
        environment: Names the parent; without a name there is nothing to follow.
        interval: Seconds between two looks.
        grace: Seconds before the process is ended without saving.
    """
    expected = environment.get(PARENT_VARIABLE, "")
    if not expected.isdigit():
        return
    parent = int(expected)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(RESUME)

    threading.Thread(target=watch, daemon=True, name="follow-parent").start()


def say_stopped(name: str) -> int:
    """Say that a signal ended the command, and put a SLURM job back into the queue; returns the exit status.

    Args:
        name: Of the signal.
    """
    print(f"pdd-cli: stopped by {name}; run the same command again to continue", file=sys.stderr)
    requeue(name)
    # Lightning kills the first process when another one ends with a status; that of the first one says it all.
    return 0 if started_by_lightning() else RESUME


def leave(status: int) -> NoReturn:
    """End the process; at once if others may wait for it, for closing their group waits for them in turn.

    Args:
        status: Its exit status.

    Raises:
        SystemExit: With the status, from a process that works alone.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        raise SystemExit(status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def requeue(name: str, environment: Mapping[str, str] = os.environ) -> None:
    """Put a SLURM job back into the queue after its warning, as Lightning's own handler would.

    Args:
        name: The signal that asked for the stop; only SIGUSR1 is a warning before the time limit.
        environment: SLURM's variables.
    """
    job = environment.get("SLURM_ARRAY_JOB_ID")
    job = f"{job}_{environment.get('SLURM_ARRAY_TASK_ID', '')}" if job else environment.get("SLURM_JOB_ID", "")
    first = environment.get("SLURM_PROCID", "0") == "0" and environment.get("LOCAL_RANK", "0") == "0"
    wanted = environment.get("PDD_REQUEUE", "1") != "0"
    if name != "SIGUSR1" or not first or not wanted or not job.replace("_", "").isdigit():
        return
    program = shutil.which("scontrol")
    if program is None:
        print("pdd-cli: scontrol is not in PATH: the job is not requeued; submit it again", file=sys.stderr)
        return
    code = subprocess.run([program, "requeue", job], check=False).returncode
    outcome = "requeued" if code == 0 else f"not requeued (scontrol gave status {code}); submit it again"
    print(f"pdd-cli: SLURM job {job} is {outcome}", file=sys.stderr)
