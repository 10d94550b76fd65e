"""The handwritten digits that come with scikit-learn: a whole run in seconds, without a download."""

from typing import Any

import torch

from pdd_lightning.datamodules.base import ImageDataModule
from pdd_lightning.datamodules.raw import RawData, stratified_split
from pdd_lightning.errors import ConfigError


class DigitsData(ImageDataModule):
    """1,797 grey digits of 8x8 pixels, embedded in scikit-learn.

    Args:
        test_fraction: Part of each class held out for testing, between 0 and 1. ``split_seed`` decides which
            images, as the data come without a test set.
        **kwargs: The options of every data module.

    Raises:
        ConfigError: If an option has an impossible value.

    Example:
        >>> data = DigitsData(test_fraction=0.2, validation_fraction=0.1)
        >>> data.setup()
        >>> len(data.train), len(data.validation), len(data.test), data.image_shape
        (1295, 143, 359, (1, 8, 8))
    """

    def __init__(self, test_fraction: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < test_fraction < 1:
            raise ConfigError(f"test_fraction={test_fraction}: must be above 0 and below 1; 0.2 is usual")
        self.test_fraction = test_fraction

    def load_raw(self) -> RawData:
        """Read the digits, grey values 0..16 stretched to 0..255, and split off a test set."""
        # Slow to import, and read by nobody with other data.
        from sklearn.datasets import load_digits  # noqa: PLC0415

        levels, digits = load_digits(return_X_y=True)
        images = torch.from_numpy(levels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
        labels = torch.from_numpy(digits).to(torch.int64)
        train, test = stratified_split(labels, self.test_fraction, self.split_seed, "test")
        names = tuple(str(digit) for digit in range(10))
        return RawData(images[train], labels[train], images[test], labels[test], names)
