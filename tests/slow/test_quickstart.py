"""The quick start keeps what the README says of it."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart" / "stage.yaml"


@pytest.mark.slow
def test_stages_improve_and_beat_a_random_subset(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "pdd_lightning", "run", "--config", str(CONFIG), "--run_dir", str(run)]
    subprocess.run(command, check=True)
    rows = json.loads((run / "evaluation" / "results.json").read_text())["rows"]
    named = {name: [row for row in rows if row["name"] == name] for name in ("random", "one-stage", "pdd", "full")}
    (random,), stages = named["random"], named["pdd"]
    assert len(named["one-stage"]) == len(named["full"]) == 1
    assert len(stages) == 3
    assert all(len(row["accuracies"]) >= 5 for row in rows)
    assert stages[-1]["mean"] - random["mean"] > stages[-1]["std"] + random["std"]
    for before, after in pairwise(stages):
        assert after["mean"] > before["mean"] - after["std"]
    assert stages[-1]["mean"] > named["one-stage"][0]["mean"]
