"""Commands in processes of their own, for the commands that consist of several. Imports no torch."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from pdd_lightning.process.lock import LOCK_VARIABLE
from pdd_lightning.process.signals import PARENT_VARIABLE, Interrupted, deferred, held_back

REPEAT = 30.0
"""Seconds after which a child that was asked to stop and did not is asked again."""


def call(command: str, args: Sequence[str], **environment: str) -> int:
    """Do one command in a process of its own and wait for it.

    Args:
        command: Its name.
        args: Its arguments.
        environment: Variables for it, beside those of this process.

    Returns:
        Its exit status.

    Raises:
        Interrupted: After a signal that came too late or too early for the command to say so itself.
    """
    line = [sys.executable, "-m", "pdd_lightning", command, *args]
    inherited = [int(environment[LOCK_VARIABLE].split()[0])] if LOCK_VARIABLE in environment else []
    names = {**os.environ, **_rendezvous(), **environment, PARENT_VARIABLE: str(os.getpid())}
    child = None
    try:
        with held_back():
            child = subprocess.Popen(line, env=names, pass_fds=inherited)
        code = child.wait()
    except Interrupted as stop:
        number = signal.Signals[stop.name]
        # A command that the signal came too late for is done, and so may be the run: running it again says so.
        if child is None or (code := _stop(child, number)) in (0, -number):
            raise
        return code
    if code >= 0:
        return code
    name = signal.Signals(-code).name
    hint = {"SIGKILL": " (too little memory?)", "SIGBUS": " (a file or its disk vanished while it was read)"}
    print(
        f"pdd-cli: `{command}` was ended by {name}{hint.get(name, '')}; run the same command again to continue",
        file=sys.stderr,
    )
    return 128 - code  # a child that a signal ended has a negative code, which no shell would show as it is


def _stop(child: "subprocess.Popen[bytes]", number: signal.Signals) -> int:
    """Hand a signal on and wait until the child has saved; returns the exit status."""
    with deferred():
        while child.poll() is None:
            child.send_signal(number)
            try:
                child.wait(REPEAT)
            except subprocess.TimeoutExpired:
                continue
    return child.returncode


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
    port = int(os.environ.get("MASTER_PORT", default)) + _calls
    # The agent's store serves the agent's own port only, so the first rank opens one here.
    return {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
