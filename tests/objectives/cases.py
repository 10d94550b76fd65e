"""Every objective with every dynamics that it can be used with, ready to compute losses on small images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from toys import toy_context, toy_images

from pdd_lightning.dynamics import (
    Dynamics,
    DynamicTraining,
    ExpertTrajectories,
    RealTraining,
    StageContext,
    StartStates,
    SyntheticTraining,
)
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import (
    FeatureAlignment,
    GradientMatching,
    MeanEmbedding,
    Objective,
    SyntheticSide,
    TrajectoryMatching,
    Work,
)
from pdd_lightning.training.augmentation import DSA, Augmentation
from pdd_lightning.types import ImageShape, LabelledImages

DISTANCES = ("layerwise", "mse", "l1", "l1-mean", "cosine")
LAYERS = ("weights", "convolutions", "all")

# Every distance and every choice of layers; what they are together is compared with the papers elsewhere.
_GRADIENTS: list[tuple[Any, Any]] = [
    *((distance, "weights") for distance in DISTANCES),
    *(("mse", layers) for layers in LAYERS if layers != "weights"),
]


def _gradient(distance: Any, layers: Any) -> Callable[[], Objective]:
    return lambda: GradientMatching(distance, layers, real_batch_size=4)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "trajectory": lambda: TrajectoryMatching(syn_steps=2, syn_batch_size=4),
    "mean": lambda: MeanEmbedding(real_batch_size=4),
    "alignment": lambda: FeatureAlignment(discrimination=0.0, real_batch_size=4),
    "features": lambda: FeatureAlignment(real_batch_size=4),
    **{f"gradient-{distance}-{layers}": _gradient(distance, layers) for distance, layers in _GRADIENTS},
}
DYNAMICS: dict[str, Callable[[], Dynamics]] = {
    "experts": lambda: ExpertTrajectories(
        experts=2, epochs=1, max_start_epoch=1, learning_rate=0.05, batch_size=16, augment=False
    ),
    "real": lambda: RealTraining(start_states=2, episode=3, examples=10, batch_size=4, learning_rate=0.05),
    "synthetic": lambda: SyntheticTraining(start_states=2, episode=3, epochs=2, batch_size=4, learning_rate=0.05),
    "dynamic": lambda: DynamicTraining(
        start_states=2, episode=3, epochs=4, watch=2, query_images=12, batch_size=4, learning_rate=0.05
    ),
    "start": lambda: StartStates(start_states=2),
}
PAIRS = [
    *((objective, "experts") for objective in ("trajectory", "gradient-layerwise-weights", "mean", "features")),
    *(
        (objective, dynamics)
        for objective in OBJECTIVES
        for dynamics in DYNAMICS
        if objective != "trajectory" and dynamics != "experts"
    ),
]


@dataclass
class Case:
    """An objective at work: its images, its match points and the stage around them."""

    objective: Objective
    dynamics: Dynamics
    context: StageContext
    synthetic: SyntheticSide

    def loss(self, step: int = 0, index: int = 0, side: SyntheticSide | None = None) -> Tensor:
        """The loss as a stage computes it: the sum of its parts. Steps must come in order."""
        point = self.dynamics.point(step, index)
        synthetic = self.synthetic if side is None else side
        parts = range(self.objective.parts(self.context))
        return torch.stack(
            [self.objective.loss(synthetic, Work(point, step, index, part), self.context) for part in parts]
        ).sum()


def synthetic_side(shape: ImageShape, *, previous: bool, dtype: torch.dtype = torch.float32) -> SyntheticSide:
    learned = toy_images(6, shape, seed=2, dtype=dtype)
    return SyntheticSide(
        learned.images.clone().requires_grad_(),
        learned.labels,
        torch.tensor(0.05, dtype=dtype, requires_grad=True),
        toy_images(3, shape, seed=1, dtype=dtype) if previous else None,
    )


def make_case(
    folder: Path,
    objective: str,
    dynamics: str,
    *,
    shape: ImageShape = (1, 8, 8),
    previous: bool = False,
    augmentation: Augmentation = DSA(),  # noqa: B008 (immutable)
    norm: Any = "instance",
) -> Case:
    context = toy_context(
        folder,
        architecture=ConvNet(width=3, norm=norm),
        shape=shape,
        augmentation=augmentation,
        real=toy_images(30, shape),
    )
    case = Case(OBJECTIVES[objective](), DYNAMICS[dynamics](), context, synthetic_side(shape, previous=previous))
    case.dynamics.prepare(context)
    return case


def union(synthetic: SyntheticSide) -> LabelledImages:
    """U_k as a dynamics sees it after a step."""
    return LabelledImages(synthetic.union(synthetic.decoded).detach(), synthetic.all_labels)
