"""Killed at any moment and started again, a run ends bit for bit as one that was never interrupted."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import CONFIG as MICRO
from processes import ROOT, environment

from pdd_lightning.cli.main import main
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder

SMOKE = ROOT / "configs" / "smoke" / "stage.yaml"


def start(config: Path, run: Path) -> "subprocess.Popen[str]":
    """In a group of its own, with all the processes that it starts."""
    line = [sys.executable, "-m", "pdd_lightning", "run", "--config", str(config), "--run_dir", str(run)]
    return subprocess.Popen(
        [*line, "--threads", "1", "--checkpoint_every", "2"],
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]") -> None:
    _, printed = process.communicate(timeout=600)
    assert process.returncode == 0, printed


def results(run: Path) -> dict[str, str]:
    """Digests of everything that a finished run is for."""
    folder = RunFolder(run)
    paths = [path for k in (1, 2) for path in (folder.stage(k).synthetic, folder.stage(k).end_states)]
    paths += [folder.preprocessing, *sorted((run / "experts").rglob("expert_*")), run / "evaluation" / "results.json"]
    return {str(path.relative_to(run)): file_digest(path) for path in paths}


def kill(process: "subprocess.Popen[str]") -> str:
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[1]


PHASES = {
    "steps": "stage_01/checkpoints/step=*.ckpt",
    "export": "stage_02/synthetic.safetensors",
    "evaluation": "evaluation/rows/*.json",
}


@pytest.mark.slow  # test_resume.py kills a fit in its steps
def test_killed_in_several_phases_a_run_continues(two_stages: Path, tmp_path: Path) -> None:
    """One run, killed when the first file of each phase appears, and started again each time."""
    straight, run = tmp_path / "straight", tmp_path / "run"
    shutil.copytree(two_stages, straight)
    main(["evaluate", "--config", str(MICRO), "--run_dir", str(straight)])
    for phase, pattern in PHASES.items():
        process = start(MICRO, run)
        while not list(run.glob(pattern)) and process.poll() is None:
            time.sleep(0.002)
        printed = kill(process)
        assert process.returncode == -signal.SIGKILL, f"{phase}: {printed}"
    finish(start(MICRO, run))
    assert results(run) == results(straight)
    assert not [path for path in run.rglob("*.tmp") if run / "experts" not in path.parents]


@pytest.mark.slow
def test_killed_at_twenty_random_moments_the_smoke_run_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started again after every kill; one that got to its end is compared, and another begins."""
    straight, run, draw = tmp_path / "straight", tmp_path / "run", random.Random(0)
    began = time.monotonic()
    finish(start(SMOKE, straight))
    seconds, expected = time.monotonic() - began, results(straight)
    kills, survived, waiting, finished, spent = 0, 0, 0, 0, 0.0
    while kills < 20 or waiting:
        began, process = time.monotonic(), start(SMOKE, run)
        try:
            printed = process.communicate(timeout=draw.uniform(0, seconds) if kills < 20 else 600)[1]
        except subprocess.TimeoutExpired:
            kill(process)
            kills, waiting = kills + 1, waiting + 1
            spent += time.monotonic() - began
            continue
        spent += time.monotonic() - began
        assert process.returncode == 0, printed
        assert results(run) == expected
        survived, waiting = survived + waiting, 0
        shutil.rmtree(run)
        finished += 1
    lost = (spent - finished * seconds) / kills
    with capsys.disabled():
        print(
            f"\n{survived} of {kills} kills survived bit for bit; a run takes {seconds:.0f} s, and each kill cost "
            f"{lost:.1f} s on average, the new start included"
        )
    assert survived == kills
