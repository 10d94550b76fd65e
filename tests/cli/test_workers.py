"""Several cores change how long a run takes, and no digit of it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import CONFIG, fit_into

from pdd_lightning.cli.main import main
from pdd_lightning.store.folders import RunFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")

FILES = ("synthetic.safetensors", "end_states.safetensors")


def made(run: Path, workers: int) -> tuple[list[bytes], list[Any]]:
    """A whole run with so many processes: its files and its accuracies."""
    args = ("--threads", "1", "--model.networks_at_once", str(workers), "--evaluation.seeds", "3")
    for _ in range(2):
        fit_into(run, *args)
    main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run), *args])
    folder = RunFolder(run)
    experts = sorted(path.read_bytes() for path in folder.experts.rglob("*.safetensors"))
    files = [(folder.stage(stage).directory / name).read_bytes() for stage in (1, 2) for name in FILES]
    rows = json.loads((folder.directory / "evaluation" / "results.json").read_text())["rows"]
    return [*experts, *files], [(row["name"], row["stage"], row["accuracies"]) for row in rows]


def test_the_number_of_workers_changes_no_digit(tmp_path: Path) -> None:
    alone, together = made(tmp_path / "alone", 1), made(tmp_path / "together", 3)
    assert len(alone[0]) > 4
    assert all(len(accuracies) == 3 for _, _, accuracies in alone[1])
    assert together == alone
