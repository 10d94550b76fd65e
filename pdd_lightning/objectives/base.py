"""Objectives: what is compared between the synthetic and the real training."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from pdd_lightning.compute.cuda_graphs import LANES, records
from pdd_lightning.described import Described
from pdd_lightning.dynamics.base import MatchPoint
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.training.formation import decode, decode_labels
from pdd_lightning.types import LabelledImages


@dataclass(frozen=True)
class SyntheticSide:
    """U_{k-1} ∪ S_k, of which only S_k is learned (PDD equation 4: conditioning on the earlier subsets).

    Attributes:
        images: S_k as it is stored, shape (n, C, H, W), requires grad.
        labels: Shape (n,).
        rate: Learning rate alpha_k, a scalar, requires grad.
        previous: U_{k-1}, decoded; None at the first stage or without conditioning.
        factor: Of multi-formation: each stored image holds factor**2 training images.

    Example:
        >>> images, labels, rate = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), torch.tensor(0.1)
        >>> side = SyntheticSide(images, labels, rate, previous=LabelledImages(images, labels), factor=2)
        >>> len(side), side.of_class(0).shape  # one image of the earlier subset, and four of the learned one
        (10, torch.Size([5, 1, 8, 8]))
    """

    images: Tensor
    labels: Tensor
    rate: Tensor
    previous: LabelledImages | None = None
    factor: int = 1

    def __len__(self) -> int:
        """Number of training images in the union."""
        return len(self.all_labels)

    @cached_property
    def decoded(self) -> Tensor:
        """The training images of S_k, shape (n * factor**2, C, H, W), differentiable in `images`."""
        return decode(self.images, self.factor)

    @cached_property
    def all_labels(self) -> Tensor:
        """Labels of the union's training images, the earlier subsets first."""
        labels = decode_labels(self.labels, self.factor)
        return labels if self.previous is None else torch.cat([self.previous.labels, labels])

    def of_class(self, label: int) -> Tensor:
        """Training images of one class in the union, the earlier subsets first.

        Args:
            label: The class.

        Returns:
            Shape (n, C, H, W), differentiable in `images`.
        """
        mine = decode(self.images[self.labels == label], self.factor)
        if self.previous is None:
            return mine
        return torch.cat([self.previous.images[self.previous.labels == label], mine])

    def union(self, images: Tensor) -> Tensor:
        """Training images of the union, the earlier subsets first.

        Args:
            images: Stand for `decoded`, shape (n * factor**2, C, H, W).
        """
        return images if self.previous is None else torch.cat([self.previous.images, images])


@dataclass(frozen=True)
class Work:
    """A match point, or a part of it, whose loss is asked for.

    Attributes:
        point: Where to compare.
        step: Optimiser step of the stage, from 0: random draws are keyed by it.
        index: Which of the step's match points it is.
        part: Which part of its loss, below :meth:`Objective.parts`.

    Example:
        >>> point = MatchPoint(start=torch.zeros(3))
        >>> [(work.step, work.part) for work in (Work(point, step=7, part=part) for part in range(2))]
        [(7, 0), (7, 1)]
    """

    point: MatchPoint
    step: int
    index: int = 0
    part: int = 0


class Objective(Described, ABC):
    """A loss between the synthetic and the real side. Subclass it and name your class by ``class_path``.

    Example:
        >>> class Dark(Objective):
        ...     def loss(self, synthetic, work, context):
        ...         return synthetic.images.square().mean()
        >>> side = SyntheticSide(torch.full((2, 1, 8, 8), 0.5), torch.tensor([0, 1]), rate=torch.tensor(0.1))
        >>> Dark().loss(side, Work(MatchPoint(torch.zeros(3)), step=0), None)
        tensor(0.2500)
    """

    needs_target: ClassVar[bool] = False
    """Whether it needs match points with a target."""

    compile: bool = False
    """Whether its first step lets PyTorch compile, which takes minutes."""

    still: ClassVar[float | None] = None
    """The loss of images that move a network nowhere, where it is the same for all networks and data."""

    def check(self, network: nn.Module) -> None:
        """Refuse a network that this objective cannot use, before anything is written.

        Args:
            network: As the architecture builds it for the data.

        Raises:
            ConfigError: Naming what it lacks.
        """

    def brief(self) -> tuple["Objective", float]:
        """What stands for this objective where its cost is looked at for some seconds only: a plan.

        Returns:
            An objective that compiles nothing, and how many times as long as its steps those of this one take.
        """
        plain = copy(self)
        plain.compile = False
        return plain, 1.0

    def release(self) -> None:
        """Let go of what is kept from step to step, when the steps are done."""

    def parts(self, context: StageContext) -> int:
        """Into how many parts the loss of a match point falls, which may be computed on different devices."""
        return 1

    @abstractmethod
    def loss(self, synthetic: SyntheticSide, work: Work, context: StageContext) -> Tensor:
        """The loss of one match point, or a part of it; the parts add up.

        Args:
            synthetic: What is learned, and what it is conditioned on.
            work: Where to compare, and which part.
            context: The network, the real data and the sources of randomness.

        Returns:
            A scalar, differentiable in `synthetic.images` and, where it is learned, `synthetic.rate`.
        """

    def losses(self, synthetic: SyntheticSide, works: Sequence[Work], context: StageContext) -> Iterator[Tensor]:
        """Scalars that add up to the loss of all works; an objective that computes several at once overrides it.

        Args:
            synthetic: See :meth:`loss`.
            works: What this process computes in a step.
            context: See :meth:`loss`.
        """
        for work in works:
            yield self.loss(synthetic, work, context)


class SideBySide(Objective):
    """An objective whose works lie side by side where they are recorded (:mod:`pdd_lightning.compute.cuda_graphs`).

    Example:
        >>> class Dark(SideBySide):
        ...     def loss_of(self, synthetic, works, context):
        ...         return synthetic.images.square().mean() * len(works)
        >>> side = SyntheticSide(torch.full((2, 1, 8, 8), 0.5), torch.tensor([0, 1]), rate=torch.tensor(0.1))
        >>> Dark().loss(side, Work(MatchPoint(torch.zeros(3)), step=0), None)
        tensor(0.2500)
    """

    @abstractmethod
    def loss_of(self, synthetic: SyntheticSide, works: Sequence[Work], context: StageContext) -> Tensor:
        """The sum of the losses of a few works, computed in one go; see :meth:`Objective.losses`."""

    def loss(self, synthetic: SyntheticSide, work: Work, context: StageContext) -> Tensor:
        """See :meth:`Objective.loss`."""
        return self.loss_of(synthetic, [work], context)

    def losses(self, synthetic: SyntheticSide, works: Sequence[Work], context: StageContext) -> Iterator[Tensor]:
        """See :meth:`Objective.losses`."""
        if not records(context.device) or type(self).loss is not SideBySide.loss:  # a subclass's own loss counts
            yield from super().losses(synthetic, works, context)
            return
        for first in range(0, len(works), LANES):
            yield self.loss_of(synthetic, works[first : first + LANES], context)
