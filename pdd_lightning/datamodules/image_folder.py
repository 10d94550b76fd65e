"""Any data set that lies in one folder per class."""

import re
from pathlib import Path
from typing import Any

import torch

from pdd_lightning.datamodules.base import ImageDataModule
from pdd_lightning.datamodules.decoding import load_images
from pdd_lightning.datamodules.raw import RawData
from pdd_lightning.errors import ConfigError, DataError


class ImageFolderData(ImageDataModule):
    """Image files as ``train/<class>/<file>`` and ``test/<class>/<file>``.

    Classes are numbered in the natural order of their folders' names: ``2`` comes before ``10``. Files whose
    name begins with a dot are passed over. Transparent images and films are refused: what is behind, or which
    picture to take, is not for us to say.

    Args:
        root: Folder that holds ``train`` and ``test``.
        image_size: Resize every image to this many pixels square, without keeping its aspect ratio. Null
            requires that all images are of one square size already.
        grey: Whether to read one grey channel instead of red, green and blue.
        **kwargs: The options of every data module.

    Raises:
        ConfigError: If an option has an impossible value.
    """

    def __init__(self, root: str, image_size: int | None = None, grey: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if image_size is not None and image_size < 1:
            raise ConfigError(f"image_size={image_size}: must be at least 1 pixel, or null to take images as they are")
        self.root = root
        self.image_size = image_size
        self.grey = grey

    def prepare_data(self) -> None:
        """Fill the cache, if there is one, in one process before all others read it."""
        if self.cache_dir is not None:
            self.load_raw()

    def load_raw(self) -> RawData:
        """Decode all files.

        Raises:
            DataError: If folders are missing, empty or differ between train and test, or files are unreadable
                or of differing sizes.
        """
        root = Path(self.root).expanduser()
        train, test = self._classes(root / "train"), self._classes(root / "test")
        if train.keys() != test.keys():
            raise DataError(
                f"root={self.root!r}: train and test must have the same class folders. Only in train: "
                f"{_listed(train.keys() - test.keys())}; only in test: {_listed(test.keys() - train.keys())}."
            )
        # One call for both parts, so that their sizes are compared with each other.
        files = [path for part in (train, test) for name in train for path in part[name]]
        images = load_images(files, root, image_size=self.image_size, grey=self.grey, cache_dir=self.cache_dir)
        train_labels, test_labels = (
            torch.tensor([label for label, name in enumerate(train) for _ in part[name]]) for part in (train, test)
        )
        count = len(train_labels)
        return RawData(images[:count], train_labels, images[count:], test_labels, tuple(train))

    def _classes(self, folder: Path) -> dict[str, list[Path]]:
        """Each class's files, classes in natural order."""
        if not folder.is_dir():
            missing = folder if folder.parent.is_dir() else folder.parent
            raise DataError(
                f"root={self.root!r}: there is no folder {missing}. Point `root` at a folder that holds "
                "train/<class>/ and test/<class>/ with image files."
            )
        names = sorted((entry.name for entry in _visible(folder) if entry.is_dir()), key=natural_key)
        if not names:
            raise DataError(f"root={self.root!r}: {folder} holds no class folders. Put images in {folder}/<class>/.")
        classes = {name: sorted(_visible(folder / name)) for name in names}
        for name, files in classes.items():
            if not files:
                raise DataError(
                    f"root={self.root!r}: {folder / name} holds no images. Add some, or remove the class "
                    "from both train and test."
                )
        return classes


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that compares runs of digits as numbers.

    Args:
        name: For example ``class10``, which sorts after ``class2``.
    """
    parts = [part for part in re.split(r"(\d+)", name) if part]
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
    return key, name  # the name itself decides between 2 and 02


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names, key=natural_key)) or "none"
