"""Signals are noted or raised, and only a warning of SLURM requeues."""

import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator

import pytest

from pdd_lightning.process import signals as interruption
from pdd_lightning.process.signals import Interrupted, deferred, listen, pending, requeue


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    monkeypatch.setattr(interruption, "_inbox", interruption._Inbox())
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
def test_a_signal_interrupts(name: str) -> None:
    signal.signal(signal.Signals[name], signal.SIG_DFL)
    listen()
    with pytest.raises(Interrupted, match=name):
        signal.raise_signal(signal.Signals[name])
    assert pending() == name


def test_a_signal_that_strikes_where_nothing_can_be_raised_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    listen()

    class Thing:
        pass

    things = [Thing()]
    kept = weakref.ref(things[0], lambda _: signal.raise_signal(signal.SIGTERM))
    things.clear()
    assert kept() is None
    with pytest.raises(Interrupted, match="SIGTERM"):
        time.sleep(10)
    assert capsys.readouterr().err == ""


def test_other_errors_that_cannot_be_raised_are_shown_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: shown.append(found.exc_type))
    listen()

    class Thing:
        def __del__(self) -> None:
            raise KeyError

    Thing()
    assert shown == [KeyError]


def test_a_deferred_signal_waits() -> None:
    listen()
    with deferred():
        signal.raise_signal(signal.SIGTERM)
        assert pending() == "SIGTERM"


def test_a_burst_is_one_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    listen()
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(interruption, "BURST", -1.0)
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listen()
    signal.raise_signal(signal.SIGHUP)
    assert pending() is None


JOB = {"SLURM_JOB_ID": "12", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("name", "environment", "job"),
    [
        ("SIGUSR1", JOB, "12"),
        ("SIGUSR1", {**JOB, "SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": "3"}, "10_3"),
        ("SIGTERM", JOB, None),
        ("SIGUSR1", {**JOB, "SLURM_PROCID": "1"}, None),
        ("SIGUSR1", {**JOB, "PDD_REQUEUE": "0"}, None),
        ("SIGUSR1", {"SLURM_JOB_ID": "12; rm -r x"}, None),
        ("SIGUSR1", {}, None),
    ],
)
def test_who_is_requeued(
    name: str, environment: dict[str, str], job: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    class Done:
        returncode = 0

    def run(line: list[str], *, check: bool) -> Done:
        asked.append(line)
        return Done()

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    requeue(name, environment)
    assert asked == ([] if job is None else [["scontrol", "requeue", job]])


CHILD = """
import sys, time
from pdd_lightning.process.signals import Interrupted, listen
print("started", flush=True)
sys.stdin.readline()
try:
    listen()
except Interrupted as stop:
    print(stop.name)
"""


def test_a_signal_that_comes_before_anybody_listens_waits() -> None:
    with interruption.held_back():
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    child.send_signal(signal.SIGTERM)
    assert child.communicate("\n", timeout=60)[0] == "SIGTERM\n"
    assert child.returncode == 0
