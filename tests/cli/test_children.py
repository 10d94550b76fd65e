"""Every stop says its line, also where the command that was waited for had nothing to say."""

import signal
import subprocess
from typing import Any

import pytest

from pdd_lightning.cli import children
from pdd_lightning.errors import ConfigError
from pdd_lightning.process.signals import RESUME, Interrupted


class Child:
    """Is interrupted while it is waited for, and ends with a status."""

    def __init__(self, status: int) -> None:
        self.returncode, self.signals = status, list[int]()

    def wait(self, seconds: float | None = None) -> int:
        if seconds is None:
            raise Interrupted("SIGINT")
        return self.returncode

    def poll(self) -> int | None:
        return self.returncode if self.signals else None

    def send_signal(self, number: int) -> None:
        self.signals.append(number)


def interrupted(status: int, monkeypatch: pytest.MonkeyPatch) -> Child:
    child = Child(status)

    def start(*_: Any, **__: Any) -> Child:
        return child

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

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(Interrupted, match="SIGTERM"):
        children.call("fit", [])


def test_a_port_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("MASTER_PORT", "abc")
    with pytest.raises(ConfigError, match=r"^MASTER_PORT=abc: "):
        children.call("fit", [])
