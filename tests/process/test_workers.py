"""Independent work in forked processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from pdd_lightning.errors import ConfigError
from pdd_lightning.process import workers
from pdd_lightning.process.signals import deferred
from pdd_lightning.process.workers import Advance, WorkerError, cores, share_out, spare

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")


def square(item: int, advance: Advance) -> tuple[int, int]:
    advance(item)
    return os.getpid(), item**2


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_results_come_in_order_whatever_the_number_of_workers(count: int) -> None:
    steps: list[int] = []
    found = share_out(square, range(7), count, steps.append)
    assert [value for _, value in found] == [item**2 for item in range(7)]
    assert sorted(steps) == list(range(7))
    assert len({process for process, _ in found}) == min(count, 7)
    assert (os.getpid() in {process for process, _ in found}) == (count == 1)


def test_training_in_a_worker_gives_the_same_bits() -> None:
    def train(seed: int, advance: Advance) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(30, 20, generator=generator, requires_grad=True)
        for _ in range(5):
            (slope,) = torch.autograd.grad((torch.randn(40, 30, generator=generator) @ weights).relu().sum(), weights)
            weights = (weights - 0.01 * slope).detach().requires_grad_()
        values: list[float] = weights.flatten().tolist()
        return values

    train(0, print)  # so that the engine that differentiates is in use when the workers are forked
    assert share_out(train, range(4), 2, print) == share_out(train, range(4), 1, print)


COMPILING = """
    import torch
    from pdd_lightning.process.workers import share_out, spare

    def train(item, advance):
        torch.ones(1, requires_grad=True).sum().backward()
        return item

    spare(torch.device("cpu"))
    torch.compile(lambda x: (x * x).sum())(torch.ones(4, requires_grad=True)).backward()
    assert share_out(train, range(2), 2, print) == [0, 1]
"""


@pytest.mark.slow
def test_workers_differentiate_though_a_compiler_was_used() -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(COMPILING)], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_an_error_of_a_worker_is_raised_here() -> None:
    def fail(item: int, advance: Advance) -> None:
        if item == 3:
            raise ConfigError("model.width is wrong")
        time.sleep(0 if item < 3 else 60)

    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"model\.width is wrong") as found:
        share_out(fail, range(6), 2, print)
    assert time.monotonic() - began < 30  # the other workers are not waited for
    assert "in fail" in "".join(found.value.__notes__)


def test_a_worker_can_be_stopped_though_its_parent_defers_signals() -> None:
    """As in the steps of a stage."""

    def work(item: int, advance: Advance) -> None:
        if item:
            raise ConfigError("too hot")
        time.sleep(60)

    began = time.monotonic()
    with deferred(), pytest.raises(ConfigError):
        share_out(work, range(2), 2, print)
    assert time.monotonic() - began < 30


def test_a_worker_that_is_killed_is_named() -> None:
    def die(item: int, advance: Advance) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerError, match=r"too little memory\?.*networks_at_once 1"):
        share_out(die, range(2), 2, print)


SCRIPT = """
    import signal, sys, time
    from pdd_lightning.process.signals import Interrupted, listen
    from pdd_lightning.process.workers import share_out

    def sleep(item, advance):
        advance(1)
        time.sleep(60)

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell that runs the tests in the background has it ignored
    listen()
    try:
        share_out(sleep, range(2), 2, lambda steps: print("working", flush=True))
    except Interrupted as stop:
        sys.exit(f"stopped by {stop.name}")
"""


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGTERM, signal.SIGINT))],
)
def test_no_worker_outlives_its_parent(number: signal.Signals) -> None:
    line = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["working\n"] * 2
        children = [int(child) for child in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        parent.send_signal(number)
        _, said = parent.communicate(timeout=30)
    assert len(children) == 2
    assert said.strip() == ("" if number == signal.SIGKILL else f"stopped by {number.name}")
    deadline = time.monotonic() + 20
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(child) for child in children)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_are_as_many_as_have_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(workers, "can_fork", lambda: True)
    assert spare(torch.device("cpu")) == 4
    assert spare(torch.device("cpu"), world=3) == 1
    assert spare(torch.device("cuda")) == 1
    monkeypatch.setattr(workers, "can_fork", lambda: False)
    assert spare(torch.device("cpu")) == 1


def test_a_quota_counts_as_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(workers, "_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16))
    for text, expected in (("max 100000\n", 16), ("250000 100000\n", 2), ("50000 100000\n", 1)):
        quota.write_text(text)
        assert cores() == expected
