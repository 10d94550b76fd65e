"""The process's allocator, and how much memory there is."""

import ctypes
import mmap
import sys
from pathlib import Path

import psutil
import torch
from torch import Tensor

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Let glibc hold on to large blocks that are freed, instead of returning them to the system.

    By default every activation beyond 128 KiB is mapped anew and its pages are faulted in one by one; training on
    the CPU then spends much of its time in the kernel.

    Returns:
        Whether the C library took the settings; others than glibc know no such call.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    largest = 2**30  # the parameter is a C int
    return bool(mallopt(_MMAP_THRESHOLD, largest)) and bool(mallopt(_TRIM_THRESHOLD, largest))


def block(rows: int, like: Tensor) -> Tensor:
    """Memory for copies of a vector that outlive much other work.

    On the CPU it is a mapping of its own. In the heap, a block that comes and goes with every iteration is split by
    what is allocated in between, and the next one makes the heap grow.

    Args:
        rows: How many copies.
        like: The vector, shape (P,).

    Returns:
        Shape (rows, P), not initialised.
    """
    if sys.platform == "win32" or like.device.type != "cpu" or not rows * len(like):
        return like.new_empty(rows, len(like))
    mapped = mmap.mmap(-1, rows * like.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(mapped, dtype=like.dtype).view(rows, -1)


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated on a device, within the limit of the process's control group where there is one."""
    if device.type == "cuda":
        # What PyTorch has reserved and does not use is free for PyTorch.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    available = int(psutil.virtual_memory().available)
    try:
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # no such file, or no limit: "max"
        return available
    return max(0, min(available, limit - used))
