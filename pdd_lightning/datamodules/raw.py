"""A data set as it is stored."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdd_lightning.errors import DataError
from pdd_lightning.rng import generator


@dataclass(frozen=True, eq=False)
class RawData:
    """A data set as stored: grey levels and labels, before any split or preprocessing.

    Attributes:
        train_images: Shape (N, C, H, W), uint8.
        train_labels: Shape (N,), int64. Every class occurs.
        test_images: Shape (M, C, H, W), uint8, M > 0.
        test_labels: Shape (M,), int64.
        class_names: In the order of the labels.

    Raises:
        DataError: If the parts do not fit together.

    Example:
        >>> images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 0])
        >>> RawData(images, labels, images, labels, class_names=("cat", "dog"))
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.DataError: train labels run from 0 to 2, but 2 classes are named: labels must lie in 0..1
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise DataError(
                f"the data have the classes {list(self.class_names)}: at least two are needed, to be told apart"
            )
        self._check_part("train", self.train_images, self.train_labels)
        self._check_part("test", self.test_images, self.test_labels)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"train images have shape {tuple(self.train_images.shape[1:])} and test images "
                f"{tuple(self.test_images.shape[1:])}: bring them to one shape"
            )
        counts = self.train_labels.bincount(minlength=len(self.class_names))
        empty = [name for name, count in zip(self.class_names, counts.tolist(), strict=True) if count == 0]
        if empty:
            raise DataError(f"no train image of class {', '.join(empty)}: add images or remove the class")

    def _check_part(self, part: str, images: Tensor, labels: Tensor) -> None:
        if images.ndim != 4 or images.dtype != torch.uint8 or len(images) == 0:
            raise DataError(
                f"{part} images must be uint8 of shape (N, C, H, W) with N > 0, got {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        if images.shape[1] not in (1, 3):
            raise DataError(f"{part} images have {images.shape[1]} channels: 1 (grey) or 3 (colour) can be shown")
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{part} labels must be int64, one for each of the {len(images)} images, got {labels.dtype} "
                f"of shape {tuple(labels.shape)}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.class_names):
            raise DataError(
                f"{part} labels run from {low} to {high}, but {len(self.class_names)} classes are named: "
                f"labels must lie in 0..{len(self.class_names) - 1}"
            )


def stratified_split(labels: Tensor, fraction: float, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Hold out a fraction of every class.

    Each class has a stream of its own, so its split does not depend on the other classes.

    Args:
        labels: Shape (N,), int64.
        fraction: Part of each class to hold out, in [0, 1), rounded to whole examples.
        seed: Decides which examples.
        purpose: What the held-out part is for; two purposes draw independently.

    Returns:
        Positions kept and positions held out, both ascending. Every class keeps at least one.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.bincount().nonzero().flatten().tolist():
        members = (labels == label).nonzero().flatten()
        count = min(round(fraction * len(members)), len(members) - 1)
        order = torch.randperm(len(members), generator=generator(seed, "split", purpose, label))
        held[members[order[:count]]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def at_most(labels: Tensor, positions: Tensor, count: int, seed: int) -> Tensor:
    """Keep a limited number of examples of every class.

    Args:
        labels: Of all examples, shape (N,), int64.
        positions: Those to choose from.
        count: How many of each class at most.
        seed: Decides which.

    Returns:
        Ascending positions.
    """
    chosen = []
    for label in labels[positions].bincount().nonzero().flatten().tolist():
        members = positions[labels[positions] == label]
        order = torch.randperm(len(members), generator=generator(seed, "at most", label))
        chosen.append(members[order[:count]])
    return torch.cat(chosen).sort().values
