"""CIFAR-10 and CIFAR-100 in their Python archives (Krizhevsky 2009), read by torchvision."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100  # type: ignore[import-untyped]

from pdd_lightning.datamodules.base import ImageDataModule
from pdd_lightning.datamodules.raw import RawData
from pdd_lightning.errors import DataError


class CIFAR10Data(ImageDataModule):
    """CIFAR-10: 50,000 training and 10,000 test images, 3x32x32, 10 classes.

    Args:
        root: Folder that holds ``cifar-10-batches-py``.
        download: Whether to fetch the archive into ``root`` when it is not there yet.
        **kwargs: The options of every data module.

    Example:
        >>> CIFAR10Data("elsewhere", zca=True).setup()  # which needs the archive, or download=True and prepare_data()
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.DataError: root='elsewhere': cifar-10-batches-py is missing there ...
    """

    source: ClassVar[type[CIFAR10]] = CIFAR10

    def __init__(self, root: str = "data", download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.download = download

    def prepare_data(self) -> None:
        """Fetch the archive where asked to, and fill the cache.

        Raises:
            DataError: If the download fails.
        """
        if self.download:
            self._fetch()
        super().prepare_data()

    def _fetch(self) -> None:
        try:
            self.source(self.root, download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"download=true: {self.source.__name__} could not be fetched from {self.source.url} into "
                f"root={self.root!r} ({error}). Check the connection and the folder, or unpack the archive "
                "there by hand and set `download: false`."
            ) from error

    def load_raw(self) -> RawData:
        """Read both parts.

        Raises:
            DataError: If the archive's files are missing or differ from the published ones.
        """
        train, test = self._part(train=True), self._part(train=False)
        return RawData(*_tensors(train), *_tensors(test), tuple(train.classes))

    def _part(self, *, train: bool) -> CIFAR10:
        try:
            return self.source(self.root, train=train)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"root={self.root!r}: {self.source.base_folder} is missing there or its files are damaged. "
                "Point `root` at the folder that holds it, or set `download: true` (outside a Trainer, call "
                "prepare_data() before setup())."
            ) from error


class CIFAR100Data(CIFAR10Data):
    """CIFAR-100: 50,000 training and 10,000 test images, 3x32x32, 100 classes (the fine labels).

    Args:
        root: Folder that holds ``cifar-100-python``.
        download: Whether to fetch the archive into ``root`` when it is not there yet.
        **kwargs: The options of every data module.

    Example:
        >>> data = CIFAR100Data(root="data", validation_fraction=0.02, zca=True)
        >>> data.source.base_folder  # what `root` holds
        'cifar-100-python'
    """

    source: ClassVar[type[CIFAR10]] = CIFAR100

    def __init__(self, root: str = "data", download: bool = False, **kwargs: Any) -> None:
        super().__init__(root=root, download=download, **kwargs)


def _tensors(part: CIFAR10) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(part.targets, dtype=torch.int64)
