"""Distribution matching: each class's synthetic images have the mean embedding of the real ones.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, equation 4.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.func import grad_and_value

from pdd_lightning.compute.attached import attach, with_gradients
from pdd_lightning.compute.compiling import Compiler
from pdd_lightning.compute.functional import FunctionalNetwork
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
        compile: Let PyTorch compile the features of a class, which pays for long stages on a CPU; the first class of a
            stage takes a minute, and numbers change as rounding does.

    Raises:
        ConfigError: If the number of images is not positive.

    Example:
        >>> MeanEmbedding(real_batch_size=64).check(nn.Linear(64, 10))
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.ConfigError: model.network builds a Linear, whose features are unknown: build a ...
    """

    unrecorded = ("compile",)  # the same numbers, but for the rounding of a compiler

    def __init__(self, real_batch_size: int = 256, compile: bool = False) -> None:
        if real_batch_size < 1:
            raise ConfigError(f"objective.real_batch_size must be at least 1, got {real_batch_size}")
        self.real_batch_size, self.compile = real_batch_size, compile
        self._matching: tuple[FunctionalNetwork, Callable[..., Any]] | None = None

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
        sides = context.real_images(work.part, self.real_batch_size, *keys), synthetic.of_class(work.part)
        real, mine = (context.augmentation.apply(side, drawn) for side in sides)
        if self._matching is None or self._matching[0] is not context.network:
            match: Callable[..., Any] = partial(_matched, context.network)
            if self.compile:
                match = Compiler("objective.compile").compiled(match)
            self._matching = context.network, match
        distance, across = self._matching[1](work.point.start, real, mine.detach())
        return attach(with_gradients(distance, [(mine, across)]), synthetic.images)

    def release(self) -> None:
        """See :meth:`Objective.release`: what a compiler made."""
        self._matching = None


def _matched(network: FunctionalNetwork, theta: Tensor, real: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The distance, and its gradient in the synthetic images."""
    state = network.layout.unflatten(theta)
    target = network.embed(state, real).mean(0)

    def distance(images: Tensor) -> Tensor:
        return (network.embed(state, images).mean(0) - target).square().sum()

    across, value = grad_and_value(distance)(images)
    return value, across
