"""A process that waits for others says so, hears signals, and does not wait for ever."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import CONFIG
from processes import environment, free_port

from pdd_lightning.errors import ConfigError
from pdd_lightning.process.meeting import meeting
from pdd_lightning.process.signals import RESUME

ROOT = Path(__file__).parents[2]

DEAF = """
import ctypes, signal, sys
from pdd_lightning.process.meeting import meeting
from pdd_lightning.process.signals import listen

signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell that runs the tests in the background has it ignored
listen()
lock = ctypes.CDLL(None).pthread_mutex_lock
mutex = ctypes.create_string_buffer(64)
with meeting(3, "node1:29400", float(sys.argv[1]), 0.1):
    lock(mutex)
    lock(mutex)  # for ever, as in PyTorch's store: no handler of Python's runs
"""


def waiting(minutes: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-c", DEAF, minutes]
    return subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_ends_the_waiting(name: str) -> None:
    process = waiting("30")
    assert process.stderr is not None
    said = "pdd-cli: waiting for the other 3 processes of this run at node1:29400, for 30 minutes at most\n"
    assert process.stderr.readline() == said
    asked = time.monotonic()
    process.send_signal(signal.Signals[name])
    _, printed = process.communicate(timeout=60)
    assert time.monotonic() - asked < 10  # seconds, on a machine that has other things to do
    assert process.returncode == RESUME
    assert printed == f"pdd-cli: stopped by {name}; run the same command again to continue\n"


def test_the_waiting_ends_with_a_reason() -> None:
    process = waiting("0.005")
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 2
    expected = "pdd-cli: error: --wait_minutes=0.005: the other 3 processes of this run did not come to node1:29400; "
    assert printed.splitlines()[-1].startswith(expected)


def test_a_short_meeting_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.set_wakeup_fd(-1)
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    with meeting(1, "here", 30):
        ctypes.CDLL(None).usleep(1000)
    assert signal.set_wakeup_fd(before) == -1
    assert descriptors is None or len(os.listdir("/proc/self/fd")) == descriptors
    assert capsys.readouterr().err == ""


def test_a_place_where_nobody_can_meet() -> None:
    expected = r"nowhere:1: the 2 processes of this run cannot meet there \(no such host\)"
    with pytest.raises(ConfigError, match=expected), meeting(1, "nowhere:1", 30):
        raise RuntimeError("no such\nhost")


def alone(run: Path, *args: str, **names: str) -> "subprocess.Popen[str]":
    options = ("--config", str(CONFIG), "--run_dir", str(run), "--trainer.strategy", "ddp", *args)
    line = [sys.executable, "-m", "pdd_lightning", "run", *options]
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **names}
    return subprocess.Popen(line, env={**environment(), **names}, stderr=subprocess.PIPE, text=True)


JOB = {"SLURM_JOB_ID": "12", "SLURM_JOB_NAME": "distil", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4"}
JOB |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "SLURM_LOCALID": "0"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "names", "others"),
    [
        (("--trainer.num_nodes", "2"), {"NODE_RANK": "0"}, "the other process "),
        (("--trainer.num_nodes", "2"), {"NODE_RANK": "1"}, "the other process "),
        (("--trainer.devices", "4"), {**JOB, "SLURM_PROCID": "0"}, "the other 3 processes"),
        (("--trainer.devices", "4"), {**JOB, "SLURM_PROCID": "3", "SLURM_LOCALID": "3"}, "the other 3 processes"),
    ],
)
def test_a_run_whose_others_never_come(
    tmp_path: Path, args: tuple[str, ...], names: dict[str, str], others: str
) -> None:
    process = alone(tmp_path / "run", *args, **names)
    assert process.stderr is not None
    while "waiting for" not in (line := process.stderr.readline()):
        assert line, "it ended"
    assert others in line
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert time.monotonic() - asked < 15
    assert process.returncode == RESUME
    assert printed.splitlines()[-1] == "pdd-cli: stopped by SIGTERM; run the same command again to continue"


@pytest.mark.slow
def test_a_run_ends_after_the_minutes_of_its_option(tmp_path: Path) -> None:
    process = alone(tmp_path / "run", "--trainer.num_nodes", "2", "--wait_minutes", "0.05")
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 2, printed
    assert "--wait_minutes=0.05: the other process of this run did not come to 127.0.0.1:" in printed.splitlines()[-1]


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = alone(tmp_path / "run", "--trainer.num_nodes", "2", MASTER_PORT=port)
        _, printed = process.communicate(timeout=120)
    assert process.returncode == 2, printed
    assert f"127.0.0.1:{port}: the 2 processes of this run cannot meet there" in printed
    assert "Traceback" not in printed
