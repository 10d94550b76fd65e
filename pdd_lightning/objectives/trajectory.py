"""Trajectory matching: train on the synthetic set, arrive where training on real data arrives.

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022, equation 2 and
algorithm 1; inside PDD (arXiv 2310.06982, equation 4) the synthetic side is the union of all subsets so far.
"""

from typing import ClassVar

from torch import Tensor

from pdd_lightning.batches import Batches
from pdd_lightning.dynamics.base import MatchPoint, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives.base import Objective, SyntheticSide
from pdd_lightning.objectives.walk import StepData, Walk, walk_end
from pdd_lightning.rng import generator
from pdd_lightning.store import Json
from pdd_lightning.types import class_path


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


class TrajectoryMatching(Objective):
    """Distance between where N synthetic steps and M expert epochs arrive, relative to how far the expert went.

    The experts and the synthetic walk see the same family of augmentations. As published, each step draws one operation
    and each image its own parameters; ``siamese: true`` in `DSA` makes all images of a step share them.

    Args:
        syn_steps: Synthetic steps N.
        syn_batch_size: Synthetic images per step, drawn from the union; null takes all of them.
        recompute: Build each step's graph again going back, so that memory does not grow with the steps. False
            keeps the graphs: somewhat faster where they fit in memory, and the same numbers.

    Raises:
        ConfigError: If an option is not positive.
    """

    needs_target: ClassVar[bool] = True

    def __init__(self, syn_steps: int = 20, syn_batch_size: int | None = None, recompute: bool = True) -> None:
        for name, value in {"syn_steps": syn_steps, "syn_batch_size": syn_batch_size}.items():
            if value is not None and value < 1:
                raise ConfigError(f"objective.{name} must be at least 1, got {value}")
        self.syn_steps = syn_steps
        self.syn_batch_size = syn_batch_size
        self.recompute = recompute

    def describe(self) -> Json:
        """See :meth:`Objective.describe`."""
        return {
            "class_path": class_path(type(self)),
            "syn_steps": self.syn_steps,
            "syn_batch_size": self.syn_batch_size,
        }

    def loss(
        self, synthetic: SyntheticSide, point: MatchPoint, context: StageContext, step: int, index: int, part: int = 0
    ) -> Tensor:
        """See :meth:`Objective.loss`."""
        assert point.target is not None, "StageModule pairs objectives with dynamics that suit them"
        data = self._data(synthetic, context, step, index)
        walk = Walk(context.network, point.start, self.syn_steps, data, store=not self.recompute)
        end = walk_end(synthetic.decoded, synthetic.rate, walk)
        return normalised_distance(end, point.start, point.target)

    def _data(self, synthetic: SyntheticSide, context: StageContext, step: int, index: int) -> StepData:
        """Minibatches and augmentation of the walk, drawn once: going back must see what going forward saw."""
        keys = context.keys("walk", step, index)
        batches = Batches(len(synthetic), self.syn_batch_size, context.seed, *keys)
        draws = generator(context.seed, *keys, "augment")
        labels = synthetic.all_labels
        chosen = [batches[i].to(labels.device) for i in range(self.syn_steps)]
        parameters = [
            context.augmentation.draw(len(indices), context.image_shape, draws).to(labels.device) for indices in chosen
        ]

        def data(images: Tensor, i: int) -> tuple[Tensor, Tensor]:
            union = synthetic.union(images)
            if batches.whole:
                return context.augmentation.apply(union, parameters[i]), labels
            return context.augmentation.apply(union[chosen[i]], parameters[i]), labels[chosen[i]]

        return data
