"""Multi-formation: one stored image holds several training images.

Source: Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022, section 4.1: each
stored image is cut into factor x factor tiles, and every tile is enlarged to the size of an image.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pdd_lightning.errors import ConfigError
from pdd_lightning.types import LabelledImages

Reduction = Literal["bilinear", "nearest"]
"""How images are reduced to tiles."""


def check_factor(factor: int, height: int, width: int) -> None:
    """Refuse a factor that leaves tiles without a pixel.

    Args:
        factor: Tiles along each side.
        height: Of an image.
        width: Of an image.

    Raises:
        ConfigError: If it is below 1 or above a side.
    """
    if not 1 <= factor <= min(height, width):
        raise ConfigError(
            f"model.factor={factor}: an image of {height}x{width} pixels holds 1x1 to "
            f"{min(height, width)}x{min(height, width)} tiles; 1 stores each training image whole, and 2 is usual"
        )


def decode(images: Tensor, factor: int) -> Tensor:
    """The training images that stored images hold.

    Where the factor does not divide a side, the first tiles are one pixel larger than the last ones, so that every
    stored pixel belongs to exactly one training image.

    Args:
        images: Shape (N, C, H, W).
        factor: Tiles along each side, 1 <= factor <= min(H, W).

    Returns:
        Shape (N * factor**2, C, H, W), differentiable (twice) in `images`: the tiles of the first image row by row,
        then those of the second, enlarged bilinearly. The images themselves for a factor of 1.
    """
    if factor == 1:
        return images
    size = images.shape[-2:]
    enlarged = [F.interpolate(tile, size=size, mode="bilinear", align_corners=False) for tile in _tiles(images, factor)]
    return torch.stack(enlarged, 1).flatten(0, 1)


def decode_labels(labels: Tensor, factor: int) -> Tensor:
    """Labels of :func:`decode`'s images.

    Args:
        labels: Of the stored images, shape (N,).
        factor: As there.

    Returns:
        Shape (N * factor**2,).
    """
    return labels.repeat_interleave(factor**2)


def decode_set(stored: LabelledImages, factor: int) -> LabelledImages:
    """Training images and their labels; see :func:`decode`."""
    return LabelledImages(decode(stored.images, factor), decode_labels(stored.labels, factor))


def encode(images: Tensor, factor: int, reduction: Reduction = "bilinear") -> Tensor:
    """Images that hold others, reduced to tiles: IDC's mixed initialisation (its appendix).

    Args:
        images: Shape (N * factor**2, C, H, W), in the order of :func:`decode`.
        factor: Tiles along each side.
        reduction: ``"bilinear"`` averages over what a pixel of a tile stands for; ``"nearest"`` takes one pixel of it,
            as IDC's code does.

    Returns:
        Shape (N, C, H, W).
    """
    if factor == 1:
        return images
    stored = torch.empty_like(images[:: factor**2])
    for index, tile in enumerate(_tiles(stored, factor)):
        size = (tile.shape[-2], tile.shape[-1])
        whole = images[index :: factor**2]
        tile.copy_(F.interpolate(whole, size=size, mode=reduction, antialias=reduction == "bilinear"))
    return stored


def _tiles(images: Tensor, factor: int) -> list[Tensor]:
    """Views of the tiles, row by row."""
    rows = images.tensor_split(factor, dim=-2)
    return [tile for row in rows for tile in row.tensor_split(factor, dim=-1)]
