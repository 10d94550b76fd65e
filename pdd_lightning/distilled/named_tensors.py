"""A whole set as named tensors, for the formats that are one file."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pdd_lightning.datamodules.preprocessing import Preprocessing
from pdd_lightning.distilled.description import Description
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.errors import ArtifactError
from pdd_lightning.types import LabelledImages, State

_BESIDE = "preprocessing."


def tensors_of(distilled: DistilledSet) -> State:
    """Images, labels and learning rate of each stage, and the preprocessing with its inverse."""
    tensors: State = {}
    for k, subset in enumerate(distilled.stages, 1):
        tensors[f"stage_{k}.images"] = subset.data.images
        tensors[f"stage_{k}.labels"] = subset.data.labels
        tensors[f"stage_{k}.learning_rate"] = torch.tensor(subset.rate, dtype=torch.float32)
    return tensors | {f"{_BESIDE}{name}": tensor for name, tensor in distilled.preprocessing.tensors().items()}


def set_of(tensors: Mapping[str, Tensor], description: Description) -> DistilledSet:
    """The set that :func:`tensors_of` took apart.

    Args:
        tensors: By their names.
        description: Of the set.

    Raises:
        ArtifactError: If one is missing, or they do not fit together.
    """
    try:
        held = [
            LabelledImages(tensors[f"stage_{k}.images"], tensors[f"stage_{k}.labels"])
            for k in range(1, len(description.stages) + 1)
        ]
    except KeyError as error:
        raise ArtifactError(f"it lacks {error.args[0]}; export the set again") from error
    except ValueError as error:  # of LabelledImages
        raise ArtifactError(f"a stage holds something else: {error}; export the set again") from error
    beside = {name.removeprefix(_BESIDE): tensor for name, tensor in tensors.items() if name.startswith(_BESIDE)}
    return description.assemble(held, Preprocessing.from_tensors(beside))
