"""How networks are trained, and what they see in a step."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pdd_lightning.described import Described
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import Key, generator
from pdd_lightning.training.augmentation import Augmentation
from pdd_lightning.training.cutmix import Mix, draw_mix
from pdd_lightning.types import LabelledImages


class Batches:
    """Shuffled minibatches without replacement, addressed by step.

    Every epoch is a new permutation; its last minibatch holds what is left. Asking for the same step twice, or
    after a resume, gives the same examples.

    Args:
        examples: Number of examples N > 0.
        batch_size: Examples per minibatch; None, or N or more, means all of them in their own order.
        seed: The run's seed.
        keys: What the minibatches are for.

    Example:
        >>> batches = Batches(10, batch_size=4, seed=0)
        >>> [len(batches[step]) for step in range(batches.per_epoch)]
        [4, 4, 2]
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


Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which losses are computed: convolutions and products in bfloat16, or everything as it is.

    Parameters, gradients and optimisers stay in float32.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@dataclass(frozen=True)
class PlainRecipe:
    """What training on the examples as they are takes, apart from the learning rate: SGD with cross-entropy.

    Args:
        epochs: Passes over the set.
        batch_size: Examples per minibatch; a smaller set is one minibatch.
        momentum: Of SGD; the buffers start at zero in every phase.
        weight_decay: L2 penalty added to the gradient.
        decay_at: Fractions of the epochs after which `decay` applies.
        decay: Factor of the learning rate at each point of `decay_at`.
        precision: Of convolutions and products: "bfloat16" is faster on hardware that has it, and less exact.

    Example:
        >>> Recipe(epochs=20, cutmix=0.5).plain["epochs"], "cutmix" in Recipe(cutmix=0.5).plain
        (20, False)
    """

    epochs: int = 300
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_at: tuple[float, ...] = (0.5,)
    decay: float = 0.1
    precision: Precision = field(default="float32", kw_only=True)  # so that it follows what subclasses add

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision={self.precision!r}: choose from {', '.join(get_args(Precision))}")
        for name in ("weight_decay", "decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        if any(not 0 < point < 1 for point in self.decay_at):
            raise ConfigError(f"decay_at holds fractions of the epochs in (0, 1), got {list(self.decay_at)}")

    @property
    def plain(self) -> dict[str, Any]:
        """Its options, less those that subclasses add."""
        return {option.name: getattr(self, option.name) for option in fields(PlainRecipe)}


@dataclass(frozen=True)
class Recipe(PlainRecipe, Described):
    """How a network is trained on a set of images.

    Args:
        cutmix: Probability of CutMix for each minibatch, after its augmentation; 0 never mixes.

    Example:
        >>> recipe = Recipe(epochs=100, batch_size=64, decay_at=(0.5,), decay=0.1)
        >>> recipe.steps(examples=100)
        200
        >>> recipe.rate(0.5, epoch=0), recipe.rate(0.5, epoch=50)
        (0.5, 0.05)
    """

    cutmix: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.cutmix <= 1:
            raise ConfigError(f"cutmix is a probability in [0, 1], got {self.cutmix}")

    def batches(self, examples: int, seed: int, *keys: Key) -> Batches:
        """The minibatches of a set of this many examples."""
        return Batches(examples, self.batch_size, seed, *keys, "batches")

    def steps(self, examples: int) -> int:
        """Optimiser steps on a set of this many examples."""
        return self.epochs * Batches(examples, self.batch_size, 0).per_epoch

    def rate(self, initial: float, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return initial * self.decay ** sum(epoch >= point * self.epochs for point in self.decay_at)


def minibatch(
    data: LabelledImages,
    batches: Batches,
    step: int,
    recipe: Recipe,
    augmentation: Augmentation,
    draws: torch.Generator,
) -> tuple[Tensor, Tensor, Mix | None]:
    """What a network sees in one step.

    Args:
        data: All examples.
        batches: Which of them form the minibatch of a step.
        step: Which step.
        recipe: CutMix is read from it.
        augmentation: Applied to the minibatch.
        draws: Decides augmentation and mixing.

    Returns:
        Augmented and mixed images, their labels, and how they were mixed, if they were.
    """
    batch = data if batches.whole else data.take(batches[step])
    shape = (data.images.shape[1], data.images.shape[2], data.images.shape[3])
    images = augmentation.apply(batch.images, augmentation.draw(len(batch), shape, draws))
    mix = draw_mix(recipe.cutmix, len(batch), shape, draws)
    return images if mix is None else mix.apply(images), batch.labels, mix
