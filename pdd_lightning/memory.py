"""The process's allocator."""

import ctypes
import sys

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
