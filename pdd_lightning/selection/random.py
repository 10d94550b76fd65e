"""Random real images: how a distillation begins, and the simplest baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pdd_lightning.rng import Key, generator
from pdd_lightning.selection.base import Selection, SelectionContext, class_positions
from pdd_lightning.types import LabelledImages


@dataclass(frozen=True)
class RandomSelection(Selection):
    """Images drawn without replacement, class by class.

    Example:
        >>> from pathlib import Path
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.training.problem import Problem
        >>> images = LabelledImages(torch.zeros(6, 1, 8, 8), torch.arange(6) % 2)
        >>> problem = Problem(ConvNet(), (1, 8, 8), num_classes=2)
        >>> context = SelectionContext(problem, images, ("even", "odd"), "fingerprint", Path("new"))
        >>> even, odd = RandomSelection().choose(context, [torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5])], ipc=2)
        >>> len(even), len(odd)
        (2, 2)
    """

    name = "random"

    def choose(self, context: SelectionContext, classes: Sequence[Tensor], ipc: int) -> list[Tensor]:
        """See :meth:`Selection.choose`."""
        return [_draw(positions, ipc, context.problem.seed, "select", label) for label, positions in enumerate(classes)]


def random_images(
    real: LabelledImages, class_names: tuple[str, ...], ipc: int, seed: int, *keys: Key, asked: str | None = None
) -> tuple[Tensor, Tensor]:
    """Real images, drawn without replacement, class by class.

    Args:
        real: Where to draw from.
        class_names: In the order of the labels.
        ipc: Images per class.
        seed: The run's seed.
        keys: What they are for.
        asked: What the user gave to have so many, for the message; ``model.ipc=<ipc>`` by default.

    Returns:
        Images (C * ipc, channels, H, W) and labels (C * ipc,), class by class.

    Raises:
        ConfigError: If a class has fewer images.
    """
    classes = class_positions(real, class_names, ipc, asked)
    chosen = [_draw(positions, ipc, seed, *keys, label) for label, positions in enumerate(classes)]
    subset = real.take(torch.cat(chosen))
    return subset.images.clone(), subset.labels.clone()


def _draw(positions: Tensor, count: int, seed: int, *keys: Key) -> Tensor:
    order = torch.randperm(len(positions), generator=generator(seed, "draw", *keys))
    return positions[order[:count]]
