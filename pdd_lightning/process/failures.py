"""How a command ends after an error: one line for what the user can mend, and never a process that waits for ever.

Imports no torch: a command that needs none may fail too.
"""

import errno
import os
import re
import sys
import traceback
from types import ModuleType
from typing import Final

from pdd_lightning.errors import PDDError, one_line

_NAMES: Final = "ENOSPC EDQUOT EFBIG EROFS EACCES EPERM EIO ESTALE ENOTCONN ENODEV ENXIO"


_DISK: Final = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}
"""What a disk answers that is full, read-only, or gone."""


_LOST: Final = re.compile(
    r"gloo|nccl|connection (was )?(closed|reset|refused)|broken pipe|timed out|socket|remote process", re.IGNORECASE
)
"""What torch.distributed says when another process is gone; its errors have many types and no code."""


def ended_line(error: BaseException) -> str | None:
    """What to say of an error that needs no traceback; None for a fault of the program."""
    if isinstance(error, PDDError):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f" {error.filename}" if error.filename else ""
        return (
            f"the disk failed{where}: {error.strerror}. Free space, mend permissions or bring the folder back, then "
            "run the same command again: everything finished before is intact"
        )
    if _others() is not None and isinstance(error, RuntimeError) and _LOST.search(str(error)):
        return (
            "another process of this run ended or cannot be reached; its own message says why. Run the same command "
            f"again to continue ({one_line(error)[:160]})"
        )
    return None


def _others() -> ModuleType | None:
    """torch.distributed, if this process works together with others."""
    found = sys.modules.get("torch.distributed")
    together = found is not None and found.is_available() and found.is_initialized() and found.get_world_size() > 1
    return found if together else None


def end(error: Exception) -> None:
    """Say what went wrong and end, at once where others may wait for this process.

    Args:
        error: What the command raised.

    Raises:
        SystemExit: With status 2 after a mistake or a state that the user can mend.
        Exception: The error itself if it is a fault of the program, for its traceback.
    """
    line, others = ended_line(error), _others()
    if others is None:
        if line is None:
            raise error
        print(f"pdd-cli: error: {line}", file=sys.stderr)
        raise SystemExit(2) from None
    rank = others.get_rank()
    if line is None:
        traceback.print_exception(error, file=sys.stderr)
        line = f"{type(error).__name__}: {one_line(error)}"
    print(f"pdd-cli: error{f' (process {rank})' if rank else ''}: {line}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not SystemExit: closing the process group waits for the others, and they would wait for this process. Its end
    # closes the connections, which they notice, as does whatever started them.
    os._exit(2 if isinstance(error, PDDError) else 1)
