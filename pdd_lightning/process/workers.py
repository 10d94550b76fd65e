"""Independent work on several CPU cores: processes that are forked, and so have all that is in memory.

Every piece is computed as one process alone would compute it, with as many threads: the number of workers changes no
digit.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, TypeVar

import torch

from pdd_lightning.errors import PDDError
from pdd_lightning.process.forks import can_fork, fork
from pdd_lightning.process.signals import (
    PARENT_VARIABLE,
    RESUME,
    Interrupted,
    follow_parent,
    heed,
    listen,
)
from pdd_lightning.progress import mute

LOOK: Final = 0.5
"""Seconds between two looks whether this process was asked to stop."""

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")

Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int], object]
"""Told of steps that are done."""


class WorkerError(PDDError):
    """A process of ours that ended without a word."""


def cores() -> int:
    """CPU cores that this process may use: those of its affinity, as far as a container's quota reaches."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    found = len(os.sched_getaffinity(0))
    if _QUOTA.is_file():
        quota, _, period = _QUOTA.read_text().partition(" ")
        if quota.isdigit():
            found = min(found, max(1, int(quota) // int(period)))
    return found


def spare(device: torch.device, world: int = 1) -> int:
    """How many processes can compute side by side, each with the threads of this one; 1 on an accelerator.

    Args:
        device: Where networks are trained.
        world: Processes that share the machine's cores already.
    """
    if device.type != "cpu" or not can_fork():
        return 1
    _start_engine()
    return max(1, cores() // torch.get_num_threads() // world)


@cache
def _start_engine() -> None:
    """Have PyTorch's engine of derivatives start now, while it knows of no device but the CPU.

    The compiler makes others known to it. An engine that starts later than that begins a thread for each, and refuses
    to work in a process that is forked.
    """
    torch.ones(1, requires_grad=True).sum().backward()  # type: ignore[no-untyped-call]


def share_out(
    work: Callable[[Item, Advance], Result], items: Sequence[Item], workers: int, advance: Advance
) -> list[Result]:
    """Do independent pieces of work, side by side where there are cores.

    Args:
        work: Does a piece, and tells of its steps. What it returns, and nothing else that it changes in memory, comes
            back from a worker.
        items: The pieces, of about the same size.
        workers: Processes at most; one does everything in this process.
        advance: Told of the steps of all pieces.

    Returns:
        What the work returned for each piece, in their order.

    Raises:
        Exception: What the work raised.
        WorkerError: If a worker was killed.
        Interrupted: If this process was asked to stop; the workers have ended by then.
    """
    workers = min(workers, len(items))
    if workers < 2:
        return [work(item, advance) for item in items]
    numbered = list(enumerate(items))
    ends, processes, found = list[Connection](), list[Any](), dict[int, Result]()
    try:
        for number in range(workers):
            receiving, sending = multiprocessing.Pipe(duplex=False)
            processes.append(fork(_serve, work, numbered[number::workers], sending, os.getpid(), daemon=True))
            sending.close()
            ends.append(receiving)
        _collect(dict(zip(ends, processes, strict=True)), advance, found)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    return [found[index] for index, _ in numbered]


def _collect(workers: "dict[Connection, Any]", advance: Advance, found: "dict[int, Any]") -> None:
    """Receive until every worker has done its share."""
    while workers:
        heed()
        for end in wait(list(workers), LOOK):
            assert isinstance(end, Connection)
            try:
                kind, value = end.recv()
            except EOFError:
                workers[end].join()
                raise _vanished(workers[end].exitcode) from None
            if kind == "steps":
                advance(value)
            elif kind == "result":
                found[value[0]] = value[1]
            elif kind == "error":
                raise value
            else:
                workers.pop(end)


def _vanished(code: int | None) -> BaseException:
    if code == RESUME:
        return Interrupted("a signal to another process of this run")
    reason = " (too little memory?)" if code == -9 else ""
    return WorkerError(
        f"a process that trained some of the networks ended with status {code}{reason}; run the same command again to "
        "continue, with --model.networks_at_once 1 to have one network trained at a time"
    )


def _serve(work: Callable[[Any, Advance], Any], items: Sequence[tuple[int, Any]], end: Connection, parent: int) -> None:
    """What a worker does; it never returns into what this process was doing when it was forked."""
    code = 1
    try:
        listen()
        follow_parent({PARENT_VARIABLE: str(parent)}, grace=5.0)
        mute()
        for index, item in items:
            end.send(("result", (index, work(item, lambda steps: end.send(("steps", steps))))))
        end.send(("done", None))
        code = 0
    except Interrupted:
        code = RESUME
    except BaseException as error:
        end.send(("error", _portable(error)))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _portable(error: BaseException) -> BaseException:
    """An error that can be sent, with where it came from."""
    where = "".join(traceback.format_exception(error))
    try:
        multiprocessing.reduction.ForkingPickler.dumps(error)
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(where)
    return error
