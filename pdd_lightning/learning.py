"""Training networks on tensors: a plain loop for experts, transitions and probes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pdd_lightning.augment import Augmentation
from pdd_lightning.batches import Batches
from pdd_lightning.cutmix import Mix, draw_mix, mixed_cross_entropy
from pdd_lightning.errors import ConfigError
from pdd_lightning.functional import Layout, detached
from pdd_lightning.rng import Key, generator
from pdd_lightning.types import LabelledImages, State

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which losses are computed: convolutions and products in bfloat16, or everything as it is.

    Parameters, gradients and optimisers stay in float32.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained on a set of images: SGD with cross-entropy.

    Args:
        epochs: Passes over the set.
        batch_size: Examples per minibatch; a smaller set is one minibatch.
        momentum: Of SGD; the buffers start at zero in every phase.
        weight_decay: L2 penalty added to the gradient.
        decay_at: Fractions of the epochs after which the learning rate is multiplied by `decay`.
        decay: Factor of the learning rate at each point of `decay_at`.
        cutmix: Probability with which a minibatch is mixed by CutMix after its augmentation; 0 never does.
        precision: In which convolutions and products are computed: "bfloat16" is faster on hardware that has it, and
            less exact (docs/performance.md).
    """

    epochs: int = 300
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_at: tuple[float, ...] = (0.5,)
    decay: float = 0.1
    cutmix: float = 0.0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision={self.precision!r}: choose from {', '.join(get_args(Precision))}")
        if not 0 <= self.cutmix <= 1:
            raise ConfigError(f"cutmix is a probability in [0, 1], got {self.cutmix}")
        for name in ("weight_decay", "decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")
        if any(not 0 < point < 1 for point in self.decay_at):
            raise ConfigError(f"decay_at holds fractions of the epochs in (0, 1), got {list(self.decay_at)}")

    def batches(self, examples: int, seed: int, *keys: Key) -> Batches:
        """The minibatches of a set of this many examples."""
        return Batches(examples, self.batch_size, seed, *keys, "batches")

    def steps(self, examples: int) -> int:
        """Optimiser steps on a set of this many examples."""
        return self.epochs * Batches(examples, self.batch_size, 0).per_epoch

    def rate(self, initial: float, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return initial * self.decay ** sum(epoch >= point * self.epochs for point in self.decay_at)

    def describe(self) -> dict[str, object]:
        """What the numbers depend on, as JSON."""
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "decay_at": list(self.decay_at),
            "decay": self.decay,
            "cutmix": self.cutmix,
            "precision": self.precision,
        }


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


