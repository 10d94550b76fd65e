"""The vocabulary that everything else uses."""

from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

State = dict[str, Tensor]
"""A model state: named parameters and buffers. Never a positional list, which breaks with batch norm."""


ImageShape = tuple[int, int, int]
"""Channels, height, width."""


ONE_STAGE: Final = "one-stage"
"""The baseline of one stage with as many iterations as all stages together, as it is called in an evaluation."""

ONE_STAGE_SHORT: Final = "one-stage-short"
"""The baseline of one stage with as many iterations as one stage of the run, which is the published comparison."""

ONE_STAGES: Final = (ONE_STAGE, ONE_STAGE_SHORT)
"""The baselines of one stage, in the order in which they are distilled."""


def stage_title(stage: int, *, baseline: str | None = None) -> str:
    """What a stage is called where people read of it.

    Args:
        stage: Its number.
        baseline: Which of the run's baselines of one stage it is; None for a stage of the run.
    """
    return f"stage {stage}" if baseline is None else f"the {baseline} baseline"


@dataclass(frozen=True)
class LabelledImages:
    """Images with hard labels, in the space the networks read (preprocessed).

    Attributes:
        images: Shape (N, C, H, W), floating point.
        labels: Shape (N,), int64, in [0, number of classes).

    Example:
        >>> images = LabelledImages(torch.zeros(3, 1, 8, 8), labels=torch.tensor([0, 1, 0]))
        >>> images.take((images.labels == 0).nonzero().flatten()).labels
        tensor([0, 0])
        >>> len(images.append(images))
        6
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"expected images (N, C, H, W) and labels (N,), got {tuple(self.images.shape)} and "
                f"{tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Self:
        """The same examples on another device."""
        return type(self)(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> Self:
        """The examples at some positions.

        Args:
            indices: Shape (K,), int64, on any device.
        """
        indices = sent(indices, self.labels.device)
        return type(self)(self.images[indices], self.labels[indices])

    def by_class(self, num_classes: int) -> tuple[Tensor, ...]:
        """Where the examples of each class are: ascending positions on the CPU, one tensor for each class."""
        labels = self.labels.cpu()
        return tuple((labels == label).nonzero().flatten() for label in range(num_classes))

    def append(self, other: "LabelledImages") -> Self:
        """These examples followed by others."""
        return type(self)(
            torch.cat([self.images, other.images]),
            torch.cat([self.labels, other.labels.to(self.labels.device)]),
        )


def sent(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor on a device, without waiting until a GPU has finished what it does.

    Args:
        tensor: Not changed; on the CPU it may be let go or overwritten at once, for the copy has left it.
        device: Where it is needed.
        dtype: The floating-point type in which it is needed.
    """
    # The other way, from a GPU, values would be read before they have come.
    return tensor.to(device, dtype, non_blocking=torch.device(device).type == "cuda")


Json = dict[str, object]
