"""What every export says of its set, in one form for all of them, and how a set is put together again by it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from pdd_lightning.datamodules.preprocessing import Preprocessing
from pdd_lightning.distilled.about import About
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.errors import ArtifactError
from pdd_lightning.stage.subsets import Subset
from pdd_lightning.store.digests import digest
from pdd_lightning.types import Json, LabelledImages


@dataclass(frozen=True)
class StageEntry:
    """What is told of a stage.

    Attributes:
        learning_rate: alpha_k for training on U_k.
        factor: Each stored image holds factor**2 training images.
        images: How many are stored.
        digest: Of images and labels as the export holds them.

    Example:
        >>> StageEntry(learning_rate=0.1, factor=1, images=10, digest="").images
        10
    """

    learning_rate: float
    factor: int
    images: int
    digest: str


@dataclass(frozen=True)
class Description:
    """What a set wants to be used by and what it consists of, without its images.

    Attributes:
        about: How it wants to be used, and where it comes from.
        stages: Of each stage, from the first.
        preprocessing: For people; the tensors beside it are what is read.

    Example:
        >>> import pdd_lightning as pdd
        >>> distilled = pdd.load("checkpoints/sample")
        >>> told = Description.of(distilled, [subset.data for subset in distilled.stages])
        >>> Description.from_json(told.to_json("npz")) == told
        True
    """

    about: About
    stages: tuple[StageEntry, ...]
    preprocessing: Json

    @classmethod
    def of(cls, distilled: DistilledSet, held: Sequence[LabelledImages]) -> Self:
        """Tell of a set.

        Args:
            distilled: The set.
            held: Images of each stage as the export holds them: of the networks' space, or pictures in uint8.
        """
        pairs = zip(distilled.stages, held, strict=True)
        stages = tuple(StageEntry(s.rate, s.factor, len(data), _digest(data)) for s, data in pairs)
        preprocessing = distilled.preprocessing
        told: Json = {
            "mean": preprocessing.mean.tolist(),
            "std": preprocessing.std.tolist(),
            "zca": preprocessing.whitening is not None,
        }
        return cls(distilled.about, stages, told)

    def to_json(self, name: str) -> Json:
        """For a file.

        Args:
            name: Of the format.
        """
        stages = [{"stage": k, **vars(entry)} for k, entry in enumerate(self.stages, 1)]
        return {"format": name, **self.about.to_json(), "stages": stages, "preprocessing": self.preprocessing}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """What :meth:`to_json` gave.

        Raises:
            ArtifactError: If it is of another form.
        """
        about, stages, told = About.from_json(value), value.get("stages"), value.get("preprocessing")
        if not isinstance(stages, list) or not stages or not isinstance(told, dict):
            raise ArtifactError("its description tells of no stage or no preprocessing: export the set again")
        try:
            entries = tuple(
                StageEntry(float(s["learning_rate"]), int(s["factor"]), int(s["images"]), str(s["digest"]))
                for s in stages
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"its description lacks something ({error}): export the set again") from error
        return cls(about, entries, told)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """What :meth:`to_json` gave, as JSON.

        Raises:
            ArtifactError: If it is of another form.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"its description is no JSON ({error}): export the set again") from error
        return cls.from_json(value)

    def assemble(self, held: Sequence[LabelledImages], preprocessing: Preprocessing) -> DistilledSet:
        """Put the set together.

        Args:
            held: Images of each stage: of the networks' space, or pictures in uint8, which are preprocessed.
            preprocessing: Beside the images.

        Raises:
            ArtifactError: If the parts do not fit together, or images were changed since they were exported.
        """
        self._check(preprocessing)
        if len(held) != len(self.stages):
            raise ArtifactError(f"it holds {len(held)} stages, and its description tells of {len(self.stages)}")
        subsets = []
        for k, (entry, data) in enumerate(zip(self.stages, held, strict=True), 1):
            self._check_stage(k, entry, data)
            images = preprocessing.apply(data.images) if data.images.dtype == torch.uint8 else data.images
            subsets.append(Subset(LabelledImages(images, data.labels), entry.learning_rate, k, entry.factor))
        return DistilledSet(tuple(subsets), preprocessing, self.about)

    def _check(self, preprocessing: Preprocessing) -> None:
        channels, height, width = self.about.image_shape
        values = channels * height * width
        white = preprocessing.whitening
        expected: dict[str, tuple[int, ...]] = {"mean": (channels,), "std": (channels,)}
        if white is not None:
            expected |= {"zca_mean": (values,), "zca_matrix": (values, values), "zca_inverse": (values, values)}
        found = {name: tuple(tensor.shape) for name, tensor in preprocessing.tensors().items()}
        if found != expected or not bool((preprocessing.std > 0).all()):
            raise ArtifactError(f"its preprocessing does not suit images of {channels}x{height}x{width}; export again")

    def _check_stage(self, k: int, entry: StageEntry, data: LabelledImages) -> None:
        images, labels = data.images, data.labels
        if len(data) != entry.images or _digest(data) != entry.digest:
            raise ArtifactError(
                f"stage {k} holds {len(data)} images that are not the {entry.images} it was exported with; restore "
                "them from a copy, or export the set again"
            )
        shape, classes = self.about.image_shape, len(self.about.class_names)
        sound = (
            tuple(images.shape[1:]) == shape
            and images.dtype in (torch.float32, torch.uint8)
            and labels.dtype == torch.int64
            and (not len(labels) or 0 <= int(labels.min()) <= int(labels.max()) < classes)
            and 1 <= entry.factor <= min(shape[1:])
            and 0 < entry.learning_rate < math.inf
            and bool(images.isfinite().all())
        )
        if not sound:
            raise ArtifactError(
                f"stage {k} is no subset of this set: images {images.dtype} {tuple(images.shape)}, labels "
                f"{labels.dtype}, learning rate {entry.learning_rate}, factor {entry.factor}; export the set again"
            )


def _digest(data: LabelledImages) -> str:
    return digest(data.images, data.labels)
