"""Times two ways to do the same work side by side, each in a process of its own.

Both processes prepare, then take turns: what disturbs the machine disturbs both. Memory is the peak of the process
above what it held when it was prepared.
"""

import argparse
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Settings = dict[str, Any]
Work = Callable[[], object]

MOST_THREADS = 1024
"""A number beyond it is a slip of the finger, which the system would try to make true."""

MISTAKE = 2
"""Status of a process that has said in one line what is wrong."""


def parser(description: str) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--repeats", type=count, default=3, help="Timed repetitions of a side; their median is told.")
    made.add_argument("--threads", type=_threads, default=None, help="CPU threads; PyTorch's choice by default.")
    made.add_argument("--device", type=_device, default="cpu", help="cpu, cuda or cuda:N.")
    return made


def count(text: str, least: int = 1) -> int:
    """Type of an option that is a number of things."""
    if not re.fullmatch(r"[+-]?\d+", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
    return int(text)


def natural(text: str) -> int:
    """Type of an option that is a number of things and may be 0."""
    return count(text, least=0)


def _threads(text: str) -> int:
    if count(text) > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"must be at most {MOST_THREADS}, got {text!r}")
    return int(text)


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9]\d*))?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, cuda or cuda:N, got {text!r}")
    return text


def measure(benchmark: str, settings: Settings) -> dict[str, float]:
    """What our side of a benchmark takes.

    Args:
        benchmark: Path of the benchmark's file.
        settings: All of its options.

    Returns:
        Median seconds, peak memory above the baseline in MB, and the same with the baseline.
    """
    side = _Side(Path(benchmark), "ours", settings)
    side.ask("prepare")
    side.ask("work")
    seconds = statistics.median(side.ask("work") for _ in range(settings["repeats"]))
    peak = side.ask("peak")
    in_all = peak + side.ask("baseline")
    side.close()
    return {"seconds": round(seconds, 4), "peak_mb": round(peak, 1), "in_all_mb": round(in_all, 1)}


def compare(benchmark: str, options: argparse.ArgumentParser) -> None:
    """Run both sides of a benchmark and print what they took.

    Args:
        benchmark: Path of the benchmark's file, which has functions `ours` and `reference`: settings -> work.
        options: From :func:`parser`, with the benchmark's own.
    """
    options.add_argument("--json", action="store_true", help="Print one line of JSON instead of three of text.")
    options.add_argument("--alone", action="store_true", help="One line of JSON on ours: the reference may not fit.")
    given = options.parse_args()
    settings = {key: value for key, value in vars(given).items() if key not in ("json", "alone")}
    if given.alone:
        print(json.dumps({"ours": measure(benchmark, settings), **settings}))
        return
    result = ratios(benchmark, settings)
    if given.json:
        print(json.dumps({**result, **settings}))
        return
    for name in ("ours", "reference"):
        print(f"{name:>9}: {result[name]['seconds']:9.3f} s, {result[name]['peak_mb']:9.1f} MB above the baseline")
    print(f"    ratio: {result['time_ratio']} in time, {result['memory_ratio']} in memory")


def ratios(benchmark: str, settings: Settings) -> dict[str, Any]:
    """What both sides of a benchmark take, in turns.

    Args:
        benchmark: See :func:`compare`.
        settings: All of its options.

    Returns:
        Of "ours" and of the "reference" seconds and peak memory, and the ratios of both.
    """
    sides: dict[str, _Side] = {}
    for name in ("ours", "reference"):
        sides[name] = _Side(Path(benchmark), name, settings)
        sides[name].ask("prepare")
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(settings["repeats"] + 1):
        for name, side in sides.items():
            took = side.ask("work")
            if turn:  # the first turn warms up: compilers and allocators
                seconds[name].append(took)
    result: dict[str, Any] = {
        name: {"seconds": round(statistics.median(seconds[name]), 4), "peak_mb": round(side.ask("peak"), 1)}
        for name, side in sides.items()
    }
    for side in sides.values():
        side.close()
    for key, unit in (("time_ratio", "seconds"), ("memory_ratio", "peak_mb")):
        reference = result["reference"][unit]
        result[key] = round(result["ours"][unit] / reference, 3) if reference > 0 else None
    return result


class _Side:
    """One side in a process of its own, which works when it is told to."""

    def __init__(self, benchmark: Path, side: str, settings: Settings) -> None:
        self.name = side
        code = "import sys; from harness import serve; serve(sys.argv[1], sys.argv[2], sys.argv[3])"
        arguments = [sys.executable, "-c", code, benchmark.stem, side, json.dumps(settings)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(benchmark.parent), *sys.path])}
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, what: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # it ended; there is no answer to read then
            print(what, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("="):
                return float(line[1:])
        status = self.process.wait()
        if status == MISTAKE:  # which it has told
            raise SystemExit(MISTAKE)
        raise SystemExit(f"the process of {self.name} ended with status {status}")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(benchmark: str, side: str, text: str) -> None:
    """The process of one side: answers `prepare`, `work`, `baseline` and `peak` on the standard input."""
    import torch  # noqa: PLC0415 (the parent process needs none)

    from pdd_lightning.errors import PDDError  # noqa: PLC0415

    try:
        _serve(benchmark, side, json.loads(text))
    except (PDDError, torch.OutOfMemoryError) as error:
        print(f"{benchmark}.py, {side}: {error}", file=sys.stderr)
        sys.exit(MISTAKE)


def _serve(benchmark: str, side: str, settings: Settings) -> None:
    import torch  # noqa: PLC0415

    from pdd_lightning.compute.memory import keep_freed_memory  # noqa: PLC0415
    from pdd_lightning.errors import ConfigError  # noqa: PLC0415
    from pdd_lightning.process.quiet import quiet  # noqa: PLC0415

    quiet()
    keep_freed_memory()  # both sides have the same allocator
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    device = torch.device(settings["device"])
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device={device}: PyTorch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    work: Work = lambda: None  # noqa: E731
    baseline = 0.0
    for line in sys.stdin:
        answer = 0.0
        if line.strip() == "prepare":
            work = getattr(importlib.import_module(benchmark), side)(settings)
            baseline = _memory(device, peak=False)
        elif line.strip() == "work":
            began = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            answer = time.perf_counter() - began
        elif line.strip() == "baseline":
            answer = baseline
        else:
            answer = _memory(device, peak=True) - baseline
        print(f"={answer!r}", flush=True)


def _memory(device: Any, *, peak: bool) -> float:
    """Memory in MB: of the device where that is a GPU, else of this process."""
    import psutil  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from pdd_lightning.compute.peaks import device_peak, host_peak  # noqa: PLC0415

    if device.type == "cuda":
        held = device_peak(device) or 0 if peak else torch.cuda.memory_reserved(device)
    else:
        held = host_peak() if peak else psutil.Process().memory_info().rss
    return held / 1e6
