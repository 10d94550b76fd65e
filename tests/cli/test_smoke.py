"""The smoke configuration as a user starts it: files, results and logs are as promised."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import call
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main
from pdd_lightning.store.files import read_tensors
from pdd_lightning.store.folders import RunFolder

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "smoke" / "stage.yaml"


def do_run(run: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pdd_lightning", "run", "--config", str(CONFIG), "--run_dir", str(run)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=run.parent,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("smoke") / "run"
    printed = do_run(run)
    assert "stage 1 of 2 is complete" in printed.stderr
    assert "stage 2 of 2 is complete" in printed.stderr
    assert "Results" in printed.stdout
    assert "Traceback" not in printed.stderr
    assert "Warning" not in printed.stderr
    return run


def rows(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "evaluation" / "results.json").read_text())["rows"]
    return found


def test_files_are_as_promised(run: Path) -> None:
    folder = RunFolder(run)
    assert folder.completed(2) == 2
    for number in (1, 2):
        stage = folder.stage(number)
        tensors, _ = read_tensors(stage.synthetic, ("images", "labels", "learning_rate"))
        assert tensors["images"].shape == (10, 1, 8, 8)
        assert stage.end_states.is_file()
        assert stage.pictures.is_file()
        assert stage.config.is_file()
        assert not stage.last_good.exists()
        assert not stage.transition.exists()
    assert len(list(folder.experts.glob("*/expert_*.safetensors"))) == 4
    assert folder.preprocessing.is_file()
    assert folder.evaluation.page.is_file()
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp")]


def test_the_page_names_all_that_is_left(run: Path) -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    tree = page.partition("## What a run leaves")[2].partition("## ")[0]
    for folder in (run, run / "evaluation", run / "stage_01"):
        prefix = "" if folder == run else f"{folder.name}/"
        left = [path.name for path in folder.iterdir() if not path.name.startswith("stage_0")]
        assert [name for name in left if f"{prefix}{name}" not in tree] == []


def test_results_are_complete(run: Path) -> None:
    found = rows(run)
    keys = {"name", "order", "network", "stage", "images_per_class", "accuracies", "mean", "std", "protocol"}
    assert all(keys <= row.keys() for row in found)
    assert [(row["name"], row["stage"]) for row in found] == [("random", None), ("pdd", 1), ("pdd", 2), ("full", None)]
    assert [row["images_per_class"] for row in found] == [2, 1, 2, None]
    assert all(len(row["accuracies"]) == 2 and row["protocol"] == "held-out" for row in found)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def tags(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = events(folder).Tags()
    return found


def test_tensorboard_holds_the_development(run: Path) -> None:
    logs = RunFolder(run).tensorboard
    for name in ("stage_01", "stage_02"):
        found = tags(logs / name)
        assert {"loss", "alpha"} <= set(found["scalars"])
        assert found["images"]
    accuracy = events(logs / "stages").Scalars("validation accuracy/mean")
    assert [event.step for event in accuracy] == [1, 2]


def test_a_finished_run_is_read_from_disk(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ("stage_01", "stage_02", "experts", "evaluation/rows")
    before = {path: path.stat().st_mtime_ns for part in parts for path in (run / part).rglob("*")}
    results = rows(run)
    monkeypatch.setattr(children, "call", call)
    main(["run", "--config", str(CONFIG), "--run_dir", str(run)])
    printed = capsys.readouterr().err
    assert "nothing to do" in printed
    assert "networks" not in printed  # none was trained
    assert {path: path.stat().st_mtime_ns for part in parts for path in (run / part).rglob("*")} == before
    assert rows(run) == results
