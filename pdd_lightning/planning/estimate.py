"""From measured costs to the seconds, the memory and the disk of a whole run. Arithmetic only."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from pdd_lightning.types import Json


@dataclass(frozen=True)
class StageCost:
    """What a stage of one size costs, in seconds and bytes, measured on a piece of each kind of work."""

    images: float  # training images of the union U_k
    overhead: float  # from the process being ready to the first hook of the fit
    state: float  # for one fresh start state
    preparation: float  # of the dynamics, by one process
    groups: float  # of networks that are trained for it; processes share them
    parts: float  # parts of a step's loss, which processes share
    step: float  # of an optimiser step, with what the dynamics does after it
    opening: float  # what the first steps take longer
    checkpoint: float  # of a checkpoint
    epoch: float  # of one member's epoch on the union, in the transition
    member: float  # of one member beside its epochs
    finish: float  # for writing the stage
    host: float  # peak resident memory of the process
    device: float  # peak memory of tensors on an accelerator; 0 on the CPU

    @classmethod
    def between(cls, first: Self, last: Self, images: float) -> Self:
        """The cost at a size between two measured ones, along a straight line."""
        span = last.images - first.images
        share = (images - first.images) / span if span else 0.0
        values = {f.name: (1 - share) * getattr(first, f.name) + share * getattr(last, f.name) for f in fields(cls)}
        return cls(**values)


@dataclass(frozen=True)
class StageWork:
    """How much of each kind of work a stage has."""

    fresh: int  # start states that the stage makes anew; 0 where it reads those of the stage before
    members: int  # start states that the transition trains; 0 without transition
    epochs: int  # epochs of each in the transition
    steps: int  # optimiser steps
    checkpoint_every: int  # steps between two checkpoints
    checkpoint_seconds: float  # seconds of steps after which there is one all the same
    reused: bool = False  # whether the experts are those of another stage that was fitted before
    shares: int = 1  # processes that share experts and members
    workers: int = 1  # processes, for each of these, that train members side by side
    watches: int = 0  # how often fresh networks are trained within the steps
    watched: int = 0  # how many of them each time
    renewals: int = 0  # how often the dynamics renews what it prepared within the steps
    renewed: int = 0  # start states that each of them makes
    earlier: float = 0.0  # training images of all earlier unions, which these are trained on, for one of this union

    def checkpoints(self, step: float) -> int:
        """How many checkpoints are written on the way, where a step takes so many seconds."""
        # The clock begins anew at every checkpoint, and none is sooner than the next step.
        share = min(1.0, step / self.checkpoint_seconds)
        intervals, rest = divmod(self.steps, self.checkpoint_every)
        return intervals * (1 + int((self.checkpoint_every - 1) * share)) + int(rest * share)


@dataclass(frozen=True)
class Line:
    """Seconds of one work of one part of the run: of a stage, of a baseline of one stage or of the evaluation."""

    part: str
    work: str
    seconds: float


@dataclass(frozen=True)
class Amounts:
    """What a run takes: estimated, or noted while it ran.

    Attributes:
        lines: In the order of the run.
        memory: Peak bytes by part, on the host and on the device; None where there is no device.
        disk: Bytes of the files that each part leaves.
        spared: Seconds that nobody waits for, since two parts are at work at once.
    """

    lines: Sequence[Line]
    memory: dict[str, dict[str, int | None]]
    disk: dict[str, int]
    spared: float = 0.0

    @property
    def seconds(self) -> float:
        """Of the whole run, from its beginning to its end."""
        return sum(line.seconds for line in self.lines) - self.spared

    @property
    def stored(self) -> int:
        """Bytes of all files."""
        return sum(self.disk.values())

    def peak(self, where: str) -> int | None:
        """The largest peak of any part, on the "host" or the "device"."""
        return max((peak for part in self.memory.values() if (peak := part.get(where)) is not None), default=None)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """What :meth:`to_json` described; a KeyError or TypeError where it is nothing of the kind."""
        lines = [Line(line["part"], line["work"], float(line["seconds"])) for line in value["lines"]]
        return cls(lines, dict(value["memory"]), dict(value["disk"]), float(value["spared"]))

    def to_json(self) -> Json:
        """For plan.json."""
        peaks = {f"{where}_bytes": self.peak(where) for where in ("host", "device")}
        total = {"seconds": round(self.seconds, 3), **peaks, "disk_bytes": self.stored}
        lines = [{**asdict(line), "seconds": round(line.seconds, 3)} for line in self.lines]
        spared = round(self.spared, 3)
        return {"lines": lines, "memory": self.memory, "disk": self.disk, "spared": spared, "total": total}


def side_by_side(lines: Sequence[Line], some: Sequence[str], others: Sequence[str]) -> float:
    """Seconds that are spared where some parts are done, one after the other, while others are."""
    return min(sum(line.seconds for line in lines if line.part in parts) for parts in (some, others))


def stage_lines(part: str, start: float, cost: StageCost, work: StageWork) -> list[Line]:
    """Seconds of a stage.

    Args:
        part: Its name.
        start: Seconds from the start of the process until data and module are ready.
        cost: At the stage's size.
        work: How much there is to do.
    """
    rounds = math.ceil(cost.groups / min(cost.groups, work.shares * work.workers))  # the process with the most decides
    prepared = cost.preparation * rounds / cost.groups
    step = cost.step * math.ceil(cost.parts / work.shares) / cost.parts  # whose parts are shared out too
    networks = (work.members, work.watched, work.renewed)
    members, watched, renewed = (math.ceil(math.ceil(n / work.shares) / work.workers) for n in networks)
    member = cost.member + work.epochs * cost.epoch
    distillation = cost.opening + work.steps * step + work.checkpoints(step) * cost.checkpoint
    renewals = work.renewals * (prepared + renewed * (cost.state + work.earlier * member))
    return [
        Line(part, "start", start + cost.overhead),
        Line(part, "preparation", work.fresh * cost.state + (0.0 if work.reused else prepared)),
        Line(part, "distillation", distillation + work.watches * watched * member + renewals),
        Line(part, "transition", members * member + cost.finish),
    ]
