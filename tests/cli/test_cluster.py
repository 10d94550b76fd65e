"""docs/cluster.md: the commands of torchrun and SLURM, here with tasks of ours in the place of srun's."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import CONFIG, Refused, call, plan
from processes import ROOT, environment

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main
from pdd_lightning.process.signals import RESUME
from pdd_lightning.store.files import read_tensors
from pdd_lightning.store.folders import RunFolder

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
OPTIONS = ("--config", str(CONFIG), "--threads", "1", "--model.points", "2", "--model.iterations", "40")
MEETING = ("MASTER_ADDR", "MASTER_PORT")
DEVICES = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--checkpoint_every", "1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("alone") / "run"
    for _ in range(2):
        main(["fit", *OPTIONS, "--run_dir", str(run)])
    return run


def same(run: Path, alone: Path) -> None:
    for stage in (1, 2):
        mine, theirs = (read_tensors(RunFolder(each).stage(stage).synthetic)[0] for each in (run, alone))
        assert abs(mine["images"] - theirs["images"]).max() < 1e-4
    assert (run / "evaluation" / "results.json").is_file()


def test_every_command_is_tested_or_says_that_it_is_not() -> None:
    """Those of pdd-cli are run by test_readme.py, torchrun's and srun's below."""
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    commands = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    known = ("pdd-cli ", "torchrun --standalone", "srun ", "export OMP")
    assert commands
    for line in commands:
        assert "# not run" in line or line.startswith(known), line


@pytest.mark.parametrize("known", [(), ("MASTER_ADDR",)])
def test_machines_that_cannot_meet_are_not_waited_for(
    known: tuple[str, ...], refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in MEETING:
        monkeypatch.delenv(name, raising=False)
    for name in known:
        monkeypatch.setenv(name, "29400")
    line = refused("--trainer.num_nodes", "2")
    assert "--trainer.num_nodes=2" in line
    assert {name for name in MEETING if name in line} == {*MEETING} - {*known}
    assert "torchrun" in line


def test_a_run_of_several_machines_is_planned_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "call", call)
    assert plan(tmp_path / "run", "--trainer.num_nodes", "2")["total"]["seconds"] > 0


@pytest.mark.slow
def test_torchrun_makes_a_whole_run(alone: Path, tmp_path: Path) -> None:
    """The line of the page, with a small configuration in the place of its own."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith("torchrun --standalone")]
    words = shlex.split(line, comments=True)
    launcher = words[1 : words.index("run") + 1]
    launcher[launcher.index("--nproc-per-node") + 1] = "2"
    run = tmp_path / "run"
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launcher, *OPTIONS, *DEVICES, "--run_dir", str(run)],
        env=environment(),
        check=True,
        timeout=900,
    )
    same(run, alone)


def srun(run: Path, port: int, programs: Path) -> "list[subprocess.Popen[str]]":
    """Two tasks of a job, as srun starts them."""
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "distil", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    job |= {"SLURM_STEP_NUM_TASKS": "2"}
    job |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1"}
    names = {**environment(), **job, "MASTER_PORT": str(port), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    line = [sys.executable, "-m", "pdd_lightning", "run", *OPTIONS, *DEVICES, "--run_dir", str(run)]
    return [
        subprocess.Popen(
            line, env={**names, "SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)}, stderr=subprocess.PIPE, text=True
        )
        for k in range(2)
    ]


@pytest.mark.slow
def test_a_job_of_slurm_is_warned_requeued_and_continues(alone: Path, tmp_path: Path) -> None:
    run, programs = tmp_path / "run", tmp_path / "bin"
    programs.mkdir()
    (programs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (programs / "scontrol").chmod(0o755)
    tasks = srun(run, 23456, programs)
    while not list((run / "stage_01" / "checkpoints").glob("step=*.ckpt")):
        assert all(task.poll() is None for task in tasks)
        time.sleep(0.01)
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
    printed = [task.communicate(timeout=120)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [RESUME, RESUME], printed
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    tasks = srun(run, 24567, programs)
    printed = [task.communicate(timeout=600)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], printed
    assert "continuing from" in printed[0]
    same(run, alone)
