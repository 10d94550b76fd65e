"""Commands in processes of their own, for the commands that consist of several. Imports no torch."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.cli.entrance import enter
from pdd_lightning.process.clock import begin_command
from pdd_lightning.process.forks import can_fork, fork
from pdd_lightning.process.lock import LOCK_VARIABLE
from pdd_lightning.process.ranks import meeting_port
from pdd_lightning.process.signals import PARENT_VARIABLE, Interrupted, deferred, held_back

REPEAT: Final = 30.0
"""Seconds after which a child that was asked to stop and did not is asked again."""


class Child(Protocol):
    """A command at work."""

    def code(self, seconds: float | None = None) -> int | None:
        """Its exit status, negative for a signal; None if it has not ended after so many seconds."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""


class _Spawned:
    """A command in a new interpreter."""

    def __init__(self, command: str, args: Sequence[str], environment: Mapping[str, str]) -> None:
        line = [sys.executable, "-m", "pdd_lightning", command, *args]
        inherited = [int(environment[LOCK_VARIABLE].split()[0])] if LOCK_VARIABLE in environment else []
        with held_back():
            self._process = subprocess.Popen(line, env={**os.environ, **environment}, pass_fds=inherited)

    def code(self, seconds: float | None = None) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


class _Forked:
    """A command in a copy of this process, which has imported for it what takes seconds."""

    def __init__(self, command: str, args: Sequence[str], environment: Mapping[str, str]) -> None:
        COMMANDS[command].load()
        self._process = fork(_serve, command, args, environment, _calls > 1)

    def code(self, seconds: float | None = None) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode

    def send(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)


def start(command: str, args: Sequence[str], **environment: str) -> Child:
    """Begin a command in a process of its own.

    Args:
        command: Its name.
        args: Its arguments.
        environment: Variables for it, beside those of this process.
    """
    names = {**_rendezvous(), **environment, PARENT_VARIABLE: str(os.getpid())}
    return (_Forked if can_fork() else _Spawned)(command, args, names)


def call(command: str, args: Sequence[str], **environment: str) -> int:
    """Do one command in a process of its own and wait for it; the arguments are those of :func:`start`.

    Returns:
        Its exit status.

    Raises:
        Interrupted: After a signal that came too late or too early for the command to say so itself.
    """
    return result(command, start(command, args, **environment))


def result(command: str, child: Child) -> int:
    """Wait for a command.

    Args:
        command: Its name.
        child: What :func:`start` gave.

    Returns:
        Its exit status.

    Raises:
        Interrupted: See :func:`call`.
    """
    try:
        code = child.code()
    except Interrupted as stop:
        number = signal.Signals[stop.name]
        # A command that the signal came too late for is done, and so may be the run: running it again says so.
        if (code := _stop(child, number)) in (0, -number):
            raise
        return code
    assert code is not None
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    hint = {"SIGKILL": " (too little memory?)", "SIGBUS": " (a file or its disk vanished while it was read)"}
    print(
        f"pdd-cli: `{command}` was ended by {name}{hint.get(name, '')}; run the same command again to continue",
        file=sys.stderr,
    )
    return 128 - code  # a child that a signal ended has a negative code, which no shell would show as it is


@contextmanager
def beside(command: str, args: Sequence[str], **environment: str) -> Iterator[Child]:
    """Do one command while this process does others, and stop it where the block ends before it does.

    Args:
        command: Its name.
        args: Its arguments.
        environment: See :func:`start`.

    Yields:
        The command, for :func:`result`.
    """
    child = start(command, args, **environment)
    try:
        yield child
    finally:
        _stop(child, signal.SIGTERM)


def _stop(child: Child, number: signal.Signals) -> int:
    """Hand a signal on, unless it has ended, and wait until the child has saved; returns the exit status."""
    with deferred():
        code = child.code(0)
        while code is None:
            child.send(number)
            code = child.code(REPEAT)
    return code


def _serve(command: str, args: Sequence[str], environment: Mapping[str, str], again: bool) -> None:
    """What a copy of this process does; the first one counts the time that the imports took."""
    if again:
        begin_command()
    os.environ.update(environment)
    sys.argv[1:] = [command, *args]  # from which Lightning starts the processes for other devices
    enter()


_calls = 0


def _rendezvous() -> dict[str, str]:
    """A port of its own for each command, where torchrun or SLURM started one `run` for each rank.

    Each rank calls the same commands in the same order. On one port a rank that is ahead would meet the last command's
    store, whose first rank has not ended yet.
    """
    global _calls  # noqa: PLW0603 (a process has one sequence of commands)
    _calls += 1
    elastic, tasks = "TORCHELASTIC_RUN_ID" in os.environ, os.environ.get("SLURM_NTASKS", "1")
    if not elastic and tasks == "1":
        return {}
    # As Lightning does it for SLURM.
    default = 15000 + int(os.environ.get("SLURM_JOB_ID", "0")[-4:])
    port = (meeting_port() or default) + _calls
    # The agent's store serves the agent's own port only, so the first rank opens one here.
    return {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
