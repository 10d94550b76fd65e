"""A data set of your own: discs, squares and crosses somewhere on a noisy ground, drawn in place of read."""

from typing import Any

import torch
from torch import Tensor

from pdd_lightning.datamodules import ImageDataModule, RawData
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator


class Shapes(ImageDataModule):
    """Grey images of 16x16 pixels in three classes.

    Args:
        per_class: Training images of each class; a third as many again are for testing.
        **kwargs: The options of every data module, such as ``validation_fraction`` and ``zca``.

    Raises:
        ConfigError: If an option is out of range.
    """

    def __init__(self, per_class: int = 120, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if per_class < 3:
            raise ConfigError(f"data.per_class must be at least 3, got {per_class}")
        self.per_class = per_class

    def load_raw(self) -> RawData:
        """Images as uint8 (N, C, H, W) and labels as int64; splitting and preprocessing come after."""
        train, test = _draw(self.per_class, "train"), _draw(self.per_class // 3, "test")
        return RawData(*train, *test, class_names=("disc", "square", "cross"))


def _draw(per_class: int, part: str, size: int = 16) -> tuple[Tensor, Tensor]:
    """Images and labels of a part: the same ones every time, for a data set does not depend on the run's seed."""
    draws = generator(0, "shapes", part)
    labels = torch.arange(3).repeat_interleave(per_class)
    centres = torch.randint(6, size - 6, (2, len(labels), 1, 1), generator=draws)
    down, right = torch.arange(size)[None, :, None] - centres[0], torch.arange(size)[None, None, :] - centres[1]
    square = (down.abs() <= 4) & (right.abs() <= 4)
    disc = down.square() + right.square() <= 20
    cross = square & ((down.abs() <= 1) | (right.abs() <= 1))
    shapes = torch.stack([disc, square, cross])[labels, torch.arange(len(labels))]
    noise = 60 * torch.randn(shapes.shape, generator=draws)
    return (150 * shapes + 50 + noise).clamp(0, 255).round().to(torch.uint8).unsqueeze(1), labels