class Learner:
    """A network in training, whose parameters are slices of one vector and whose gradients are slices of another.

    A step of SGD is then three operations on vectors, whatever the number of layers, and the same arithmetic as
    ``torch.optim.SGD``.

    Args:
        network: The network; taken over and moved.
        device: Where to train.
    """

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self.network = network.to(device).train()
        self.device = torch.device(device)
        self.layout = Layout.of(self.network)
        self._values = self.layout.flatten(self.network.state_dict())
        self._gradient = torch.zeros_like(self._values)
        self._momentum: Tensor | None = None
        values, gradients = self.layout.unflatten(self._values), self.layout.unflatten(self._gradient)
        for name, parameter in self.network.named_parameters():
            parameter.data = values[name]
            parameter.grad = gradients[name]

    def load(self, state: State) -> None:
        """Start from a state, copied by name, with fresh momentum."""
        self.network.load_state_dict(state, strict=True)
        self._momentum = None

    def state(self) -> State:
        """A copy of the present state, buffers included."""
        return detached(self.network.state_dict())

    def checkpoint(self) -> State:
        """The present state and momentum under prefixed names, to continue bit for bit."""
        named = {f"state.{name}": tensor for name, tensor in self.state().items()}
        return named if self._momentum is None else {**named, "momentum": self._momentum.clone()}

    def restore(self, checkpoint: State) -> None:
        """Continue from what :meth:`checkpoint` gave."""
        prefix = "state."
        self.load({name[len(prefix) :]: t for name, t in checkpoint.items() if name.startswith(prefix)})
        if "momentum" in checkpoint:
            self._momentum = checkpoint["momentum"].to(self.device).clone()

    def parameters(self) -> Tensor:
        """A copy of the present parameters, shape (P,)."""
        return self._values.clone()

    def step(self, images: Tensor, labels: Tensor, rate: float, recipe: Recipe, mix: Mix | None = None) -> Tensor:
        """One step of SGD.

        Args:
            images: Shape (B, C, H, W), augmented and mixed.
            labels: Shape (B,).
            rate: Learning rate.
            recipe: Momentum and weight decay are read from it.
            mix: How the images were mixed, if they were.

        Returns:
            The loss before the step, a detached scalar.
        """
        self._gradient.zero_()
        with autocast(recipe.precision, self.device):
            logits = self.network(images)
        loss = mixed_cross_entropy(logits.to(self._values.dtype), labels, mix)
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            if recipe.weight_decay:
                self._gradient.add_(self._values, alpha=recipe.weight_decay)
            direction = self._gradient
            if recipe.momentum:
                if self._momentum is None:
                    self._momentum = self._gradient.clone()
                else:
                    self._momentum.mul_(recipe.momentum).add_(self._gradient)
                direction = self._momentum
            self._values.add_(direction, alpha=-rate)
        return loss.detach()

    def train(
        self,
        data: LabelledImages,
        rate: float,
        recipe: Recipe,
        augmentation: Augmentation,
        seed: int,
        *keys: Key,
        after_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """Train for the recipe's epochs, with fresh momentum.

        Args:
            data: Examples on the learner's device.
            rate: Initial learning rate.
            recipe: Everything else.
            augmentation: Applied to every minibatch.
            seed: The run's seed.
            keys: What this training is for; they fix minibatches and augmentation.
            after_epoch: Called with the number of finished epochs.
        """
        self.network.train()
        self._momentum = None
        batches = recipe.batches(len(data), seed, *keys)
        for epoch in range(recipe.epochs):
            draws = generator(seed, *keys, "augment", epoch)
            for index in range(batches.per_epoch):
                step = epoch * batches.per_epoch + index
                self._minibatch(data, batches, step, recipe.rate(rate, epoch), recipe, augmentation, draws)
            if after_epoch is not None:
                after_epoch(epoch + 1)

    def train_steps(
        self,
        data: LabelledImages,
        steps: Iterable[int],
        rate: float,
        recipe: Recipe,
        augmentation: Augmentation,
        seed: int,
        *keys: Key,
    ) -> None:
        """Go on training for some steps, with the momentum there is.

        Args:
            data: Examples on the learner's device.
            steps: Numbers of the steps, which address minibatches and augmentation.
            rate: Learning rate.
            recipe: Batch size, momentum, weight decay and CutMix are read from it.
            augmentation: Applied to every minibatch.
            seed: The run's seed.
            keys: What this training is for.
        """
        self.network.train()
        batches = recipe.batches(len(data), seed, *keys)
        for step in steps:
            draws = generator(seed, *keys, "augment step", step)
            self._minibatch(data, batches, step, rate, recipe, augmentation, draws)

    def _minibatch(
        self,
        data: LabelledImages,
        batches: Batches,
        step: int,
        rate: float,
        recipe: Recipe,
        augmentation: Augmentation,
        draws: torch.Generator,
    ) -> None:
        images, labels, mix = minibatch(data, batches, step, recipe, augmentation, draws)
        self.step(images, labels, rate, recipe, mix)

    @torch.no_grad()
    def accuracy(self, data: LabelledImages, batch_size: int = 1000) -> float:
        """Fraction of examples classified correctly, in evaluation mode."""
        self.network.eval()
        correct = 0
        for images, labels in zip(*(torch.split(t, batch_size) for t in (data.images, data.labels)), strict=True):
            correct += int((self.network(images).argmax(1) == labels).sum())
        self.network.train()
        return correct / len(data)
