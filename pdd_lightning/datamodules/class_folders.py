"""Which image files lie in the folders of classes, and what each class is called."""

import mimetypes
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError

from pdd_lightning.datamodules.image_file import unreadable
from pdd_lightning.errors import DataError


@dataclass(frozen=True)
class ClassFolders:
    """The image files of one part of a data set.

    Attributes:
        files: Of each class, by the name of its folder, classes in natural order.
        passed_over: Files that lie in no class folder, or are no images by their names.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     for name in ("train/cat/1.png", "train/dog/1.png", "train/notes.txt"):
        ...         path = Path(root, name)
        ...         path.parent.mkdir(parents=True, exist_ok=True)
        ...         path.touch()
        ...     found = list_classes(Path(root, "train"), f"{root=}")
        >>> list(found.files), [path.name for path in found.passed_over]
        (['cat', 'dog'], ['notes.txt'])
    """

    files: dict[str, list[Path]] = field(default_factory=dict)
    passed_over: list[Path] = field(default_factory=list)


def list_classes(folder: Path, option: str) -> ClassFolders:
    """Find the classes and their files.

    Names are compared, and given, in Unicode's composed form: some systems store "é" as two characters.

    Args:
        folder: Holds ``<class>/<file>``.
        option: Begins each message, such as ``root='data'``.

    Raises:
        DataError: If there is no such folder, a class is empty, or a link leads nowhere.
    """
    if not folder.is_dir():
        for path in (folder, *folder.parents):
            _require_target(path)
        missing = folder if folder.parent.is_dir() else folder.parent
        raise DataError(
            f"{option}: there is no folder {missing}. Point `root` at a folder that holds train/<class>/ and "
            "test/<class>/ with image files, or <class>/ alone to have a test set split off."
        )
    found = ClassFolders()
    folders: dict[str, Path] = {}
    for entry in visible(folder):
        if not entry.is_dir():
            found.passed_over.append(folder / entry.name)
            continue
        name = unicodedata.normalize("NFC", entry.name)
        if name in folders:
            raise DataError(
                f"{option}: {folder} holds two folders that are both called {printable(name)}, in different Unicode "
                "forms. Move the images into one of them."
            )
        folders[name] = folder / entry.name
    if not folders:
        raise DataError(f"{option}: {folder} holds no class folders. Put images in {folder}/<class>/.")
    for name in sorted(folders, key=natural_key):
        images, others = _images(folders[name])
        if not images:
            only = f", only files such as {others[0].name}" if others else ""
            raise DataError(
                f"{option}: {folders[name]} holds no images{only}. Add some, or remove the class (from both train and "
                "test)."
            )
        found.files[name] = images
        found.passed_over.extend(others)
    return found


def is_flat(root: Path) -> bool:
    """Whether a folder holds class folders without ``train`` and ``test`` above them."""
    if not root.is_dir() or any(os.path.lexists(root / part) for part in ("train", "test")):
        return False
    folders = [entry for entry in visible(root) if entry.is_dir()]
    return any(not inner.is_dir() for entry in folders for inner in visible(root / entry.name))


def visible(folder: Path) -> list["os.DirEntry[str]"]:
    """What lies in a folder, in order, apart from names that begin with a dot.

    Raises:
        DataError: If a link leads nowhere: passed over, it would make the data set smaller without a word.
    """
    with os.scandir(folder) as scan:
        entries = [entry for entry in scan if not entry.name.startswith(".")]
    for entry in entries:
        if entry.is_symlink():
            _require_target(folder / entry.name)
    return sorted(entries, key=lambda entry: entry.name)


def class_names(names: Iterable[str]) -> tuple[str, ...]:
    """What to call the classes of some folders: text that can be written anywhere, and different for each.

    Args:
        names: Of the folders.
    """
    shown: dict[str, None] = {}
    for name in names:
        text, number = printable(name), 2
        while text in shown:
            text, number = f"{printable(name)} ({number})", number + 1
        shown[text] = None
    return tuple(shown)


def printable(name: str) -> str:
    r"""A file's name as text: bytes that are no UTF-8 are shown as ``\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that compares runs of digits as numbers.

    Args:
        name: For example ``class10``, which sorts after ``class2``.
    """
    parts = [part for part in re.split(r"(\d+)", name) if part]
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
    return key, name  # the name itself decides between 2 and 02


def _images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images of one class, and what else lies there."""
    images: list[Path] = []
    others: list[Path] = []
    for entry in visible(folder):
        path = folder / entry.name
        if entry.is_dir():
            raise unreadable(path, "it is a folder, and images lie in the class folder itself")
        (images if _is_picture(path) else others).append(path)
    return images, others


def _is_picture(path: Path) -> bool:
    """Whether a file says by its name that it is an image, or by its contents where the name says nothing.

    Images of formats that Pillow lacks count too: they are to be refused, not passed over.
    """
    suffix = path.suffix.lower()
    if suffix:
        kind, _ = _TYPES.guess_type(f"name{suffix}", strict=False)
        known = Image.registered_extensions().get(suffix) in Image.OPEN or suffix in _PICTURES
        return known or (kind or "").startswith("image/")
    if not path.is_file():
        return False  # a pipe, which would be waited for
    try:
        with Image.open(path):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # a decoder that fails knew the format
        return True


_TYPES = mimetypes.MimeTypes()
"""What Python itself knows, the same on every machine."""


_ENDINGS: Final = (
    "3fr arw bpg cr2 cr3 crw dcm dng dpx erf exr flif hdp hdr heics hif iiq jls jph jpm jxl jxr jxs kdc mpo mrw nef "
    "nrw orf pam pef psb raf rw2 rwl sr2 srf srw wdp x3f xcf"
)
_PICTURES: Final = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Pictures that neither Python nor Pillow knows by their names: Pillow reads some of them, by their contents."""


def _require_target(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path}: is a link to {os.readlink(path)}, which does not exist. Bring back what it points at, or remove "
            "the link."
        )
