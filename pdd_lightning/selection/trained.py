"""Selections that a network trained on the real data decides, and that training."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.progress import Progress
from pdd_lightning.selection.base import Selection, SelectionContext, read_checked
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import write_tensors
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.learner import SCORED_AT_ONCE, Learner, named_state, state_in
from pdd_lightning.training.recipe import PlainRecipe, Recipe
from pdd_lightning.types import Json, State

_KEY = "selection"


@dataclass(frozen=True)
class TrainingOptions(PlainRecipe):
    """How the network that decides is trained on the real data: without CutMix, for plain examples are looked at.

    Args:
        epochs: Passes over the real data.
        learning_rate: Initial learning rate.

    Example:
        >>> from pdd_lightning.selection import Herding
        >>> method = Herding.by(Recipe(epochs=30, momentum=0.8, cutmix=0.5), rate=0.05)
        >>> method.learning_rate, method.recipe == Recipe(epochs=30, momentum=0.8)
        (0.05, True)
    """

    epochs: int = 50
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate must be positive and finite, got {self.learning_rate}")

    @classmethod
    def by(cls, recipe: Recipe, rate: float) -> Self:
        """With the network trained by a recipe, as far as that trains on plain examples.

        Args:
            recipe: Of the training.
            rate: Its initial learning rate.
        """
        return cls(**recipe.plain, learning_rate=rate)

    @property
    def recipe(self) -> Recipe:
        """The same as a recipe."""
        return Recipe(**self.plain)


@dataclass(frozen=True)
class TrainedOnReal:
    """What a training on the real data left.

    Attributes:
        state: The trained network, on the CPU.
        correct: Shape (epochs, N), bool: whether each example was classified correctly when it was presented.

    Example:
        >>> from pdd_lightning.selection.forgetting import count_events
        >>> correct = torch.tensor([[True, True], [False, True], [True, True]])  # three epochs, two examples
        >>> count_events(TrainedOnReal({}, correct).correct)
        tensor([1, 0])
    """

    state: State
    correct: Tensor


def _file(context: SelectionContext, rate: float, recipe: Recipe) -> tuple[Path, Json]:
    """Where a training is stored, and under which settings."""
    settings: Json = {**context.settings(), "learning_rate": rate, "recipe": recipe.describe()}
    return RunFolder(context.folder).forgetting / f"{fingerprint(settings)}.safetensors", settings


def is_trained_on_real(context: SelectionContext, rate: float, recipe: Recipe) -> bool:
    """Whether :func:`train_on_real` finds its training stored; the arguments are its."""
    return _file(context, rate, recipe)[0].is_file()


def train_on_real(context: SelectionContext, rate: float, recipe: Recipe) -> TrainedOnReal:
    """Train a network on the real data once, or read what an earlier call left.

    Stored as ``forgetting/<fingerprint>.safetensors`` in the run's folder. All methods with the same options share
    one training.

    Whether an example is classified correctly is asked as in Toneva et al. (ICLR 2019, Algorithm 1): at each
    presentation, within its minibatch and before the update on it, so on the augmented image and in training mode.
    This costs nothing: the predictions are those of the training itself.

    Args:
        context: The images, and what to train with.
        rate: Initial learning rate.
        recipe: Everything else.

    Raises:
        ConfigError: If the training diverges.
        ArtifactError: If the stored training is damaged or was made under other settings.
    """
    path, settings = _file(context, rate, recipe)
    if path.is_file():
        tensors = read_checked(path, settings)
        correct = tensors.pop("correct", torch.empty(0))
        if correct.dtype != torch.bool or correct.shape != (recipe.epochs, len(context.real)):
            raise ArtifactError(
                f"{path} does not hold {recipe.epochs} epochs of {len(context.real)} examples; delete it to have it "
                "made again"
            )
        return TrainedOnReal(state_in(tensors), correct)
    training = _train(context, rate, recipe)
    tensors = {"correct": training.correct, **named_state(training.state)}
    write_tensors(path, tensors, {"settings": json.dumps(settings)})
    return training


def _train(context: SelectionContext, rate: float, recipe: Recipe) -> TrainedOnReal:
    problem = context.problem
    learner = Learner(problem.network(), problem.device)
    learner.load(problem.initial_state(_KEY))
    watch = _Watch(context, recipe)
    handle = learner.network.register_forward_hook(watch)
    with Progress() as progress, progress.task("training on the real data, to select", recipe.epochs) as task:
        learner.train(
            *(context.real, rate, recipe, problem.augmentation, problem.seed, _KEY),
            after_epoch=lambda _: task.advance(),
        )
    handle.remove()
    state = {name: tensor.cpu() for name, tensor in learner.state().items()}
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise ConfigError(f"learning_rate={rate}: the network that decides the selection diverged; lower it")
    return TrainedOnReal(state, watch.correct.cpu())


class _Watch:
    """A forward hook that notes which examples of each minibatch are classified correctly.

    Args:
        context: The images.
        recipe: Of the training that will be watched.
    """

    def __init__(self, context: SelectionContext, recipe: Recipe) -> None:
        self._batches = recipe.batches(len(context.real), context.problem.seed, _KEY)
        self._labels = context.real.labels
        self._step = 0
        self.correct = torch.zeros(recipe.epochs, len(context.real), dtype=torch.bool, device=self._labels.device)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        positions = self._batches[self._step].to(self._labels.device)
        epoch = self._step // self._batches.per_epoch
        self.correct[epoch, positions] = logits.detach().argmax(1) == self._labels[positions]
        self._step += 1


@dataclass(frozen=True)
class FeatureSelection(TrainingOptions, Selection):
    """Chooses within each class by the features that a trained network's head reads.

    Example:
        >>> class Longest(FeatureSelection):
        ...     name = "longest"
        ...
        ...     def pick(self, features, count):
        ...         return features.norm(dim=1).topk(count).indices
        >>> Longest(epochs=20).pick(torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, 3.0]]), count=2)
        tensor([2, 1])
    """

    @abstractmethod
    def pick(self, features: Tensor, count: int) -> Tensor:
        """Choose among the examples of one class.

        Args:
            features: Shape (N, F), float64, on any device.
            count: How many, at most N.

        Returns:
            Rows, shape (count,), int64, best first, on the same device.
        """

    def choose(self, context: SelectionContext, classes: Sequence[Tensor], ipc: int) -> list[Tensor]:
        """See :meth:`Selection.choose`.

        Raises:
            ConfigError: If the network has no `embed`.
        """
        network = context.problem.network()
        if not callable(getattr(network, "embed", None)):
            raise ConfigError(
                f"model.network={context.problem.architecture.name}: {self.name} compares features, and this network "
                "has no method `embed` that returns them (N, F); add one, or use random or forgetting"
            )
        network.load_state_dict(train_on_real(context, self.learning_rate, self.recipe).state)
        network.to(context.problem.device)
        # One class at a time: the features of all images together may not fit into memory.
        return [positions[self.pick(embed(network, context, positions), ipc).cpu()] for positions in classes]


@torch.no_grad()
def embed(network: nn.Module, context: SelectionContext, positions: Tensor, batch_size: int = SCORED_AT_ONCE) -> Tensor:
    """Features of some images, without augmentation and in evaluation mode.

    Args:
        network: With a method `embed`, on the context's device.
        context: The images.
        positions: Shape (N,).
        batch_size: Images at a time.

    Returns:
        Shape (N, F), float64: sums and differences of greedy methods should not depend on rounding.
    """
    network.eval()
    function: Any = network.embed
    return torch.cat([function(context.real.take(part).images).double() for part in torch.split(positions, batch_size)])
