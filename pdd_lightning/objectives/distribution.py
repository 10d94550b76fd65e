"""Distribution matching: each class's synthetic images have the mean embedding of the real ones.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, equation 4.
"""

import torch
from torch import Tensor, nn

from pdd_lightning.compute.attached import attach
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import features_of
from pdd_lightning.objectives.base import Objective, SyntheticSide, Work
from pdd_lightning.rng import generator


class MeanEmbedding(Objective):
    """Squared distance between the mean features of a class of real and of synthetic images.

    The method's augmentation is drawn once for each class and step, and applied to both sides alike.

    Args:
        real_batch_size: Real images per class and step; a class with fewer shows all it has.

    Raises:
        ConfigError: If it is not positive.

    Example:
        >>> MeanEmbedding(real_batch_size=64).check(nn.Linear(64, 10))
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.ConfigError: model.network builds a Linear, whose features are unknown: build a ...
    """

    def __init__(self, real_batch_size: int = 256) -> None:
        if real_batch_size < 1:
            raise ConfigError(f"objective.real_batch_size must be at least 1, got {real_batch_size}")
        self.real_batch_size = real_batch_size

    def check(self, network: nn.Module) -> None:
        """See :meth:`Objective.check`: it needs features."""
        features_of(network)

    def parts(self, context: StageContext) -> int:
        """One for each class."""
        return context.num_classes

    def loss(self, synthetic: SyntheticSide, work: Work, context: StageContext) -> Tensor:
        """See :meth:`Objective.loss`; a part is a class."""
        keys = ("match", work.step, work.index, work.part)
        drawn = context.augmentation.draw(1, context.image_shape, generator(context.seed, *context.keys(*keys)))
        state = context.network.layout.unflatten(work.point.start)
        real, mine = context.real_images(work.part, self.real_batch_size, *keys), synthetic.of_class(work.part)
        with torch.no_grad():
            target = context.network.embed(state, context.augmentation.apply(real, drawn)).mean(0)
        mean = context.network.embed(state, context.augmentation.apply(mine, drawn)).mean(0)
        return attach((mean - target).square().sum(), synthetic.images)
