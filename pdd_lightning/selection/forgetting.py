"""Forgetting: the examples that training forgets most often."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pdd_lightning.rng import generator
from pdd_lightning.selection.base import Selection, SelectionContext
from pdd_lightning.selection.forgetting_scores import forgetting_counts
from pdd_lightning.selection.training import TrainingOptions


@dataclass(frozen=True)
class Forgetting(TrainingOptions, Selection):
    """Takes the examples with most forgetting events; those that were never learned come first.

    Source: Toneva et al., ICLR 2019. Ties, of which there are many, are broken by a random order.
    """

    @property
    def name(self) -> str:
        """See :attr:`Selection.name`."""
        return "forgetting"

    def choose(self, context: SelectionContext, classes: Sequence[Tensor], ipc: int) -> list[Tensor]:
        """See :meth:`Selection.choose`."""
        counts = forgetting_counts(context, self.learning_rate, self.recipe)
        chosen = []
        for label, positions in enumerate(classes):
            ties = torch.randperm(len(positions), generator=generator(context.seed, "forgetting ties", label))
            chosen.append(most_forgotten(positions[ties], counts, ipc))
        return chosen


def most_forgotten(positions: Tensor, counts: Tensor, count: int) -> Tensor:
    """The positions with the largest counts; of equal ones those that come first.

    Args:
        positions: Shape (N,), int64.
        counts: Of all examples, int64.
        count: How many to take.

    Returns:
        Shape (count,), the most forgotten first.
    """
    return positions[counts[positions].argsort(descending=True, stable=True)[:count]]
