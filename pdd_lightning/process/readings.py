"""How long this process has been at work, how much memory it took, and how much a folder holds."""

import ctypes
import gc
import os
import resource
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch


class _Command:
    """When the present command began; the first one of a process began with the process."""

    def __init__(self) -> None:
        self.began = time.perf_counter() - _age()
        self.first = True


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
    if not _COMMAND.first:
        _COMMAND.began = time.perf_counter()
    _COMMAND.first = False


def since_start() -> float:
    """Seconds since the process was started for this command: the interpreter and all imports count."""
    return time.perf_counter() - _COMMAND.began


def host_peak() -> int:
    """Most memory that this process ever held, in bytes: the resident set, with libraries and files it has mapped."""
    try:
        # Not ru_maxrss, which on Linux begins at the size of the process that started this one.
        text = Path("/proc/self/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def device_peak(device: torch.device) -> int | None:
    """Most memory that PyTorch took of an accelerator, in bytes; None on the CPU."""
    # Not what tensors had: between its plays, a recording's memory belongs to none.
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def forget_peaks(device: torch.device) -> None:
    """Measure peaks from here on, without what earlier work has left; on the host, where Linux lets a process do so."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM; see proc(5)
    if device.type == "cuda" and torch.cuda.max_memory_reserved(device):  # before its first use CUDA knows no device
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, int | None]:
    """Both peaks, ready for JSON."""
    return {"host": host_peak(), "device": device_peak(device)}


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if there is none."""
    total = 0
    for path in folder.rglob("*"):
        # Another run that shares the folder may take a temporary file away.
        with suppress(FileNotFoundError):
            status = path.stat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
