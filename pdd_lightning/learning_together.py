"""Training several networks of one architecture at once, each on minibatches of its own.

A step of all of them is one call of every operation, which suits a GPU that a single small network leaves idle; on a
CPU it is slower (docs/performance.md).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from pdd_lightning.augment import Augmentation
from pdd_lightning.cutmix import Mix
from pdd_lightning.functional import Layout
from pdd_lightning.learning import Learner, Recipe, autocast, minibatch
from pdd_lightning.rng import Key, generator
from pdd_lightning.types import LabelledImages, State


def can_train_together(network: nn.Module) -> bool:
    """Whether networks of this kind can be trained at once: they must keep no statistics, as batch norm does."""
    return not any(True for _ in network.buffers())


def group_size(network: nn.Module, members: int, at_once: int) -> int:
    """How many of the members make a group: one where networks of this kind cannot be trained at once."""
    return max(1, min(members, at_once)) if can_train_together(network) else 1


def groups(
    members: Sequence[int], network: nn.Module, at_once: int, finished: Callable[[int], bool]
) -> list[Sequence[int]]:
    """The groups that are still to be trained: one by one where their kind of network cannot be trained at once.

    Groups are those of all members, whatever is finished: digits depend on whom a network is trained with, and an
    interruption must not change them.

    Args:
        members: Numbers of all the networks.
        network: One of their kind.
        at_once: Size of a group.
        finished: Whether a member needs no training.
    """
    size = group_size(network, len(members), at_once)
    together = [members[first : first + size] for first in range(0, len(members), size)]
    return [group for group in together if not all(finished(member) for member in group)]


def train_group(
    network: nn.Module,
    starts: Sequence[State],
    data: LabelledImages,
    rate: float,
    recipe: Recipe,
    augmentation: Augmentation,
    seed: int,
    keys: Sequence[tuple[Key, ...]],
    after_epoch: Callable[[int, Sequence[Tensor]], None] | None = None,
) -> list[State]:
    """Train a group of networks.

    Args:
        network: One of their kind, on the device of the data; taken over. Its values do not matter.
        starts: Where each begins.
        data: Examples.
        rate: Initial learning rate.
        recipe: Everything else.
        augmentation: Applied to every minibatch.
        seed: The run's seed.
        keys: What the training of each network is for.
        after_epoch: Called with the number of finished epochs and a copy of the parameters of each network.

    Returns:
        Where each ended.
    """
    device = data.images.device
    if len(starts) == 1:
        learner = Learner(network, device)
        learner.load(starts[0])
        note = None if after_epoch is None else lambda epoch: after_epoch(epoch, [learner.parameters()])
        learner.train(data, rate, recipe, augmentation, seed, *keys[0], after_epoch=note)
        return [learner.state()]
    together = LearnersTogether(network, device)
    together.load(starts)
    note = None if after_epoch is None else lambda epoch: after_epoch(epoch, list(together.parameters()))
    together.train(data, rate, recipe, augmentation, seed, keys, after_epoch=note)
    return together.states()


class LearnersTogether:
    """Networks in training, whose parameters are the rows of one matrix.

    Each network sees the minibatches and the augmentation that :class:`pdd_lightning.learning.Learner` would show it,
    and becomes the same but for rounding.

    Args:
        network: A network of the architecture; taken over and moved. Its values do not matter.
        device: Where to train.
    """

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        assert can_train_together(network)
        self.network = network.to(device).train().requires_grad_(False)
        self.device = torch.device(device)
        self.layout = Layout.of(self.network)
        self._values = torch.empty(0, self.layout.size, device=self.device)
        self._momentum: Tensor | None = None

    def load(self, states: Sequence[State]) -> None:
        """Start from states, copied by name, with fresh momentum."""
        self._values = torch.stack([self.layout.flatten(state) for state in states]).to(self.device)
        self._momentum = None

    def states(self) -> list[State]:
        """A copy of every network's state."""
        return [{n: part.clone() for n, part in self.layout.unflatten(row).items()} for row in self._values]

    def parameters(self) -> Tensor:
        """A copy of the present parameters, shape (M, P)."""
        return self._values.clone()

    def train(
        self,
        data: LabelledImages,
        rate: float,
        recipe: Recipe,
        augmentation: Augmentation,
        seed: int,
        keys: Sequence[tuple[Key, ...]],
        after_epoch: Callable[[int], None] | None = None,
    ) -> None:
        """Train all of them for the recipe's epochs, with fresh momentum.

        Args:
            data: Examples on the learners' device.
            rate: Initial learning rate.
            recipe: Everything else.
            augmentation: Applied to every minibatch.
            seed: The run's seed.
            keys: What the training of each network is for; see :meth:`Learner.train`.
            after_epoch: Called with the number of finished epochs.
        """
        self._momentum = None
        batches = [recipe.batches(len(data), seed, *own) for own in keys]
        for epoch in range(recipe.epochs):
            draws = [generator(seed, *own, "augment", epoch) for own in keys]
            for index in range(batches[0].per_epoch):
                step = epoch * batches[0].per_epoch + index
                shown = [
                    _targets(*minibatch(data, own, step, recipe, augmentation, draw))
                    for own, draw in zip(batches, draws, strict=True)
                ]
                images, labels, partners, share = (torch.stack(part) for part in zip(*shown, strict=True))
                self._step(images, labels, partners, share, recipe.rate(rate, epoch), recipe)
            if after_epoch is not None:
                after_epoch(epoch + 1)

    def _step(
        self, images: Tensor, labels: Tensor, partners: Tensor, share: Tensor, rate: float, recipe: Recipe
    ) -> None:
        """One step of SGD for every network.

        Args:
            images: Shape (M, B, C, H, W).
            labels: Shape (M, B).
            partners: Labels of what CutMix brought in, shape (M, B).
            share: Weight of the images' own labels, shape (M,).
            rate: Learning rate.
            recipe: Momentum, weight decay and precision are read from it.
        """

        def loss(values: Tensor, images: Tensor, labels: Tensor, partners: Tensor, share: Tensor) -> Tensor:
            with autocast(recipe.precision, self.device):
                logits = functional_call(self.network, self.layout.unflatten(values), (images,))
            logits = logits.to(values.dtype)
            return share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, partners)

        direction: Tensor = vmap(grad(loss))(self._values, images, labels, partners, share)
        if recipe.weight_decay:
            direction = direction.add(self._values, alpha=recipe.weight_decay)
        if recipe.momentum:
            if self._momentum is not None:
                direction = direction.add_(self._momentum, alpha=recipe.momentum)
            self._momentum = direction
        self._values.add_(direction, alpha=-rate)


def _targets(images: Tensor, labels: Tensor, mix: Mix | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, labels, their partners' labels and the share of the images' own: what can be stacked."""
    partners = labels if mix is None else labels[mix.order.to(labels.device)]
    share = torch.tensor(1.0 if mix is None else mix.share, dtype=images.dtype, device=images.device)
    return images, labels, partners, share
