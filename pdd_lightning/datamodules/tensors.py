"""Images that are in memory already."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pdd_lightning.datamodules.base import ImageDataModule
from pdd_lightning.datamodules.raw import RawData, stratified_split
from pdd_lightning.errors import ConfigError, DataError


class TensorData(ImageDataModule):
    """Images and labels as tensors, or as arrays of numpy.

    Args:
        train_images: Grey levels 0..255, uint8, shape (N, C, H, W) with C 1 (grey) or 3 (colour).
        train_labels: Integers from 0, shape (N,).
        test_images: Like the training images; None splits a test set off these.
        test_labels: Of the test images.
        class_names: By label; None names the classes by their numbers.
        test_fraction: Part of each class that is held out for testing where no test images are given, between 0 and 1;
            ``split_seed`` decides which images.
        **kwargs: The options of every data module.

    Raises:
        ConfigError: If an option has an impossible value, or test images come without labels.
        DataError: If images or labels are of another form.

    Example:
        >>> images, labels = torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20) % 2
        >>> data = TensorData(images, labels, class_names=["even", "odd"])
        >>> data.setup()
        >>> len(data.train), len(data.validation), len(data.test), data.class_names
        (14, 2, 4, ('even', 'odd'))
        >>> TensorData(images.float() / 255, labels)
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.DataError: train_images are torch.float32: give grey levels 0..255 as uint8, ...
    """

    def __init__(
        self,
        train_images: Any,
        train_labels: Any,
        test_images: Any = None,
        test_labels: Any = None,
        class_names: Sequence[str] | None = None,
        test_fraction: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < test_fraction < 1:
            raise ConfigError(f"test_fraction={test_fraction}: must be above 0 and below 1; 0.2 is usual")
        if (test_images is None) != (test_labels is None):
            raise ConfigError("test_images and test_labels belong together: give both, or neither to split them off")
        self.class_names_given = None if class_names is None else tuple(class_names)
        self.test_fraction = test_fraction
        self._train = _images(train_images, "train_images"), _labels(train_labels, "train_labels")
        self._test = (
            None if test_images is None else (_images(test_images, "test_images"), _labels(test_labels, "test_labels"))
        )

    def load_raw(self) -> RawData:
        """The tensors, and a test set split off if none was given.

        Raises:
            DataError: If images, labels and names do not fit together.
        """
        images, labels = self._train
        if len(labels) != len(images) or not len(labels):
            raise DataError(f"train_images are {len(images)} and train_labels {len(labels)}: give one label per image")
        names = self.class_names_given or tuple(map(str, range(int(labels.max()) + 1)))
        if self._test is not None:
            return RawData(images, labels, *self._test, names)
        kept, held = stratified_split(labels, self.test_fraction, self.split_seed, "test")
        return RawData(images[kept], labels[kept], images[held], labels[held], names)


def _tensor(given: Any, name: str) -> Tensor:
    """An array of any kind as a tensor.

    Raises:
        DataError: If it is none.
    """
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} is a {type(given).__name__}: give a tensor, or an array of numpy") from error


def _images(given: Any, name: str) -> Tensor:
    """Images as they are stored.

    Raises:
        DataError: With what would bring them into that form.
    """
    images = _tensor(given, name)
    shape = tuple(images.shape)
    if images.dtype != torch.uint8:
        raise DataError(
            f"{name} are {images.dtype}: give grey levels 0..255 as uint8, such as "
            "(255 * x).round().to(torch.uint8) of x in [0, 1], and before any normalisation"
        )
    if len(shape) == 3:
        raise DataError(f"{name} have shape {shape}: give (N, C, H, W); grey images have one channel, x[:, None]")
    if len(shape) == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        raise DataError(f"{name} have shape {shape}: give channels first, (N, C, H, W), as x.permute(0, 3, 1, 2)")
    return images.contiguous()


def _labels(given: Any, name: str) -> Tensor:
    """Labels as they are stored.

    Raises:
        DataError: If they are no integers, or negative.
    """
    labels = _tensor(given, name)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.ndim != 1:
        raise DataError(f"{name} are {labels.dtype} of shape {tuple(labels.shape)}: give one integer for each image")
    if len(labels) and labels.min() < 0:
        raise DataError(f"{name} begin at {int(labels.min())}: number the classes from 0")
    return labels.to(torch.int64)
