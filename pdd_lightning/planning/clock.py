"""Stopwatches: for the steps of a fit, which end it, and for any repeated work."""

import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pdd_lightning.compute.cuda_graphs import synchronise

WARM = 2
"""First steps, which pay for what is made once."""

LEAST = 3
"""Steps that are measured, though they take longer than was asked for."""

ENOUGH = 10.0
"""Seconds of steps that are enough, however few they are; fewer where few were asked for."""

LONG = 30.0
"""Seconds of a first step after which there is no other: a plan is not to take as long as the run."""

ENDLESS = 10**9
"""Steps or epochs of what a clock ends."""


class StepClock(Callback):
    """Times the steps of a fit and stops it.

    Args:
        seconds: How long to measure after the first steps.
        compiles: Whether the first step compiles, which says nothing of those after it.
    """

    def __init__(self, seconds: float, compiles: bool = False) -> None:
        self.seconds, self.compiles = seconds, compiles
        self.made = self.fit_start = self.train_start = time.perf_counter()
        self._ends: list[float] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The fit is set up."""
        self.fit_start = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first step comes."""
        self.train_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step is done."""
        synchronise(pl_module.device)
        self._ends.append(time.perf_counter())
        long, measured = not self.compiles and self._ends[0] - self.train_start > LONG, self.count - WARM
        if long or (measured > 0 and _suffices(measured, self._ends[-1] - self._ends[WARM - 1], self.seconds)):
            trainer.should_stop = True

    @property
    def count(self) -> int:
        """How many steps were made."""
        return len(self._ends)

    @property
    def step(self) -> float:
        """Mean seconds of a step. Not the median: some steps hand over to a new network, and some write a log."""
        warm = min(WARM, self.count - 1)
        before = self._ends[warm - 1] if warm else self.train_start
        return (self._ends[-1] - before) / (self.count - warm)

    @property
    def opening(self) -> float:
        """Seconds that the first steps took longer than others."""
        warm = min(WARM, self.count - 1)
        return max(0.0, self._ends[warm - 1] - self.train_start - warm * self.step) if warm else 0.0


def mean_seconds(work: Callable[[int], object], most: int, seconds: float, device: torch.device) -> float:
    """Mean seconds of a piece of work, after one that is not counted unless it is long; 0 where there is none.

    Args:
        work: Does the piece of a number.
        most: How many pieces there are.
        seconds: How long to measure, about.
        device: Where the work is done.
    """
    if not most:
        return 0.0
    began = time.perf_counter()
    work(0)
    synchronise(device)
    if (passed := time.perf_counter() - began) > LONG:
        return passed
    done, began = 0, time.perf_counter()
    while True:
        work(done)
        done += 1
        synchronise(device)
        passed = time.perf_counter() - began
        if _suffices(done, passed, 0.0 if done >= most else seconds):
            return passed / done


def _suffices(count: int, passed: float, seconds: float) -> bool:
    """Whether so many pieces, which took so long, tell enough where some seconds were asked for."""
    return passed >= seconds and (count >= LEAST or passed >= min(ENOUGH, 5 * seconds or ENOUGH))


def timed(work: Callable[[], object]) -> float:
    """Seconds of some work."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
