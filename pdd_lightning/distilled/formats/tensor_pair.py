"""`images.pt` and `labels.pt`, as the code of DC, MTT and IDC saves a set."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from pdd_lightning.distilled.description import Description
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.formats.base import FolderFormat
from pdd_lightning.errors import ArtifactError
from pdd_lightning.types import LabelledImages


class TensorPair(FolderFormat):
    """All stages one after the other, in the networks' space, as they are stored: float32 and int64.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import pdd_lightning as pdd
        >>> with TemporaryDirectory() as folder:
        ...     TensorPair().write(pdd.load("checkpoints/sample"), Path(folder, "set"))
        ...     torch.load(Path(folder, "set", "images.pt"), weights_only=True).shape
        torch.Size([30, 1, 8, 8])
    """

    name: ClassVar[str] = "pt"
    lossless: ClassVar[bool] = True

    def held(self, distilled: DistilledSet) -> list[LabelledImages]:
        """See :meth:`FolderFormat.held`."""
        return [subset.data for subset in distilled.stages]

    def write_images(self, distilled: DistilledSet, held: Sequence[LabelledImages], path: Path) -> None:
        """See :meth:`FolderFormat.write_images`."""
        torch.save(torch.cat([data.images for data in held]), path / "images.pt")
        torch.save(torch.cat([data.labels for data in held]), path / "labels.pt")

    def read_images(self, path: Path, description: Description) -> list[LabelledImages]:
        """See :meth:`FolderFormat.read_images`."""
        images, labels = _read(path / "images.pt"), _read(path / "labels.pt")
        sizes = [entry.images for entry in description.stages]
        if images.ndim != 4 or labels.shape != images.shape[:1] or len(images) != sum(sizes):
            raise ArtifactError(
                f"{path} holds images {tuple(images.shape)} and labels {tuple(labels.shape)}, expected {sum(sizes)} of "
                "both; restore them, or export the set again"
            )
        pairs = zip(torch.split(images, sizes), torch.split(labels, sizes), strict=True)
        return [LabelledImages(some.contiguous(), of.contiguous()) for some, of in pairs]


def _read(file: Path) -> Tensor:
    """A tensor that `torch.save` wrote; `weights_only` makes tensors and runs nothing."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises has no common class
        raise ArtifactError(f"{file} is missing, damaged or holds more than a tensor; export the set again") from error
    if not isinstance(found, Tensor):
        raise ArtifactError(f"{file} holds {type(found).__name__}, expected one tensor; export the set again")
    return found
