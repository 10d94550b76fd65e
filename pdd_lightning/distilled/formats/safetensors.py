"""One safetensors file: every tensor, and the description in its metadata."""

import json
from pathlib import Path
from typing import ClassVar

from pdd_lightning.distilled.description import Description
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.formats.base import Format
from pdd_lightning.distilled.named_tensors import set_of, tensors_of
from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.files import read_metadata, read_tensors, write_tensors


class Safetensors(Format):
    """One file that any reader of safetensors opens.

    Example:
        >>> Safetensors().recognises(Path("checkpoints/sample/preprocessing.safetensors"))  # of a run
        False
    """

    name: ClassVar[str] = "safetensors"
    lossless: ClassVar[bool] = True
    suffix: ClassVar[str] = ".safetensors"

    def write(self, distilled: DistilledSet, path: Path) -> None:
        """See :meth:`Format.write`."""
        described = Description.of(distilled, [subset.data for subset in distilled.stages])
        write_tensors(path, tensors_of(distilled), {"description": json.dumps(described.to_json(self.name))})

    def read(self, path: Path) -> DistilledSet:
        """See :meth:`Format.read`."""
        tensors, metadata = read_tensors(path)
        return set_of(tensors, Description.from_text(metadata["description"]))

    def recognises(self, path: Path) -> bool:
        """See :meth:`Format.recognises`."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            begin = file.read(9)  # the length of the header, and the brace that it begins with
        try:
            return begin[8:] == b"{" and "description" in read_metadata(path)
        except ArtifactError:  # something else that begins like it
            return path.suffix == self.suffix
