"""Objectives: what is compared between the synthetic and the real training."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pdd_lightning.dynamics.base import MatchPoint, StageContext
from pdd_lightning.store import Json
from pdd_lightning.types import LabelledImages


@dataclass(frozen=True)
class SyntheticSide:
    """U_{k-1} ∪ S_k, of which only S_k is learned (PDD equation 4: conditioning on the earlier subsets).

    Attributes:
        images: S_k, shape (n, C, H, W), requires grad.
        labels: Shape (n,).
        rate: Learning rate alpha_k, a scalar, requires grad.
        previous: U_{k-1}; None at the first stage or without conditioning.
    """

    images: Tensor
    labels: Tensor
    rate: Tensor
    previous: LabelledImages | None = None

    def __len__(self) -> int:
        return len(self.labels) + (0 if self.previous is None else len(self.previous))

    @property
    def all_labels(self) -> Tensor:
        """Labels of the union, the earlier subsets first."""
        return self.labels if self.previous is None else torch.cat([self.previous.labels, self.labels])

    def union(self, images: Tensor) -> Tensor:
        """Images of the union, the earlier subsets first.

        Args:
            images: Stands for S_k, shape (n, C, H, W).
        """
        return images if self.previous is None else torch.cat([self.previous.images, images])


class Objective(ABC):
    """A loss between the synthetic and the real side. Subclass it and name your class by ``class_path``."""

    needs_target: ClassVar[bool] = False
    """Whether it needs match points with a target."""

    @abstractmethod
    def loss(self, synthetic: SyntheticSide, point: MatchPoint, context: StageContext, step: int, index: int) -> Tensor:
        """The loss of one match point.

        Args:
            synthetic: What is learned, and what it is conditioned on.
            point: Where to compare.
            context: The network, the real data and the sources of randomness.
            step: Optimiser step of the stage, from 0: random draws are keyed by it.
            index: Which of the step's match points.

        Returns:
            A scalar, differentiable in `synthetic.images` and, where it is learned, `synthetic.rate`.
        """

    @abstractmethod
    def describe(self) -> Json:
        """The class path and every option that the numbers depend on, ready for JSON."""
