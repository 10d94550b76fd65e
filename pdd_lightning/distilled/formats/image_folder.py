"""PNG files by stage and class, as torchvision's `ImageFolder` reads them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

import torch

from pdd_lightning.distilled.card import folder_page
from pdd_lightning.distilled.description import Description
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.eight_bits import decode, encode, pictures_of
from pdd_lightning.distilled.formats.base import FolderFormat
from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.files import write_text
from pdd_lightning.types import LabelledImages

_LONGEST: Final = 200
"""Bytes of a folder's name, of which most systems take 255."""

_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for itself."""


class ImageFolders(FolderFormat):
    """`stage_1/<class>/00000.png` and so on: each file bears its place in the stage.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import pdd_lightning as pdd
        >>> with TemporaryDirectory() as folder:
        ...     ImageFolders().write(pdd.load("checkpoints/sample"), Path(folder, "set"))
        ...     sorted(path.name for path in Path(folder, "set", "stage_1").iterdir())[:3]
        ['0', '1', '2']
    """

    name: ClassVar[str] = "imagefolder"
    lossless: ClassVar[bool] = False

    def held(self, distilled: DistilledSet) -> list[LabelledImages]:
        """See :meth:`FolderFormat.held`."""
        return pictures_of(distilled)

    def write_images(self, distilled: DistilledSet, held: Sequence[LabelledImages], path: Path) -> None:
        """See :meth:`FolderFormat.write_images`."""
        folders = folder_names(distilled.about.class_names)
        for k, data in enumerate(held, 1):
            for place, (picture, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
                file = path / f"stage_{k}" / folders[label] / f"{place:05d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(encode(picture))
        write_text(path / "README.md", folder_page(distilled))

    def read_images(self, path: Path, description: Description) -> list[LabelledImages]:
        """See :meth:`FolderFormat.read_images`."""
        about = description.about
        folders = folder_names(about.class_names)
        stages = []
        for k in range(1, len(description.stages) + 1):
            found = [
                (file.stem, label, file)
                for label, name in enumerate(folders)
                for file in (path / f"stage_{k}" / name).glob("*.png")
            ]
            if not found:
                raise ArtifactError(f"{path / f'stage_{k}'} holds no picture; restore it, or export the set again")
            found.sort(key=lambda row: (row[0].rjust(20, "0"), row[1]))  # a place above 99999 has more digits
            pictures = [decode(_bytes(file), about.image_shape, str(file)) for _, _, file in found]
            labels = torch.tensor([label for _, label, _ in found], dtype=torch.int64)
            stages.append(LabelledImages(torch.stack(pictures), labels))
        return stages


def folder_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """A folder's name for each class, on every system, no two alike even where case does not count.

    Characters that no file's name may hold become `%` and two hexadecimal digits, as in addresses of the web.

    Args:
        class_names: By label.

    Example:
        >>> folder_names(["cat", "a/c", "Cat", ".", "con"])
        ('cat', 'a%2Fc', 'Cat%2', '%2E', '%63on')
    """
    names: list[str] = []
    for label, name in enumerate(class_names):
        escaped = re.sub(r'[<>:"/\\|?*%\x00-\x1f\x7f]|^[. ]|[. ]$', lambda found: f"%{ord(found[0]):02X}", name)
        if _DEVICES.fullmatch(escaped):
            escaped = f"%{ord(escaped[0]):02x}{escaped[1:]}"
        cut = escaped.encode("utf-8", "surrogatepass")[:_LONGEST].decode("utf-8", "ignore")
        alike = {known.casefold() for known in names}
        # A `%` before anything but two hexadecimal digits is in no escaped name.
        names.append(f"{cut}%{label}" if not name or cut != escaped or cut.casefold() in alike else cut)
    return tuple(names)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read ({error.strerror}); restore it, or export the set again") from error
