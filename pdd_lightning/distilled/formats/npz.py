"""One file of plain numpy arrays, the description among them as a text."""

import io
import json
import zipfile
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import torch

from pdd_lightning.distilled.description import Description
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.formats.base import Format
from pdd_lightning.distilled.named_tensors import set_of, tensors_of
from pdd_lightning.errors import ArtifactError

_DESCRIPTION: Final = "description"


class Npz(Format):
    """Arrays that numpy opens with ``allow_pickle=False``.

    Example:
        >>> Npz().recognises(Path("README.md"))
        False
    """

    name: ClassVar[str] = "npz"
    lossless: ClassVar[bool] = True
    suffix: ClassVar[str] = ".npz"

    def write(self, distilled: DistilledSet, path: Path) -> None:
        """See :meth:`Format.write`."""
        described = Description.of(distilled, [subset.data for subset in distilled.stages])
        text = np.array(json.dumps(described.to_json(self.name)))
        arrays = {name: tensor.cpu().numpy() for name, tensor in tensors_of(distilled).items()}
        buffer = io.BytesIO()  # to a path without its suffix numpy would add one
        np.savez_compressed(buffer, allow_pickle=False, **{_DESCRIPTION: text, **arrays})
        path.write_bytes(buffer.getbuffer())

    def read(self, path: Path) -> DistilledSet:
        """See :meth:`Format.read`."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            text = str(arrays.pop(_DESCRIPTION)[()])
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        except Exception as error:  # what a damaged archive raises has no common class
            raise ArtifactError(f"{path} is damaged or no export ({error}); export the set again") from error
        return set_of(tensors, Description.from_text(text))

    def recognises(self, path: Path) -> bool:
        """See :meth:`Format.recognises`."""
        if not path.is_file():
            return False
        try:
            with zipfile.ZipFile(path) as file:
                return f"{_DESCRIPTION}.npy" in file.namelist()
        except Exception:  # no archive, or a damaged one
            return path.suffix == self.suffix
