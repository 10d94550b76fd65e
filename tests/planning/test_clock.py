"""How long a plan measures, by a clock that only work moves."""

from unittest.mock import Mock

import pytest
import torch

from pdd_lightning.planning import clock
from pdd_lightning.planning.clock import StepClock, mean_seconds

CPU = torch.device("cpu")
CASES = [
    # seconds of a piece, seconds that were asked for, pieces that are measured
    (0.25, 4.0, 16),
    (0.25, 0.0, 3),
    (4.0, 1.0, 2),
    (16.0, 1.0, 1),  # one of so long a piece is enough
    (16.0, 40.0, 3),
    (4.0, 20.0, 5),
]


class Time:
    """Stands in for the module `time`."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(clock, "time", found)
    return found


@pytest.mark.parametrize(("each", "seconds", "pieces"), CASES)
def test_pieces_are_measured_for_as_long_as_asked(each: float, seconds: float, pieces: int, time: Time) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.pass_(each if done else 25.0)  # the first pays for what is made once
        done.append(number)

    assert mean_seconds(work, 10**9, seconds, CPU) == each
    assert done == [0, *range(pieces)]


def test_of_few_pieces_no_more_are_measured_than_needed(time: Time) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.pass_(1.0)
        done.append(number)

    assert mean_seconds(work, 4, 60.0, CPU) == 1.0
    assert len(done) == 1 + 4
    assert mean_seconds(work, 0, 60.0, CPU) == 0.0
    assert len(done) == 1 + 4


@pytest.mark.parametrize(("each", "seconds", "pieces"), CASES)
def test_steps_are_measured_for_as_long_as_asked(each: float, seconds: float, pieces: int, time: Time) -> None:
    trainer, module = Mock(should_stop=False), Mock(device=CPU)
    found = StepClock(seconds)
    found.on_train_start(trainer, module)
    time.pass_(10.0)  # beside the first step
    while not trainer.should_stop:
        time.pass_(each)
        found.on_train_batch_end(trainer, module, None, None, 0)
    assert found.count == clock.WARM + pieces
    assert found.step == each
    assert found.opening == 10.0


def test_after_a_long_piece_there_is_no_other(time: Time) -> None:
    """A plan of steps that take minutes is not to take as long as the run."""
    done: list[int] = []

    def work(number: int) -> None:
        time.pass_(40.0)
        done.append(number)

    assert mean_seconds(work, 10**9, 5.0, CPU) == 40.0
    assert done == [0]
    trainer, module = Mock(should_stop=False), Mock(device=CPU)
    found = StepClock(5.0)
    found.on_train_start(trainer, module)
    time.pass_(40.0)
    found.on_train_batch_end(trainer, module, None, None, 0)
    assert trainer.should_stop
    assert (found.step, found.opening) == (40.0, 0.0)


def test_a_step_that_compiles_does_not_stand_for_others(time: Time) -> None:
    trainer, module = Mock(should_stop=False), Mock(device=CPU)
    found = StepClock(5.0, compiles=True)
    found.on_train_start(trainer, module)
    time.pass_(80.0)
    while not trainer.should_stop:
        time.pass_(2.0)
        found.on_train_batch_end(trainer, module, None, None, 0)
    assert (found.step, found.opening) == (2.0, 80.0)
