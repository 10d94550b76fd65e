"""Any data set that lies in one folder per class."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdd_lightning.datamodules.base import ImageDataModule
from pdd_lightning.datamodules.class_folders import (
    ClassFolders,
    class_names,
    is_flat,
    list_classes,
    natural_key,
    printable,
)
from pdd_lightning.datamodules.decoding import load_images
from pdd_lightning.datamodules.raw import RawData, stratified_split
from pdd_lightning.errors import ConfigError, DataError


class ImageFolderData(ImageDataModule):
    """Image files as ``train/<class>/<file>`` and ``test/<class>/<file>``, or as ``<class>/<file>`` alone.

    Classes are numbered in the natural order of their folders' names: ``2`` comes before ``10``. Files whose
    name begins with a dot are passed over, and so are those that are no images by their names, such as
    ``notes.txt``. Images are turned as their EXIF orientation says. Transparent images, films and images of more
    than 8 bits per value are refused: what is behind, which picture to take, or which bits to keep is not for us to
    say.

    Args:
        root: Folder that holds ``train`` and ``test``, or class folders from which a test set is split off.
        image_size: Resize every image to this many pixels square, without keeping its aspect ratio. Null
            requires that all images are of one square size already.
        grey: Whether to read one grey channel instead of red, green and blue. Null reads one where all images are
            grey.
        test_fraction: Part of each class held out for testing where there is neither ``train`` nor ``test``, between
            0 and 1; ``split_seed`` decides which images. Unused otherwise.
        **kwargs: The options of every data module.

    Raises:
        ConfigError: If an option has an impossible value.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as root:
        ...     for number, name in enumerate(["cat", "dog"] * 5):
        ...         Path(root, name).mkdir(exist_ok=True)
        ...         Image.new("RGB", (8, 8), color=(25 * number, 0, 255)).save(Path(root, name, f"{number}.png"))
        ...     data = ImageFolderData(root, test_fraction=0.2)
        ...     data.setup()
        >>> data.class_names, data.image_shape, len(data.test)
        (('cat', 'dog'), (3, 8, 8), 2)
    """

    def __init__(
        self,
        root: str,
        image_size: int | None = None,
        grey: bool | None = None,
        test_fraction: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if image_size is not None and image_size < 1:
            raise ConfigError(f"image_size={image_size}: must be at least 1 pixel, or null to take images as they are")
        if not 0 < test_fraction < 1:
            raise ConfigError(f"test_fraction={test_fraction}: must be above 0 and below 1; 0.2 is usual")
        self.root = root
        self.image_size = image_size
        self.grey = grey
        self.test_fraction = test_fraction

    def load_raw(self) -> RawData:
        """Decode all files.

        Raises:
            DataError: If folders are missing, empty or differ between train and test, there is but one class, or
                files are unreadable or of differing sizes.
        """
        root, option = Path(self.root).expanduser(), f"root={self.root!r}"
        flat = is_flat(root)
        parts = [list_classes(folder, option) for folder in ([root] if flat else [root / "train", root / "test"])]
        self._require_classes(parts)
        files = [path for part in parts for paths in part.files.values() for path in paths]
        images, grey = load_images(files, image_size=self.image_size, grey=self.grey, cache_dir=self.cache_dir)
        labels = torch.tensor(
            [label for part in parts for label, paths in enumerate(part.files.values()) for _ in paths]
        )
        names = class_names(parts[0].files)
        count = sum(len(paths) for paths in parts[0].files.values())
        train, test = self._split(labels, names) if flat else (slice(0, count), slice(count, None))
        self._report(parts, len(files), grey)
        return RawData(images[train], labels[train], images[test], labels[test], names)

    def _require_classes(self, parts: list[ClassFolders]) -> None:
        """Refuse what nothing could be learned from, before a file is read."""
        train, test = set(parts[0].files), set(parts[-1].files)
        if train != test:
            raise DataError(
                f"root={self.root!r}: train and test must have the same class folders. Only in train: "
                f"{_listed(train - test)}; only in test: {_listed(test - train)}."
            )
        if len(train) < 2:
            raise DataError(
                f"root={self.root!r}: holds one class only, {_listed(train)}. Add images of at least one other class."
            )

    def _split(self, labels: Tensor, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Hold out a test set."""
        train, test = stratified_split(labels, self.test_fraction, self.split_seed, "test")
        for name, left, total in zip(names, _counts(labels[test], names), _counts(labels, names), strict=True):
            if left == 0:
                raise DataError(
                    f"test_fraction={self.test_fraction}: leaves class {name} without a test image, for it has "
                    f"{total} in all. Raise test_fraction, add images, or put some in train/<class>/ and others in "
                    "test/<class>/."
                )
        self.say(
            f"{self.root} has no train and test: {len(test)} of {len(labels)} images, test_fraction="
            f"{self.test_fraction} of each class, are held out as the test set by split_seed={self.split_seed}"
        )
        return train, test

    def _report(self, parts: list[ClassFolders], count: int, grey: int) -> None:
        """Say what was decided for the user."""
        if passed_over := [path for part in parts for path in part.passed_over]:
            others = f" and {len(passed_over) - 1} more" if len(passed_over) > 1 else ""
            self.say(f"passed over, as no images by their names or in no class folder: {passed_over[0]}{others}")
        if grey == count:
            self.say(f"all {count} images are grey and read as one channel; grey=false reads them as colour")
        elif grey > count / 2:
            self.say(
                f"{grey} of {count} images are grey, the others are not: all are read as colour; grey=true reads all "
                "as one grey channel"
            )


def _counts(labels: Tensor, names: tuple[str, ...]) -> list[int]:
    counts: list[int] = labels.bincount(minlength=len(names)).tolist()
    return counts


def _listed(names: set[str]) -> str:
    return ", ".join(printable(name) for name in sorted(names, key=natural_key)) or "none"
