"""Distilled images as PNG files, and what that costs: a picture holds 256 levels in [0, 1] and nothing else."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.stage.course import HALF_A_LEVEL, outside
from pdd_lightning.types import ImageShape, LabelledImages


def pictures_of(distilled: DistilledSet) -> list[LabelledImages]:
    """The stored images of each stage in uint8: de-whitened, clipped to [0, 1] and rounded.

    Raises:
        ConfigError: If they are neither grey nor RGB.
    """
    channels = distilled.about.image_shape[0]
    if channels not in (1, 3):
        raise ConfigError(f"images of {channels} channels are no pictures: export them as safetensors, npz or pt")
    invert = distilled.preprocessing.invert
    return [LabelledImages(_levels(invert(s.data.images)), s.data.labels) for s in distilled.stages]


def _levels(pixels: Tensor) -> Tensor:
    return pixels.clamp(0, 1).mul(255).round().to(torch.uint8)


@dataclass(frozen=True)
class Loss:
    """What 8 bits cost the pixels of a set.

    Attributes:
        outside: Share of the pixel values that were clipped, for they lay outside [0, 1].
        farthest: How far the farthest of them lay outside.

    Example:
        >>> print(Loss(outside=0.25, farthest=0.5))
        8 bits: 25.0 % of the pixel values lay outside [0, 1], by up to 0.50, and were clipped; all others were rounded
    """

    outside: float
    farthest: float

    @classmethod
    def of(cls, distilled: DistilledSet) -> "Loss":
        """Measure a set."""
        pixels = torch.cat([distilled.preprocessing.invert(subset.data.images) for subset in distilled.stages])
        return cls(outside(pixels), max(0.0, float(-pixels.min()), float(pixels.max()) - 1))

    def __str__(self) -> str:
        """One line for people."""
        if self.farthest <= HALF_A_LEVEL:
            return "8 bits: no pixel value lay outside [0, 1]; all were rounded"
        return (
            f"8 bits: {100 * self.outside:.1f} % of the pixel values lay outside [0, 1], by up to {self.farthest:.2f}, "
            "and were clipped; all others were rounded"
        )


def encode(picture: Tensor) -> bytes:
    """A PNG.

    Args:
        picture: Shape (C, H, W), uint8, C = 1 or 3.
    """
    rows = picture.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows[..., 0] if rows.shape[2] == 1 else rows)).save(buffer, "PNG")
    return buffer.getvalue()


def decode(data: bytes, shape: ImageShape, name: str) -> Tensor:
    """What :func:`encode` was given.

    Args:
        data: A PNG.
        shape: Channels, height, width.
        name: Of the picture, for the message.

    Raises:
        ArtifactError: If it is no PNG of this shape.
    """
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (width, height):  # before anything large is decoded
                raise ValueError(f"it has {image.width}x{image.height} pixels, expected {width}x{height}")
            levels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except Exception as error:  # what a damaged picture raises has no common class
        raise ArtifactError(f"{name} is no readable PNG ({error}); restore it, or export the set again") from error
    return torch.from_numpy(levels).view(height, width, channels).permute(2, 0, 1)
