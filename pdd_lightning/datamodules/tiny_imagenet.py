"""Tiny-ImageNet as its archive unpacks (Le and Yang, "Tiny ImageNet Visual Recognition Challenge", 2015)."""

from pathlib import Path
from typing import Any

import torch

from pdd_lightning.datamodules.base import ImageDataModule
from pdd_lightning.datamodules.decoding import load_images
from pdd_lightning.datamodules.raw import RawData
from pdd_lightning.errors import DataError

_FOLDER = "tiny-imagenet-200"


class TinyImageNetData(ImageDataModule):
    """Tiny-ImageNet: 100,000 training images, 3x64x64, 200 classes.

    The archive's test images have no labels, so its 10,000 validation images are the test set here. Classes
    are numbered in the order of their WordNet identifiers.

    Args:
        root: The unpacked folder ``tiny-imagenet-200``, or the folder that holds it.
        **kwargs: The options of every data module.

    Example:
        >>> TinyImageNetData(root="elsewhere", cache_dir="cache").load_raw()
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.DataError: root='elsewhere': found no wnids.txt in elsewhere ...
    """

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root

    def load_raw(self) -> RawData:
        """Decode all labelled images; the few grey ones are read as colour.

        Raises:
            DataError: If a part of the archive is missing or damaged.
        """
        folder = self._folder()
        wnids = sorted(self._lines(folder / "wnids.txt"))
        train = [(path, label) for label, wnid in enumerate(wnids) for path in self._train_files(folder, wnid)]
        test = self._test_files(folder, {wnid: label for label, wnid in enumerate(wnids)})
        images, _ = load_images([path for path, _ in train + test], cache_dir=self.cache_dir)
        train_labels, test_labels = (torch.tensor([label for _, label in part]) for part in (train, test))
        count = len(train)
        return RawData(images[:count], train_labels, images[count:], test_labels, self._names(folder, wnids))

    def _folder(self) -> Path:
        root = Path(self.root).expanduser()
        for folder in (root, root / _FOLDER):
            if (folder / "wnids.txt").is_file():
                return folder
        raise self._error(f"found no wnids.txt in {root} or in {root / _FOLDER}")

    def _train_files(self, folder: Path, wnid: str) -> list[Path]:
        files = sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
        if not files:
            raise self._error(f"found no train/{wnid}/images/*.JPEG")
        return files

    def _test_files(self, folder: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
        annotations = folder / "val" / "val_annotations.txt"
        files = []
        for line in self._lines(annotations):
            name, _, rest = line.partition("\t")
            wnid = rest.partition("\t")[0]
            if wnid not in labels:
                raise self._error(f"{annotations} gives {name} the class {wnid!r}, which wnids.txt lacks")
            files.append((folder / "val" / "images" / name, labels[wnid]))
        return files

    def _names(self, folder: Path, wnids: list[str]) -> tuple[str, ...]:
        """The first word for each class, or its identifier where none is given."""
        path = folder / "words.txt"
        words = dict(line.split("\t", 1) for line in self._lines(path) if "\t" in line) if path.exists() else {}
        return tuple(words.get(wnid, wnid).partition(",")[0].strip() for wnid in wnids)

    def _lines(self, path: Path) -> list[str]:
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(f"cannot read {path} ({error})") from error
        lines = [line for line in lines if line]
        if not lines:
            raise self._error(f"{path} is empty")
        return lines

    def _error(self, what: str) -> DataError:
        return DataError(
            f"root={self.root!r}: {what}. Unpack tiny-imagenet-200.zip again and point `root` at the folder "
            f"{_FOLDER} or at the one that holds it."
        )
