"""Asked to stop, a command saves and says "resume me"; started twice on a folder, the second leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import CONFIG, Fit, Refused, fit_into
from processes import environment

from pdd_lightning.process.signals import RESUME
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder

LONG = ("--model.iterations", "60")


def start(run: Path, command: str, *args: str, **names: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "pdd_lightning", command, "--config", str(CONFIG), "--run_dir", str(run), *LONG]
    return subprocess.Popen(
        [*line, "--checkpoint_every", "1", *args], env={**environment(), **names}, stderr=subprocess.PIPE, text=True
    )


def wait_for_a_checkpoint(run: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not list((run / "stage_01" / "checkpoints").glob("step=*.ckpt")):
        assert process.poll() is None, "it ended before it was met in the middle"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("straight") / "run"
    fit_into(run, *LONG)
    return file_digest(RunFolder(run).stage(1).synthetic)


def test_sigterm_to_run_saves_and_says_so(run: Path, fit: Fit, refused: Refused, straight: str) -> None:
    process = start(run, "run")
    wait_for_a_checkpoint(run, process)
    busy = refused(*LONG)
    assert f"--run_dir={run}: process " in busy
    assert "works in this folder; wait for it" in busy
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert time.monotonic() - asked < 30  # seconds, on a machine that has other things to do
    assert process.returncode == RESUME
    assert printed.rstrip().endswith("pdd-cli: stopped by SIGTERM; run the same command again to continue")
    assert "Traceback" not in printed
    assert len(list((run / "stage_01" / "checkpoints").iterdir())) <= 2
    fit(*LONG)
    assert file_digest(RunFolder(run).stage(1).synthetic) == straight


@pytest.mark.slow
def test_the_warning_of_slurm_requeues_the_job(run: Path, fit: Fit, tmp_path: Path, straight: str) -> None:
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    process = start(run, "fit", PATH=path, SLURM_JOB_ID="4711", SLURM_JOB_NAME="bash")
    wait_for_a_checkpoint(run, process)
    process.send_signal(signal.SIGUSR1)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == RESUME
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    assert "SLURM job 4711 is requeued" in printed
    assert not list(run.glob("hpc_ckpt*"))  # Lightning's own, which the next stage would take for its own
    fit(*LONG)
    assert file_digest(RunFolder(run).stage(1).synthetic) == straight


@pytest.mark.slow
def test_a_stage_does_not_outlive_the_run_that_was_killed(run: Path, fit: Fit, straight: str) -> None:
    process = start(run, "run")
    wait_for_a_checkpoint(run, process)
    process.kill()
    # The pipe closes with the last process that holds it: the stage, which saved before.
    _, printed = process.communicate(timeout=60)
    assert "stopped by SIGTERM" in printed
    fit(*LONG)
    assert file_digest(RunFolder(run).stage(1).synthetic) == straight


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_saves_in_both(run: Path, fit: Fit) -> None:
    devices = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--threads", "1")
    process = start(run, "fit", *devices, OMP_NUM_THREADS="1")
    wait_for_a_checkpoint(run, process)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == RESUME, printed
    assert "Traceback" not in printed
    fit(*LONG)  # on one device: the checkpoint is the same
    assert RunFolder(run).stage(1).complete
