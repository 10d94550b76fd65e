"""The examples of distilling from Python, as they are called."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, environment

from pdd_lightning.store.folders import RunFolder

pytestmark = pytest.mark.slow


def example(name: str, run: Path, *args: str) -> str:
    line = [sys.executable, str(ROOT / "examples" / name), "--run_dir", str(run), *args]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert RunFolder(run).completed() == 2
    return done.stdout


def test_arrays_are_distilled(tmp_path: Path) -> None:
    shown = example("own_data.py", tmp_path / "run", "--iterations", "2")
    assert "2 stages: 3 + 3 images of 1x16x16, 3 classes" in shown


def test_an_objective_of_ones_own_distils(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "pdd" in example("own_objective.py", run)
    assert "then, 1 now" not in example("own_objective.py", run), "known again when it is run again"
    settings = RunFolder(run).stage(1).read_manifest().settings
    assert settings["objective"] == {"class_path": "__main__.MeanOutput", "real_batch_size": 64}


def test_stages_are_fitted_by_hand(tmp_path: Path) -> None:
    shown = example("by_hand.py", tmp_path / "run")
    assert "DistilledSet pdd, 2 stages: 10 + 10 images of 1x8x8" in shown
