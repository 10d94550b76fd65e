"""Training networks on tensors: a plain loop for experts, transitions and probes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from pdd_lightning.compute.functional import Layout, detached
from pdd_lightning.rng import Key, generator
from pdd_lightning.training.augmentation import Augmentation
from pdd_lightning.training.cutmix import Mix, mixed_cross_entropy
from pdd_lightning.training.gradients import LossGradients, Recordings, is_function, is_recordable
from pdd_lightning.training.recipe import Precision, Recipe, autocast, minibatch
from pdd_lightning.types import ImageShape, LabelledImages, State

SCORED_AT_ONCE: Final = 1000
"""Images that a network outside its training is shown at once."""

_PREFIX: Final = "state."


class Learner:
    """A network in training, whose parameters are slices of one vector and whose gradients are slices of another.

    A step of SGD is then three operations on vectors, whatever the number of layers, and the same arithmetic as
    ``torch.optim.SGD``.

    Args:
        network: The network; taken over and moved.
        device: Where to train.
        compile: Let PyTorch compile the steps of networks that are known to it; others are computed as they come.
        recordings: Of networks of this kind, to be shared by all learners that are given them.

    Example:
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.training import NoAugmentation
        >>> images = LabelledImages(torch.eye(64)[:4].view(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
        >>> learner = Learner(ConvNet(width=4).build((1, 8, 8), num_classes=2))
        >>> learner.train(images, 0.1, Recipe(epochs=100), NoAugmentation(), 0, "example")
        >>> learner.accuracy(images)
        1.0
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        compile: bool = False,
        recordings: Recordings | None = None,
    ) -> None:
        self.network = network.to(device).train()
        self.device = torch.device(device)
        self.layout = Layout.of(self.network)
        self._values = self.layout.flatten(self.network.state_dict())
        self._gradient = torch.zeros_like(self._values)
        self._momentum: Tensor | None = None
        self._compile = compile
        self._recordings = {} if recordings is None else recordings
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
        named = named_state(self.state())
        return named if self._momentum is None else {**named, "momentum": self._momentum.clone()}

    def restore(self, checkpoint: State) -> None:
        """Continue from what :meth:`checkpoint` gave."""
        self.load(state_in(checkpoint))
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
            recipe: Momentum, weight decay and precision are read from it.
            mix: How the images were mixed, if they were.

        Returns:
            The loss before the step, a detached scalar.
        """
        return step_together([self], [(images, labels, mix)], rate, recipe)[0]

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
        train_together([self], data, rate, recipe, augmentation, seed, [keys], after_epoch)

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
            images, labels, mix = minibatch(data, batches, step, recipe, augmentation, draws)
            self.step(images, labels, rate, recipe, mix)

    def gradients(self, precision: Precision) -> LossGradients | None:
        """Gives the gradients of networks of this kind where they are recorded or compiled, else None."""
        compiled = self._compile and self.device.type == "cpu" and is_function(self.network)
        if not (compiled or is_recordable(self.network, self.device)):
            return None
        key = precision, self._compile
        if key not in self._recordings:
            self._recordings[key] = LossGradients(self.network, *key)
        return self._recordings[key]

    def compile(self, recipe: Recipe, examples: int, image_shape: ImageShape) -> None:
        """Compile steps for all minibatches of a training now, in place of when the first one comes.

        Args:
            recipe: Of the training.
            examples: Of the training.
            image_shape: Of the images.
        """
        gradients = self.gradients(recipe.precision)
        if gradients is None:
            return
        for size in sorted({min(recipe.batch_size, examples), examples % recipe.batch_size} - {0}):
            images, labels = torch.zeros(size, *image_shape), torch.zeros(size, dtype=torch.int64)
            gradients([(self._values, images.to(self.device), labels.to(self.device), None)])

    def _step(self, images: Tensor, labels: Tensor, mix: Mix | None, rate: float, recipe: Recipe) -> Tensor:
        """A step that is computed as it comes."""
        self._gradient.zero_()
        with autocast(recipe.precision, self.device):
            logits = self.network(images)
        loss = mixed_cross_entropy(logits.to(self._values.dtype), labels, mix)
        loss.backward()  # type: ignore[no-untyped-call]
        self._move(self._gradient, rate, recipe)
        return loss.detach()

    @torch.no_grad()
    def _move(self, gradient: Tensor, rate: float, recipe: Recipe) -> None:
        """The update of SGD with a gradient, which it uses up."""
        if recipe.weight_decay:
            gradient.add_(self._values, alpha=recipe.weight_decay)
        direction = gradient
        if recipe.momentum:
            if self._momentum is None:
                self._momentum = gradient.clone()
            else:
                self._momentum.mul_(recipe.momentum).add_(gradient)
            direction = self._momentum
        self._values.add_(direction, alpha=-rate)

    def accuracy(self, data: LabelledImages, batch_size: int = SCORED_AT_ONCE) -> float:
        """Fraction of examples classified correctly, in evaluation mode."""
        return accuracy(self.network, data, batch_size)


@torch.no_grad()
def accuracy(network: nn.Module, data: LabelledImages, batch_size: int = SCORED_AT_ONCE) -> float:
    """Fraction of examples that a network classifies correctly in evaluation mode; its mode stays what it was.

    Args:
        network: The network.
        data: Examples on its device.
        batch_size: Images that it is shown at once.
    """
    mode = network.training
    network.eval()
    correct = 0
    for images, labels in zip(*(torch.split(t, batch_size) for t in (data.images, data.labels)), strict=True):
        correct += int((network(images).argmax(1) == labels).sum())
    network.train(mode)
    return correct / len(data)


def named_state(state: State) -> State:
    """A state under names that tell it from other tensors of a file."""
    return {f"{_PREFIX}{name}": tensor for name, tensor in state.items()}


def state_in(tensors: Mapping[str, Tensor]) -> State:
    """The state that is among tensors under the names of :func:`named_state`."""
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(_PREFIX)}


def groups(members: Sequence[int], at_once: int, finished: Callable[[int], bool]) -> list[Sequence[int]]:
    """The groups in which networks of one kind are trained, less those that are finished.

    Groups are those of all members, whatever is finished.

    Args:
        members: Numbers of all the networks.
        at_once: Size of a group.
        finished: Whether a member needs no training.
    """
    together = [members[first : first + at_once] for first in range(0, len(members), at_once)]
    return [group for group in together if not all(finished(member) for member in group)]


def step_together(
    learners: Sequence[Learner], shown: Sequence[tuple[Tensor, Tensor, Mix | None]], rate: float, recipe: Recipe
) -> list[Tensor]:
    """One step of SGD for each of several learners of one kind, side by side on a GPU.

    Args:
        learners: The networks.
        shown: The minibatch of each, from :func:`minibatch`.
        rate: Learning rate.
        recipe: Momentum, weight decay and precision are read from it.

    Returns:
        The loss of each before the step, a detached scalar.
    """
    gradients = learners[0].gradients(recipe.precision)
    if gradients is None:
        return [learner._step(*own, rate, recipe) for learner, own in zip(learners, shown, strict=True)]
    found = gradients([(learner._values, *own) for learner, own in zip(learners, shown, strict=True)])
    for learner, (_, gradient) in zip(learners, found, strict=True):
        learner._move(gradient, rate, recipe)
    return [loss for loss, _ in found]


def train_together(
    learners: Sequence[Learner],
    data: LabelledImages,
    rate: float,
    recipe: Recipe,
    augmentation: Augmentation,
    seed: int,
    keys: Sequence[tuple[Key, ...]],
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train several learners of one kind step by step, each as :meth:`Learner.train` would.

    Args:
        learners: The networks.
        data: Examples on their device.
        rate: Initial learning rate.
        recipe: Everything else.
        augmentation: Applied to every minibatch.
        seed: The run's seed.
        keys: What the training of each is for.
        after_epoch: Called with the number of finished epochs.
    """
    for learner in learners:
        learner.network.train()
        learner._momentum = None
    batches = [recipe.batches(len(data), seed, *own) for own in keys]
    for epoch in range(recipe.epochs):
        draws = [generator(seed, *own, "augment", epoch) for own in keys]
        for index in range(batches[0].per_epoch):
            step = epoch * batches[0].per_epoch + index
            shown = [
                minibatch(data, own, step, recipe, augmentation, draw) for own, draw in zip(batches, draws, strict=True)
            ]
            step_together(learners, shown, recipe.rate(rate, epoch), recipe)
        if after_epoch is not None:
            after_epoch(epoch + 1)
