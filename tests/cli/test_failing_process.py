"""A process that fails ends the run with its own message, within a minute: nobody waits for it for ever."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import CONFIG
from processes import environment

LIMIT = 60.0
"""Seconds from the failure to the end, at most."""

OBJECTIVE = ("--model.objective", "sabotage.FailsInOneProcess", "--model.objective.syn_steps", "2")
DEVICES = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--model.points", "2", "--threads", "1")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0")


def failing_run(
    run: Path, failing: int, fault: str, *launcher: str, command: str = "fit"
) -> tuple["subprocess.CompletedProcess[str]", float]:
    """Start it, and measure from its first word of failure to its end."""
    line = [sys.executable, *launcher, "-m", "pdd_lightning", command, "--config", str(CONFIG), "--run_dir", str(run)]
    process = subprocess.Popen(
        [*line, *OBJECTIVE, *DEVICES],
        env={**environment(), "PDD_FAILING": str(failing), "PDD_FAULT": fault},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    printed, failed = [], float("inf")
    for text in process.stderr:
        printed.append(text)
        if "sabotage" in text:
            failed = min(failed, time.monotonic())
    code = process.wait(LIMIT)
    return subprocess.CompletedProcess(line, code, "", "".join(printed)), time.monotonic() - failed


@pytest.mark.parametrize(
    ("failing", "fault"),
    [
        pytest.param(1, "user", marks=pytest.mark.slow),
        pytest.param(0, "program", marks=pytest.mark.slow),
        pytest.param(1, "program", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_lightning_started_fails(failing: int, fault: str, tmp_path: Path) -> None:
    ended, seconds = failing_run(tmp_path / "run", failing, fault)
    assert ended.returncode not in (0, 75)
    assert f"sabotage: a {'mistake of the user' if fault == 'user' else 'fault of the program'}" in ended.stderr
    assert seconds < LIMIT
    assert not (tmp_path / "run" / "stage_01" / "stage.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_torchrun_started_fails(failing: int, tmp_path: Path) -> None:
    ended, seconds = failing_run(tmp_path / "run", failing, "user", *TORCHRUN, command="run")
    assert ended.returncode not in (0, 75)
    assert "sabotage: a mistake of the user" in ended.stderr
    assert seconds < LIMIT
