"""What every format does, and what those that are folders have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from pdd_lightning.datamodules.preprocessing import Preprocessing
from pdd_lightning.distilled.description import Description
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.store.files import read_json, write_json, write_tensors
from pdd_lightning.types import LabelledImages

DESCRIPTION: Final = "distilled.json"
"""What a folder tells of its set, and that it is one of ours."""

PREPROCESSING: Final = "preprocessing.safetensors"


class Format(ABC):
    """A form in which a set is written and read back.

    Attributes:
        name: What users call it.
        lossless: Whether a set that is read back is the same bit for bit.
        suffix: How the name of its file ends; empty for a folder.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import pdd_lightning as pdd
        >>> from pdd_lightning.distilled.formats import format_named
        >>> npz = format_named("npz")
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "set.npz")
        ...     npz.write(pdd.load("checkpoints/sample"), path)
        ...     npz.recognises(path), npz.read(path).rates == pdd.load("checkpoints/sample").rates
        (True, True)
    """

    name: ClassVar[str]
    lossless: ClassVar[bool]
    suffix: ClassVar[str] = ""

    @abstractmethod
    def write(self, distilled: DistilledSet, path: Path) -> None:
        """Write a set.

        Args:
            distilled: The set.
            path: Where nothing is yet; its folder exists.

        Raises:
            PDDError: If the format cannot hold the set.
            OSError: If it cannot be written.
        """

    @abstractmethod
    def read(self, path: Path) -> DistilledSet:
        """Read a set that :meth:`write` wrote.

        Raises:
            ArtifactError: If it is incomplete, damaged, changed or of another release.
        """

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether a path holds this format, by its first bytes or by what its description says."""


class FolderFormat(Format):
    """A folder with the images in a form of its own, `distilled.json` and the preprocessing.

    Example:
        >>> from pdd_lightning.distilled.formats import format_named
        >>> isinstance(format_named("pt"), FolderFormat)
        True
    """

    @abstractmethod
    def held(self, distilled: DistilledSet) -> list[LabelledImages]:
        """What the format keeps of each stage: images of the networks' space, or pictures in uint8."""

    @abstractmethod
    def write_images(self, distilled: DistilledSet, held: Sequence[LabelledImages], path: Path) -> None:
        """Write what is held into the folder.

        Args:
            distilled: The set, to tell of.
            held: What :meth:`held` gave.
            path: The folder.
        """

    @abstractmethod
    def read_images(self, path: Path, description: Description) -> list[LabelledImages]:
        """Read them back.

        Args:
            path: The folder.
            description: What the folder tells of its set.

        Raises:
            ArtifactError: If they are missing or unreadable.
        """

    def write(self, distilled: DistilledSet, path: Path) -> None:
        """See :meth:`Format.write`."""
        held = self.held(distilled)
        path.mkdir()
        self.write_images(distilled, held, path)
        write_tensors(path / PREPROCESSING, distilled.preprocessing.tensors())
        write_json(path / DESCRIPTION, Description.of(distilled, held).to_json(self.name))

    def read(self, path: Path) -> DistilledSet:
        """See :meth:`Format.read`."""
        description = Description.from_json(read_json(path / DESCRIPTION))
        preprocessing = Preprocessing.read(path / PREPROCESSING)
        return description.assemble(self.read_images(path, description), preprocessing)

    def recognises(self, path: Path) -> bool:
        """See :meth:`Format.recognises`."""
        found = path / DESCRIPTION
        return found.is_file() and read_json(found).get("format") == self.name
