"""Images, labels and learning rate in the files of others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from pdd_lightning.datamodules.class_folders import list_classes
from pdd_lightning.datamodules.decoding import load_images
from pdd_lightning.errors import DataError
from pdd_lightning.store.digests import file_digest, fingerprint
from pdd_lightning.store.foreign import read_foreign

_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "images": ("images", "image", "image_syn", "data", "x"),
    "labels": ("labels", "label", "label_syn", "targets", "y"),
    "rate": ("learning_rate", "lr", "syn_lr", "rate", "alpha"),
}
"""What the parts are called in files that hold several."""


@dataclass(frozen=True, eq=False)
class ImportedFiles:
    """What the files of others hold, before it is compared with the data.

    Attributes:
        images: As they are stored.
        labels: As they are stored; by the names in `classes` where those are given.
        rate: The learning rate beside them, and where it stands.
        digests: Of the files, by what they hold.
        classes: Names of the folders' classes; None where labels number the classes of the data.
        source: What to call the files in messages.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     paths = [Path(folder, f"{name}_best.pt") for name in ("images", "labels", "lr")]
        ...     for path, tensor in zip(paths, (torch.zeros(2, 1, 8, 8), torch.arange(2), torch.tensor(0.02))):
        ...         torch.save(tensor, path)
        ...     found = read_files(paths[:2])
        >>> found.images.shape, round(float(found.rate[0]), 3), sorted(found.digests)
        (torch.Size([2, 1, 8, 8]), 0.02, ['images', 'labels', 'rate'])
    """

    images: Tensor
    labels: Tensor
    rate: tuple[Tensor, Path] | None = None
    digests: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    source: str = ""


def read_files(paths: Sequence[Path]) -> ImportedFiles:
    """Read a file of images and one of labels, one file that holds both, or a folder of class folders.

    Args:
        paths: One or two.

    Raises:
        DataError: If there are others, or they do not hold images and labels.
    """
    match paths:
        case [folder] if folder.is_dir():
            return _folder(folder)
        case [file]:
            return _file(file)
        case [images, labels]:
            return _pair(images, labels)
    raise DataError(
        f"{len(paths)} files are given: give IMAGES and LABELS, one file that holds both, or a folder of class folders"
    )


def _pair(images: Path, labels: Path) -> ImportedFiles:
    rate = next((path for path in _beside(images) if path.is_file() and path not in (images, labels)), None)
    files = {"images": images, "labels": labels} | ({} if rate is None else {"rate": rate})
    return ImportedFiles(
        images=_part(images, read_foreign(images), "images"),
        labels=_part(labels, read_foreign(labels), "labels"),
        rate=None if rate is None else (_part(rate, read_foreign(rate), "rate"), rate),
        digests={part: file_digest(path) for part, path in files.items()},
        source=f"{images}, {labels}",
    )


def _beside(images: Path) -> list[Path]:
    """Where a learning rate may lie: lr_best.pt belongs to images_best.pt."""
    twins = [images.with_name(images.name.replace("images", name)) for name in ("lr", "learning_rate")]
    own = [images.with_name(f"{name}{images.suffix}") for name in ("lr", "learning_rate")]
    return (twins if "images" in images.name else []) + own


def _file(file: Path) -> ImportedFiles:
    tensors = read_foreign(file)
    if len(tensors) == 1 and "" in tensors:
        raise DataError(f"{file}: holds images or labels alone; name the other file too: IMAGES LABELS")
    rate = _find(tensors, "rate")
    return ImportedFiles(
        images=_part(file, tensors, "images"),
        labels=_part(file, tensors, "labels"),
        rate=None if rate is None else (rate, file),
        digests={"file": file_digest(file)},
        source=str(file),
    )


def _part(file: Path, tensors: Mapping[str, Tensor], part: str) -> Tensor:
    found = next(iter(tensors.values())) if len(tensors) == 1 else _find(tensors, part)
    if found is None:
        held = ", ".join(f"{name or 'a tensor'} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:6])
        raise DataError(
            f"{file}: which of its tensors are the {part} is not clear ({held or 'it holds none'}); save them as "
            f"{_NAMES[part][0]!r} in a .npz, or with torch.save(tensor) in a file of their own"
        )
    return found


def _find(tensors: Mapping[str, Tensor], part: str) -> Tensor | None:
    """A part by its name, or by its form where only one tensor has it."""
    named = [tensor for name, tensor in tensors.items() if name.rpartition(".")[2].lower() in _NAMES[part]]
    dimensions = {"images": (4,), "labels": (1, 2)}.get(part, ())
    known = {name for names in _NAMES.values() for name in names}
    formed = [
        tensor
        for name, tensor in tensors.items()
        if tensor.ndim in dimensions and name.rpartition(".")[2].lower() not in known
    ]
    found = named or formed
    return found[0] if len(found) == 1 else None


def _folder(folder: Path) -> ImportedFiles:
    found = list_classes(folder, str(folder))
    files = [path for paths in found.files.values() for path in paths]
    images, _ = load_images(files, grey=None)
    labels = torch.tensor([label for label, paths in enumerate(found.files.values()) for _ in paths])
    # Names of files decide the order of the images.
    contents = [[name, [file_digest(path) for path in paths]] for name, paths in found.files.items()]
    return ImportedFiles(images, labels, None, {"folder": fingerprint(contents)}, tuple(found.files), str(folder))
