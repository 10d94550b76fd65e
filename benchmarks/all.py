"""All benchmarks of a CPU in one run, and one table of them.

python benchmarks/all.py --quick --json   # a third of the time, with fewer repetitions and steps
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from growth import WALK, of_stages
from harness import Settings, measure, ratios
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PEER: Settings = {"size": 32, "width": 128, "device": "cpu", "threads": None}
COMPILED: Settings = {**WALK, "width": 128, "way": "compile"}
DIGITS: Settings = {"size": 8, "threads": 1}  # as their configurations have it
EXPERTS: Settings = {"networks": CORES, "precision": "float32", "compile": True, "processes": CORES}

ROWS: dict[str, tuple[str, Settings, Settings]] = {
    "walk_20x50": ("trajectory.py", {**COMPILED, "images": 20, "syn_steps": 50}, {"syn_steps": 50}),
    "walk_100x20": ("trajectory.py", {**COMPILED, "images": 100, "syn_steps": 20}, {"syn_steps": 20}),
    "walk_digits": ("trajectory.py", {**WALK, **DIGITS, "images": 30, "syn_steps": 20, "way": "store"}, {}),
    "experts": (
        "experts.py",
        {**EXPERTS, "images": 5120, "epochs": 1, "batch_size": 256, "workers": 2},
        {"images": 3072},
    ),
    "transition": (
        "experts.py",
        {**EXPERTS, "images": 100, "epochs": 50, "batch_size": 256, "workers": 0},
        {"epochs": 25},
    ),
    "evaluation": (
        "evaluation.py",
        {"images": 100, "networks": 5, "epochs": 40, "compile": True, "processes": CORES},
        {"epochs": 25},
    ),
    "gradient_matching": ("gradient_matching.py", {"ipc": 10, "real_batch_size": 64, "compile": True}, {}),
    "augmentation": ("augmenting.py", {**DIGITS, "images": 30, "steps": 300, "channels": 1, "width": 32}, {}),
    "data": ("data.py", {"images": 10000, "batch_size": 256, "workers": 2}, {"images": 5000}),
    "start_up": ("start_up.py", {}, {}),
}
"""The benchmark of each row, its settings, and those that a quick run has in their place."""


def row(name: str, quick: bool) -> dict[str, Any]:
    """What both sides of a row take."""
    benchmark, settings, less = ROWS[name]
    repeats = {"repeats": 1 if quick else 3}
    return ratios(str(HERE / benchmark), {**PEER, **settings, **(less if quick else {}), **repeats})


def stages(quick: bool) -> float:
    """Seconds of a walk of the fifth stage in those of the first."""
    common = {**WALK, "device": "cpu", "threads": None, "repeats": 3 if quick else 7}
    _, benchmark, _, changes = of_stages()
    first, last = (
        measure(str(HERE / benchmark), {**common, **change})["seconds"] for change in (changes[0], changes[-1])
    )
    return round(last / first, 3)


def table(found: dict[str, dict[str, Any]], growth: float | None) -> Table:
    """For people."""
    made = Table("benchmark", *("ours", "reference", "ratio", "memory: ours", "reference"))
    for name, values in found.items():
        sides = values["ours"], values["reference"]
        seconds, memory = (
            [f"{side['seconds']:.2f} s" for side in sides],
            [f"{side['peak_mb']:.0f} MB" for side in sides],
        )
        made.add_row(name, *seconds, f"{values['time_ratio']:.2f}", *memory)
    if growth is not None:
        made.add_row("stage 5 / stage 1", "", "", f"{growth:.2f}")
    return made


def main(args: Sequence[str] | None = None) -> None:
    """Print the table, and a line of JSON where that is asked for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="Fewer steps and repetitions.")
    options.add_argument("--json", action="store_true", help="End with a line of JSON.")
    options.add_argument("--only", nargs="+", choices=[*ROWS, "stages"], default=[*ROWS, "stages"])
    given = options.parse_args(args)
    console, results = Console(), dict[str, dict[str, Any]]()
    for name in given.only:
        if name != "stages":
            results[name] = row(name, given.quick)
            console.print(f"{name}: {results[name]['time_ratio']}", highlight=False)
    growth = stages(given.quick) if "stages" in given.only else None
    console.print(table(results, growth))
    if given.json:
        parts = {
            name: {
                "ours": values["ours"]["seconds"],
                "reference": values["reference"]["seconds"],
                "ratio": values["time_ratio"],
                "memory_ratio": values["memory_ratio"],
            }
            for name, values in results.items()
        }
        print(json.dumps({**parts, **({} if growth is None else {"stage5_over_stage1": growth})}))


if __name__ == "__main__":
    main()
