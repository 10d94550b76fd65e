"""The most memory that this process held, on the host and on an accelerator."""

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch


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
