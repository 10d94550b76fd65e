"""What a caller may give as data, as a data module."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final

from pdd_lightning.datamodules import DigitsData, ImageDataModule, ImageFolderData, TensorData
from pdd_lightning.errors import ConfigError, DataError

DATA: Final[Mapping[str, Callable[[], ImageDataModule]]] = {"digits": DigitsData}
"""Data sets that need no option, by short names."""

Data = ImageDataModule | str | PathLike[str] | Sequence[Any]
"""A data module, a short name, the path of an image folder, or two or four tensors: images, labels."""


def as_data(data: Data) -> ImageDataModule:
    """The data module that a caller means, not set up yet.

    Args:
        data: See `Data`.

    Raises:
        DataError: If there is no such folder, or the tensors are of another form.
        ConfigError: If it is something else.

    Example:
        >>> type(as_data("digits")).__name__
        'DigitsData'
        >>> as_data("digts")
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.DataError: data='digts': there is no such folder; give an image folder, a data module, ...
    """
    if isinstance(data, ImageDataModule):
        return data
    if isinstance(data, (str, PathLike)):
        if data in DATA:
            return DATA[str(data)]()
        folder = Path(data).expanduser()
        if not folder.is_dir():
            raise DataError(
                f"data={str(data)!r}: there is no such folder; give an image folder, a data module, tensors, or one of "
                f"{', '.join(map(repr, DATA))}"
            )
        return ImageFolderData(str(folder))
    if isinstance(data, Sequence) and len(data) in (2, 4):
        return TensorData(*data)
    raise ConfigError(
        f"data is a {type(data).__name__}: give a data module, the path of an image folder, a short name, or tensors "
        "as (train_images, train_labels) or (train_images, train_labels, test_images, test_labels)"
    )
