"""Trajectory matching: train on the synthetic set, arrive where training on real data arrives.

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022, equation 2 and
algorithm 1; inside PDD (arXiv 2310.06982, equation 4) the synthetic side is the union of all subsets so far.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pdd_lightning.compute.attached import attach
from pdd_lightning.compute.cuda_graphs import is_known, records
from pdd_lightning.compute.memory import free_memory
from pdd_lightning.compute.step_products import CompiledStepMath, StepMath, graph_bytes
from pdd_lightning.dynamics.base import MatchPoint
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives.base import Objective, SideBySide, SyntheticSide, Work
from pdd_lightning.objectives.walk import StepData, Walk, walk_ends
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import AugmentParams
from pdd_lightning.training.formation import decode
from pdd_lightning.training.recipe import Batches
from pdd_lightning.types import sent


def normalised_distance(end: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """||end - target||^2 / ||start - target||^2 (CVPR 2022, equation 2): no movement gives 1, arrival gives 0.

    Args:
        end: theta_N, shape (P,).
        start: theta*_t, shape (P,).
        target: theta*_{t+M}, shape (P,).

    Returns:
        A scalar.
    """
    return (end - target).square().sum() / (start - target).square().sum()


class TrajectoryMatching(SideBySide):
    """Distance between where N synthetic steps and M expert epochs arrive, relative to how far the expert went.

    The experts and the synthetic walk see the same family of augmentations. As published, each step draws one operation
    and each image its own parameters; ``siamese: true`` in `DSA` makes all images of a step share them.

    Args:
        syn_steps: Synthetic steps N.
        syn_batch_size: Training images of each synthetic step: the next ones of a random order of the union, without
            replacement until it is used up, not balanced by class. "stage" takes as many as the stage itself learns, so
            that a step costs the same at every stage; "union" takes the whole union in every step.
        recompute: Build each step's graph again going back, so that memory does not grow with the steps. False
            keeps the graphs: faster where they fit in memory, and the same numbers. Null keeps them if they take at
            most half of the memory that is free when the stage begins, and not where a GPU records the steps that are
            built again.
        syn_momentum: Momentum of the synthetic steps. Published: 0. A network that is trained on the images with
            momentum, at the learned rate, goes as far as the walk only if the walk has it too.
        syn_weight_decay: L2 penalty of the synthetic steps. Published: 0.
        compile: Let PyTorch compile the steps, which pays for long stages; the first takes
            minutes, and numbers change as rounding does. Steps are then always computed again going back.

    Raises:
        ConfigError: If an option is not positive, or steps are to be both compiled and kept.

    Example:
        >>> from pdd_lightning.dynamics import ExpertTrajectories
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.stage.options import StageOptions
        >>> options = StageOptions(ConvNet(), TrajectoryMatching(syn_steps=30), ExpertTrajectories(experts=20), ipc=10)
        >>> options.objective.needs_target and options.dynamics.has_target
        True
    """

    needs_target: ClassVar[bool] = True
    still: ClassVar[float | None] = 1.0
    unrecorded = ("recompute", "compile")  # the same numbers, but for the rounding of a compiler

    def __init__(
        self,
        syn_steps: int = 20,
        syn_batch_size: int | Literal["stage", "union"] = "stage",
        recompute: bool | None = None,
        compile: bool = False,
        syn_momentum: float = 0.0,
        syn_weight_decay: float = 0.0,
    ) -> None:
        if syn_steps < 1:
            raise ConfigError(f"objective.syn_steps must be at least 1, got {syn_steps}")
        if syn_batch_size not in ("stage", "union") and not (isinstance(syn_batch_size, int) and syn_batch_size >= 1):
            raise ConfigError(
                f"objective.syn_batch_size must be at least 1, or one of stage and union, got {syn_batch_size}"
            )
        if compile and recompute is False:
            raise ConfigError(
                "objective.recompute=false keeps graphs that objective.compile=true never builds: leave one of them out"
            )
        if not 0 <= syn_momentum < 1:
            raise ConfigError(f"objective.syn_momentum must be in [0, 1), got {syn_momentum}")
        if not 0 <= syn_weight_decay < float("inf"):
            raise ConfigError(f"objective.syn_weight_decay must be at least 0 and finite, got {syn_weight_decay}")
        self.syn_momentum, self.syn_weight_decay = syn_momentum, syn_weight_decay
        self.syn_steps = syn_steps
        self.syn_batch_size = syn_batch_size
        self.recompute, self.compile = recompute, compile
        self._math: StepMath | None = None
        self._stores: dict[tuple[int, ...], bool] = {}

    def brief(self) -> tuple[Objective, float]:
        """See :meth:`Objective.brief`: a tenth of the steps where none is kept, for memory is then the same."""
        if not (self.compile or self.recompute):
            return self, 1.0
        short = copy(self)
        short.syn_steps, short.recompute, short.compile = math.ceil(self.syn_steps / 10), True, False
        return short, self.syn_steps / short.syn_steps

    def release(self) -> None:
        """See :meth:`Objective.release`: what a GPU has recorded, and a compiler made."""
        if self._math is not None:
            self._math.release()
        self._math = None

    def loss_of(self, synthetic: SyntheticSide, works: Sequence[Work], context: StageContext) -> Tensor:
        """See :meth:`SideBySide.loss_of`."""
        math, walks = self._step_math(context), []
        for work in works:
            data = self._data(synthetic, context, work)
            store = self._stored(synthetic, work.point, context, data)
            walk = Walk(context.network, work.point.start, self.syn_steps, data, store, math)
            walks.append(replace(walk, momentum=self.syn_momentum, weight_decay=self.syn_weight_decay))
        pairs = list(zip([work.point for work in works], walks, strict=True))
        # Graphs that are kept are never held together.
        goes = [[pair] for pair in pairs] if walks[0].store else [pairs]
        return torch.stack([self._distances(synthetic, go) for go in goes]).sum()

    def _distances(self, synthetic: SyntheticSide, go: Sequence[tuple[MatchPoint, Walk]]) -> Tensor:
        """The sum over walks that go side by side, decoded anew and differentiated at once."""
        images = decode(synthetic.images, synthetic.factor)
        losses = []
        for (point, _), end in zip(go, walk_ends(images, synthetic.rate, [walk for _, walk in go]), strict=True):
            assert point.target is not None, "StageModule pairs objectives with dynamics that suit them"
            losses.append(normalised_distance(end, point.start, point.target))
        return attach(torch.stack(losses).sum(), synthetic.images, synthetic.rate)

    def _step_math(self, context: StageContext) -> StepMath:
        """One for the whole stage: what is compiled is compiled once."""
        if self._math is None or self._math.network is not context.network:
            self._math = (CompiledStepMath if self.compile else StepMath)(context.network)
        return self._math

    def _stored(self, synthetic: SyntheticSide, point: MatchPoint, context: StageContext, data: StepData) -> bool:
        """Whether to keep the graphs of a walk's steps."""
        if self.compile or self.recompute is not None:
            return not (self.compile or self.recompute)
        if records(context.device) and is_known(context.network.template):
            return False  # for steps that are built again are recorded
        with torch.no_grad():
            images, labels = data(synthetic.decoded, 0)
        # Decided once for each size: what is free later is less by what the walk itself took.
        size = tuple(images.shape)
        if size not in self._stores:
            needed = self.syn_steps * graph_bytes(context.network, point.start, images, labels)
            self._stores[size] = needed <= free_memory(context.device) / 2
        return self._stores[size]

    def _batch_size(self, synthetic: SyntheticSide) -> int | None:
        """Training images of a step; None takes all (PDD section 4.1: conditioning does not raise a stage's cost)."""
        if isinstance(self.syn_batch_size, int):
            return self.syn_batch_size
        return len(synthetic.decoded) if self.syn_batch_size == "stage" else None

    def _data(self, synthetic: SyntheticSide, context: StageContext, work: Work) -> StepData:
        """Minibatches and augmentation of the walk, drawn once: going back must see what going forward saw."""
        keys = context.keys("walk", work.step, work.index)
        batches = Batches(len(synthetic), self._batch_size(synthetic), context.seed, *keys)
        draws = generator(context.seed, *keys, "augment")
        labels = synthetic.all_labels
        drawn: list[tuple[Tensor, AugmentParams]] = []

        def data(images: Tensor, i: int) -> tuple[Tensor, Tensor]:
            while len(drawn) <= i:  # on the way, while a GPU is busy with the steps before
                indices = batches[len(drawn)]
                parameters = context.augmentation.draw(len(indices), context.image_shape, draws)
                drawn.append((sent(indices, labels.device), parameters.to(labels.device)))
            chosen, parameters = drawn[i]
            union = synthetic.union(images)
            if batches.whole:
                return context.augmentation.apply(union, parameters), labels
            return context.augmentation.apply(union[chosen], parameters), labels[chosen]

        return data
