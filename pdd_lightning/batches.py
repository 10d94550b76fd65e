"""Which examples form the minibatch of a step, as a function of the step's number."""

import math

import torch
from torch import Tensor

from pdd_lightning.rng import Key, generator


class Batches:
    """Shuffled minibatches without replacement, addressed by step.

    Every epoch is a new permutation; its last minibatch holds what is left. Asking for the same step twice, or
    after a resume, gives the same examples.

    Args:
        examples: Number of examples N > 0.
        batch_size: Examples per minibatch; None, or N or more, means all of them in their own order.
        seed: The run's seed.
        keys: What the minibatches are for.
    """

    def __init__(self, examples: int, batch_size: int | None, seed: int, *keys: Key) -> None:
        self.examples = examples
        self.batch_size = examples if batch_size is None else min(batch_size, examples)
        self._seed, self._keys = seed, keys
        self._epoch, self._order = -1, torch.arange(examples)

    @property
    def per_epoch(self) -> int:
        """Minibatches in one epoch."""
        return math.ceil(self.examples / self.batch_size)

    @property
    def whole(self) -> bool:
        """Whether each minibatch is simply all examples in order."""
        return self.batch_size == self.examples

    def __getitem__(self, step: int) -> Tensor:
        """Positions of the examples of one step, shape (B,), on the CPU."""
        if self.whole:
            return self._order
        epoch, batch = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            order = generator(self._seed, *self._keys, "epoch", epoch)
            self._order, self._epoch = torch.randperm(self.examples, generator=order), epoch
        return self._order[batch * self.batch_size : (batch + 1) * self.batch_size]
