"""CutMix: a rectangle of each image is replaced by another image's, and its label counts by the area.

Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
section 3.1, with the mixing ratio uniform in [0, 1) as published (Beta(1, 1)). It mixes labels, so it belongs to the
training of networks (:class:`pdd_lightning.training.recipe.Recipe`) and not to an augmentation, which sees images only.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pdd_lightning.types import ImageShape, sent


@dataclass(frozen=True)
class Mix:
    """What was drawn for one minibatch.

    Attributes:
        order: Position of each image's partner, shape (N,), on the CPU.
        box: The rectangle that comes from the partner: top, bottom, left, right, the ends exclusive.
        share: Part of the area that stays the image's own, in [0, 1].

    Example:
        >>> mix = Mix(order=torch.tensor([1, 0]), box=(0, 2, 0, 2), share=0.75)
        >>> images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
        >>> mix.apply(images).mean((1, 2, 3))
        tensor([0.2500, 0.7500])
    """

    order: Tensor
    box: tuple[int, int, int, int]
    share: float

    def apply(self, images: Tensor) -> Tensor:
        """Mixed images, shape (N, C, H, W) as given."""
        top, bottom, left, right = self.box
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[sent(self.order, images.device), :, top:bottom, left:right]
        return mixed


def draw_mix(probability: float, count: int, image_shape: ImageShape, generator: torch.Generator) -> Mix | None:
    """Draw whether and how a minibatch is mixed.

    Args:
        probability: Of mixing it at all; 0 leaves the generator untouched.
        count: Number of images.
        image_shape: Channels, height, width.
        generator: On the CPU.

    Returns:
        None if it is not mixed.
    """
    if not probability:
        return None
    chance, own, down, right = torch.rand(4, generator=generator).tolist()
    if chance >= probability:
        return None
    _, height, width = image_shape
    rows, columns = (_span(size, math.sqrt(1 - own), centre) for size, centre in ((height, down), (width, right)))
    area = (rows[1] - rows[0]) * (columns[1] - columns[0])
    order = torch.randperm(count, generator=generator)
    return Mix(order, (*rows, *columns), 1 - area / (height * width))


def _span(size: int, ratio: float, centre: float) -> tuple[int, int]:
    """Begin and end of a side of the rectangle, clipped at the image's border."""
    middle, half = int(centre * size), int(size * ratio) // 2
    return max(middle - half, 0), min(middle + half, size)


def mixed_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    mix: Mix | None,
    rows: slice = slice(None),
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    """Cross-entropy with the labels of both images, each by its area.

    Args:
        logits: Of the chosen rows, shape (n, classes).
        labels: Of the whole minibatch, shape (N,).
        mix: What was drawn for the minibatch; None for plain cross-entropy.
        rows: Which rows of the minibatch the logits belong to.
        reduction: Over the rows.

    Returns:
        A scalar.
    """
    own = F.cross_entropy(logits, labels[rows], reduction=reduction)
    if mix is None:
        return own
    partners = labels[sent(mix.order, labels.device)][rows]
    return mix.share * own + (1 - mix.share) * F.cross_entropy(logits, partners, reduction=reduction)
