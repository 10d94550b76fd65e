"""A dataset folder of Hugging Face: Parquet with PNG images, and a dataset card."""

import io
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Final

import torch

from pdd_lightning.distilled.card import dataset_card
from pdd_lightning.distilled.description import Description
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.distilled.eight_bits import decode, encode, pictures_of
from pdd_lightning.distilled.formats.base import FolderFormat
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.store.files import write_text
from pdd_lightning.types import LabelledImages

_DATA: Final = "data/train-00000-of-00001.parquet"


class HuggingFace(FolderFormat):
    """What `datasets.load_dataset` loads: columns image, label and stage, in the order of the stages.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import pdd_lightning as pdd
        >>> with TemporaryDirectory() as folder:
        ...     HuggingFace().write(pdd.load("checkpoints/sample"), Path(folder, "set"))
        ...     sorted(path.name for path in Path(folder, "set").iterdir())
        ['README.md', 'data', 'distilled.json', 'preprocessing.safetensors']
    """

    name: ClassVar[str] = "huggingface"
    lossless: ClassVar[bool] = False

    def held(self, distilled: DistilledSet) -> list[LabelledImages]:
        """See :meth:`FolderFormat.held`."""
        _pyarrow()  # before anything is computed
        return pictures_of(distilled)

    def write_images(self, distilled: DistilledSet, held: Sequence[LabelledImages], path: Path) -> None:
        """See :meth:`FolderFormat.write_images`."""
        arrow, names = _pyarrow(), distilled.about.class_names
        rows = [
            {"image": {"bytes": encode(picture), "path": f"stage_{k}_{place:05d}.png"}, "label": label, "stage": k}
            for k, data in enumerate(held, 1)
            for place, (picture, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True))
        ]
        # By what it finds there, `datasets` knows pictures from bytes and classes from numbers.
        features = {
            "image": {"_type": "Image"},
            "label": {"names": list(names), "_type": "ClassLabel"},
            "stage": {"dtype": "int64", "_type": "Value"},
        }
        image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        schema = arrow.schema(
            [("image", image), ("label", arrow.int64()), ("stage", arrow.int64())],
            metadata={"huggingface": json.dumps({"info": {"features": features}})},
        )
        table, buffer = arrow.Table.from_pylist(rows, schema), io.BytesIO()
        _pyarrow(".parquet").write_table(table, buffer)
        (path / _DATA).parent.mkdir()
        (path / _DATA).write_bytes(buffer.getbuffer())
        write_text(path / "README.md", dataset_card(distilled, table.nbytes, len(buffer.getbuffer())))

    def read_images(self, path: Path, description: Description) -> list[LabelledImages]:
        """See :meth:`FolderFormat.read_images`."""
        parquet, file = _pyarrow(".parquet"), path / _DATA
        try:
            rows = parquet.read_table(file).to_pylist()
            found = [(row["image"]["bytes"], int(row["label"]), int(row["stage"])) for row in rows]
        except Exception as error:  # what a damaged file raises has no common class
            raise ArtifactError(
                f"{file} is missing or damaged ({error}); restore it, or export the set again"
            ) from error
        stages = []
        for k in range(1, len(description.stages) + 1):
            mine = [(data, label) for data, label, stage in found if stage == k]
            if not mine:
                raise ArtifactError(f"{file} holds no image of stage {k}; restore it, or export the set again")
            names = (f"{file}, stage {k}, image {place}" for place in range(len(mine)))
            shape = description.about.image_shape
            pictures = [decode(data or b"", shape, name) for (data, _), name in zip(mine, names, strict=False)]
            labels = torch.tensor([label for _, label in mine], dtype=torch.int64)
            stages.append(LabelledImages(torch.stack(pictures), labels))
        return stages


def _pyarrow(part: str = "") -> ModuleType:
    """A module of pyarrow, which is not a need of anything else.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return import_module(f"pyarrow{part}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the huggingface format needs pyarrow, which is not installed: pip install 'pdd-lightning[huggingface]'"
        ) from error
