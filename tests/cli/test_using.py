"""The example that trains on a finished run."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, environment

SCRIPT = ROOT / "examples" / "use_distilled_set.py"


def use(folder: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, str(SCRIPT), *args]
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def test_any_run_can_be_used_as_it_says(two_stages: Path, tmp_path: Path) -> None:
    """Its network, augmentation, recipe and data are not those of the sample."""
    done = use(tmp_path, str(two_stages), "--pictures", "mine.png")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(", accuracy")[0] for line in lines] == [
        "after stage 1: 10 images",
        "after stage 2: 20 images",
        "pictures: mine.png",
    ]
    assert (tmp_path / "mine.png").is_file()


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    done = use(tmp_path, "nowhere")
    assert done.returncode == 2
    assert "error: nowhere does not exist: give the folder of a run" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_pictures_that_cannot_be_written_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    for pictures in ("no/such.png", "mine"):
        done = use(tmp_path, "nowhere", "--pictures", pictures)
        assert done.returncode == 2
        assert f"error: --pictures={pictures}: name a file" in done.stderr
