"""What a fit goes through: the numbers of its optimiser steps."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, IterableDataset


class Steps(IterableDataset[int]):
    """The numbers of a fit's optimiser steps.

    Iterable, for Lightning would give each rank only its share of a list's items: every rank takes part in every step.

    Args:
        total: Number of steps.

    Example:
        >>> [int(step) for step in Steps(3).loader()]
        [0, 1, 2]
    """

    def __init__(self, total: int) -> None:
        self.total = total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.total))

    def __len__(self) -> int:
        return self.total

    def loader(self) -> DataLoader[int]:
        """A loader without batches or workers."""
        # A loader without a generator draws a number from the global one, which nobody reads here.
        return DataLoader(self, batch_size=None, generator=torch.Generator())
