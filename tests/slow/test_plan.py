"""A plan is near what the run then takes: within 30 %, on a machine that does nothing else meanwhile."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pdd_lightning.store.files import folder_bytes

ROOT = Path(__file__).parents[2]
WITHIN = 0.3
LIBRARIES = 400 * 2**20
"""Bytes of libraries that a plan's process has loaded, and that a copy of `run` need not touch."""


def call(command: str, config: str, run: Path) -> float:
    """Do it in processes of its own; returns their seconds."""
    began = time.perf_counter()
    path = ROOT / "configs" / config / "stage.yaml"
    line = [sys.executable, "-m", "pdd_lightning", command, "--config", str(path), "--run_dir", str(run)]
    subprocess.run(line, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - began


@pytest.mark.slow
@pytest.mark.parametrize("config", ["smoke", "quickstart"])
def test_a_plan_is_near_the_truth(config: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call("plan", config, run)
    plan: dict[str, Any] = json.loads((run / "plan.json").read_text())["total"]
    seconds = call("run", config, run)
    notes = [json.loads(path.read_text()) for path in run.rglob("usage.json")]
    truth = {
        "seconds": seconds,
        "host_bytes": max(note["peak_memory"]["host"] for note in notes),
        "disk_bytes": folder_bytes(run) - (run / "plan.json").stat().st_size,
    }
    ratios = {name: plan[name] / value for name, value in truth.items()}
    assert plan["host_bytes"] - truth["host_bytes"] < LIBRARIES
    ratios["host_bytes"] = min(ratios["host_bytes"], 1.0)
    assert all(1 - WITHIN <= ratio <= 1 + WITHIN for ratio in ratios.values()), ratios
