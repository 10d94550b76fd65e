"""Distilled subsets as artifacts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.files import read_tensors, write_tensors
from pdd_lightning.store.folders import RunFolder, StageFolder
from pdd_lightning.training.formation import decode_set
from pdd_lightning.types import LabelledImages


@dataclass(frozen=True)
class Subset:
    """S_k: what a stage learned.

    Attributes:
        data: Images and labels as they are stored, in the networks' space.
        rate: Learning rate alpha_k for training on U_k.
        stage: Number of the stage, from 1.
        factor: Each stored image holds factor**2 training images.

    Example:
        >>> stored = LabelledImages(torch.zeros(10, 1, 8, 8), torch.arange(10))
        >>> subset = Subset(stored, rate=0.1, stage=1, factor=2)
        >>> len(subset.data), len(subset.decoded)
        (10, 40)
    """

    data: LabelledImages
    rate: float
    stage: int
    factor: int = 1

    @property
    def decoded(self) -> LabelledImages:
        """What networks train on: the stored images themselves for a factor of 1."""
        return decode_set(self.data, self.factor)

    @property
    def stored_bytes(self) -> int:
        """Bytes of images, labels and learning rate."""
        return self.data.images.nbytes + self.data.labels.nbytes + 4


def write_subset(folder: StageFolder, subset: Subset) -> None:
    """Store a subset as `synthetic.safetensors`."""
    tensors = {
        "images": subset.data.images,
        "labels": subset.data.labels,
        "learning_rate": torch.tensor(subset.rate, dtype=torch.float32),
    }
    write_tensors(folder.synthetic, tensors, {"stage": str(subset.stage), "factor": str(subset.factor)})


def write_last_good(folder: StageFolder, images: Tensor, labels: Tensor, rate: float, step: int) -> None:
    """Store what a diverged stage held at the last step whose loss was finite."""
    tensors = {"images": images, "labels": labels, "learning_rate": torch.tensor(rate, dtype=torch.float32)}
    write_tensors(folder.last_good, tensors, {"stage": str(folder.stage), "step": str(step)})


def read_subset(folder: StageFolder) -> Subset:
    """Read a stage's subset.

    Raises:
        ArtifactError: If the file is missing, damaged or of another stage.
    """
    tensors, metadata = read_tensors(folder.synthetic, ("images", "labels", "learning_rate"))
    images, labels, rate = tensors["images"], tensors["labels"], tensors["learning_rate"].item()
    well_formed = images.ndim == 4 and labels.shape == images.shape[:1] and labels.dtype == torch.int64
    factor = metadata.get("factor", "")
    decodable = well_formed and factor in map(str, range(1, min(images.shape[-2:]) + 1))
    if not decodable or metadata.get("stage") != str(folder.stage) or rate <= 0:
        raise ArtifactError(
            f"{folder.synthetic} is not the subset of stage {folder.stage}: images {tuple(images.shape)}, labels "
            f"{tuple(labels.shape)}, learning rate {rate}, stage {metadata.get('stage')}, factor {factor!r}; restore "
            "it from a copy"
        )
    return Subset(LabelledImages(images, labels), rate, folder.stage, int(factor))


def read_run(run: RunFolder) -> list[Subset]:
    """S_1 ... S_P of a run, as far as its stages are complete, for whoever wants to train on them.

    Raises:
        ArtifactError: If no stage is complete, or a subset is not the one that its stage made.
    """
    done = run.completed()
    if not done:
        raise ArtifactError(f"{run.directory} holds no complete stage: is it the folder of a run?")
    for stage in range(1, done + 1):
        run.stage(stage).verify_file(run.stage(stage).synthetic)
    return [read_subset(run.stage(stage)) for stage in range(1, done + 1)]


def union_of(subsets: Sequence[Subset]) -> LabelledImages | None:
    """U_k = S_1 ∪ ... ∪ S_k, decoded, in the order of the stages; None of nothing."""
    if not subsets:
        return None
    union = subsets[0].decoded
    for subset in subsets[1:]:
        union = union.append(subset.decoded)
    return union
