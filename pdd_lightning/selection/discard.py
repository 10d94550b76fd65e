"""Discarding easy examples: each stage distils from one part of the real data, divided by forgetting events.

Source: PDD (arXiv 2310.06982), section 4.2: later stages do not need the examples that are learned early and kept.
"""

from dataclasses import dataclass

from torch import Tensor

from pdd_lightning.described import Described
from pdd_lightning.errors import ConfigError
from pdd_lightning.selection.base import SelectionContext
from pdd_lightning.selection.forgetting import equal_edges, forgetting_counts, partitions, require_classes
from pdd_lightning.selection.trained import TrainingOptions
from pdd_lightning.types import Json


@dataclass(frozen=True)
class Saving:
    """What reading only a part of the real examples saved a stage.

    Attributes:
        used: Real examples that the stage reads.
        total: Real training examples.
        seconds: What preparing the dynamics took in this process: for expert trajectories, passes over these examples.

    Example:
        >>> Saving(used=250, total=1000, seconds=10.0).saved_seconds
        30.0
    """

    used: int
    total: int
    seconds: float

    @property
    def saved_seconds(self) -> float:
        """What the other examples would have taken at the same speed."""
        return self.seconds * (self.total - self.used) / self.used

    def __str__(self) -> str:
        return (
            f"{self.used:,} of {self.total:,} real examples read, {self.total - self.used:,} discarded; dynamics "
            f"prepared in {self.seconds:.1f} s, about {self.saved_seconds:.1f} s less than with all examples"
        )

    def to_json(self) -> Json:
        """For the stage's summary."""
        return {
            "used": self.used,
            "total": self.total,
            "preparation_seconds": round(self.seconds, 3),
            "saved_seconds": round(self.saved_seconds, 3),
        }


@dataclass(frozen=True)
class EasyDiscard(TrainingOptions, Described):
    """Divides the real examples by how often a training on them forgets each, and gives each stage one part.

    The other options say how the network is trained whose forgetting is counted, once for the whole run.

    Args:
        edges: Counts that divide the data: part k holds those of at least edges[k-1] and below edges[k]. Null makes as
            many parts as there are stages, in equal steps of the count, as published.
        schedule: Part of each stage, counted from 1; null gives stage k part k, from easy to hard, as published.

    Example:
        >>> EasyDiscard(epochs=20, edges=(1, 3)).check(stages=3)  # three parts for three stages
        >>> EasyDiscard(epochs=20, edges=(1, 3), schedule=(1, 3)).check(stages=2)
    """

    edges: tuple[int, ...] | None = None
    schedule: tuple[int, ...] | None = None

    def check(self, stages: int) -> None:
        """Refuse a schedule that does not suit the number of stages.

        Raises:
            ConfigError: Naming the option.
        """
        parts = stages if self.edges is None else len(self.edges) + 1
        if self.schedule is None:
            if parts != stages:
                raise ConfigError(
                    f"model.discard.edges={list(self.edges or ())} make {parts} parts for model.stages={stages}: give "
                    "one edge fewer than stages, or say with model.discard.schedule which part each stage reads"
                )
        elif len(self.schedule) != stages or not all(1 <= part <= parts for part in self.schedule):
            raise ConfigError(
                f"model.discard.schedule={list(self.schedule)}: name one part from 1 to {parts} for each of the "
                f"{stages} stages"
            )

    def positions(self, context: SelectionContext, stages: int, ipc: int) -> list[Tensor]:
        """Which real examples each stage reads.

        Args:
            context: The images, and what to train with; the training is stored and read again.
            stages: Number of stages P.
            ipc: Real images of every class that every stage needs.

        Returns:
            P tensors of ascending positions, on the CPU.

        Raises:
            ConfigError: If a part is empty, or lacks a class.
        """
        self.check(stages)
        counts = forgetting_counts(context, self.learning_rate, self.recipe)
        edges = equal_edges(counts, stages) if self.edges is None else self.edges
        parts = partitions(counts, edges)
        schedule = self.schedule or range(1, stages + 1)
        require_classes(parts, context.real.labels, context.class_names, ipc, used=schedule)
        return [parts[part - 1] for part in schedule]
