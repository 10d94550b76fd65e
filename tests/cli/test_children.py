"""Every stop says its line, also where the command that was waited for had nothing to say."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pdd_lightning.cli import children, run
from pdd_lightning.errors import ConfigError
from pdd_lightning.process.forks import can_fork
from pdd_lightning.process.signals import RESUME, Interrupted, listen


class Child:
    """Is interrupted while it is waited for, and ends with a status."""

    def __init__(self, status: int) -> None:
        self.returncode, self.signals = status, list[int]()

    def wait(self, seconds: float | None = None) -> int:
        if seconds is None:
            raise Interrupted("SIGINT")
        if not self.signals:
            raise subprocess.TimeoutExpired("fit", seconds)
        return self.returncode

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


def interrupted(status: int, monkeypatch: pytest.MonkeyPatch) -> Child:
    child = Child(status)

    def start(*_: Any, **__: Any) -> Child:
        return child

    monkeypatch.setattr(children, "can_fork", lambda: False)
    monkeypatch.setattr(subprocess, "Popen", start)
    return child


@pytest.mark.parametrize("status", [0, -signal.SIGINT])
def test_a_command_that_says_nothing(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was done already, or has not begun: whoever started it says the line, and puts a job into the queue."""
    child = interrupted(status, monkeypatch)
    with pytest.raises(Interrupted, match="SIGINT"):
        children.call("fit", [])
    assert child.signals == [signal.SIGINT]


def test_a_command_that_says_it_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(RESUME, monkeypatch)
    assert children.call("fit", []) == RESUME


def test_a_signal_before_the_command_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> Child:
        raise Interrupted("SIGTERM")

    monkeypatch.setattr(children, "can_fork", lambda: False)
    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(Interrupted, match="SIGTERM"):
        children.call("fit", [])


def test_a_port_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("MASTER_PORT", "abc")
    with pytest.raises(ConfigError, match=r"^MASTER_PORT=abc: "):
        children.call("fit", [])


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are copies of this process, and wait for a file before they end with a status."""
    if not can_fork():
        pytest.skip("processes are forked on Linux without an accelerator")

    def enter() -> None:
        listen()
        _, command, path, status = sys.argv
        Path(f"{path}.begun").touch()
        while not Path(path).exists():
            time.sleep(0.02)
        sys.exit(int(status) if os.environ["PDD_SHARED"] == "2" and command == "fit" else 9)

    monkeypatch.setattr(children, "enter", enter)


def test_a_command_is_done_beside_others(forking: None, tmp_path: Path) -> None:
    path = tmp_path / "end"
    with children.beside("fit", [str(path), "3"], PDD_SHARED="2") as child:
        assert child.code(0.2) is None
        path.touch()
        assert children.result("fit", child) == 3
    assert "PDD_SHARED" not in os.environ


def test_a_command_beside_others_ends_with_them(forking: None, tmp_path: Path) -> None:
    path = tmp_path / "end"
    with children.beside("fit", [str(path), "0"], PDD_SHARED="2") as child:
        while not Path(f"{path}.begun").exists():
            time.sleep(0.02)
    assert child.code(0) not in (None, 0)  # and is not waited for: nobody made the file


def test_a_killed_command_is_named(forking: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with children.beside("fit", [str(tmp_path / "end"), "0"], PDD_SHARED="2") as child:
        child.send(signal.SIGKILL)
        assert children.result("fit", child) == 128 + signal.SIGKILL
    assert "`fit` was ended by SIGKILL (too little memory?)" in capsys.readouterr().err


def test_no_accelerator_is_forked(tmp_path: Path) -> None:
    assert can_fork(tmp_path) == (sys.platform == "linux")
    (tmp_path / "nvidiactl").touch()
    assert not can_fork(tmp_path)


@pytest.mark.parametrize(("completed", "beside"), [(0, False), (1, True)])
def test_the_baseline_waits_for_the_first_stage(
    completed: int, beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was stopped early, by max_steps or max_time, has not made the experts yet."""
    status = {"run_dir": str(tmp_path), "stages": 3, "completed": completed, "one_stage": [["--alone"]], "beside": True}
    begun: list[tuple[str, ...]] = []

    def call(command: str, args: Sequence[str], **environment: str) -> int:
        Path(environment[run.STATUS_VARIABLE]).write_text(json.dumps(status))
        return 0

    @contextmanager
    def note(command: str, args: Sequence[str], **environment: str) -> Iterator[None]:
        begun.append((command, *args))
        yield

    monkeypatch.setattr(children, "call", call)
    monkeypatch.setattr(children, "beside", note)
    assert run.main(["--config", "mine.yaml"]) == 0
    assert begun == ([("fit", "--config", "mine.yaml", "--alone", "--stage=null")] if beside else [])
