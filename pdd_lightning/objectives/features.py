"""Feature alignment: in every layer, each class's synthetic images have the mean features of the real ones.

Source: Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features", CVPR 2022, section 3: the layer-wise
feature alignment and the discrimination loss.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional as F

from pdd_lightning.compute.attached import with_gradients
from pdd_lightning.compute.compiling import Compiler
from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import layers_of
from pdd_lightning.objectives.base import Objective, SyntheticSide, Work
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import Augmentation


class FeatureAlignment(Objective):
    """CAFE: squared distances of mean features in every layer, and a discrimination loss.

    The discrimination loss classifies the real images by their inner products with the mean features of each class of
    synthetic images, which stand for a classifier's weights.

    The layers are those that the network names, and the features that its linear head reads. The loss of a step couples
    all classes, so it is one part; the graph of one class at a time is held in memory.

    Args:
        discrimination: Weight of the discrimination loss, a mean over the real images; 0 leaves it out.
        layer_weights: Weight of each layer's distance, in the order of the network and the features last; null
            weighs all alike.
        real_batch_size: Real images per class and step; a class with fewer shows all it has.
        augmentation: Drawn once for each class and step, and applied to the real and the synthetic images alike
            (siamese, CAFE+DSA); null means the method's.
        compile: Let PyTorch compile the layers of a class, which pays for long stages on a CPU; the first step of a
            stage takes two minutes, and numbers change as rounding does.

    Raises:
        ConfigError: If an option is out of range.

    Example:
        >>> from pdd_lightning.networks import ConvNet
        >>> network = ConvNet(width=4, depth=2).build((1, 8, 8), num_classes=10)
        >>> FeatureAlignment(layer_weights=[1.0, 1.0, 0.5]).check(network)  # two blocks and the features
        >>> FeatureAlignment(layer_weights=[1.0, 1.0]).check(network)
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.ConfigError: objective.layer_weights=[1.0, 1.0] has 2 numbers, and ...
    """

    unrecorded = ("compile",)  # the same numbers, but for the rounding of a compiler

    def __init__(
        self,
        discrimination: float = 1.0,
        layer_weights: list[float] | None = None,
        real_batch_size: int = 256,
        augmentation: Augmentation | None = None,
        compile: bool = False,
    ) -> None:
        if real_batch_size < 1:
            raise ConfigError(f"objective.real_batch_size must be at least 1, got {real_batch_size}")
        if not 0 <= discrimination < float("inf"):
            raise ConfigError(f"objective.discrimination must be at least 0 and finite, got {discrimination}")
        for weight in layer_weights or []:
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"objective.layer_weights must be at least 0 and finite, got {layer_weights}")
        self.discrimination, self.layer_weights = discrimination, layer_weights
        self.real_batch_size, self.augmentation, self.compile = real_batch_size, augmentation, compile
        self._parts: tuple[FunctionalNetwork, Callable[..., Any], Callable[..., Any]] | None = None

    def check(self, network: nn.Module) -> None:
        """See :meth:`Objective.check`: it needs layers, and as many weights."""
        layers = len(layers_of(network)) + 1
        if self.layer_weights is not None and len(self.layer_weights) != layers:
            raise ConfigError(
                f"objective.layer_weights={self.layer_weights} has {len(self.layer_weights)} numbers, and "
                f"model.network has {layers} layers, the features included: give one for each"
            )

    def loss(self, synthetic: SyntheticSide, work: Work, context: StageContext) -> Tensor:
        """See :meth:`Objective.loss`."""
        theta, seen, pulled = work.point.start, *self._functions(context.network)
        augmentation = context.augmentation if self.augmentation is None else self.augmentation
        real: list[list[Tensor]] = []
        mine: list[Tensor] = []
        embedded: list[Tensor] = []
        centres: list[Tensor] = []
        for label in range(context.num_classes):
            keys = ("match", work.step, work.index, label)
            drawn = augmentation.draw(1, context.image_shape, generator(context.seed, *context.keys(*keys)))
            *means, features = seen(
                theta, augmentation.apply(context.real_images(label, self.real_batch_size, *keys), drawn)
            )
            real.append(means)
            embedded.append(features)
            mine.append(augmentation.apply(synthetic.of_class(label), drawn))
            *_, centre, _ = seen(theta, mine[label].detach())
            centres.append(centre)
        value, pulls = self._discriminate(embedded, torch.stack(centres))
        gradient = torch.zeros_like(synthetic.images)
        for images, means, pull in zip(mine, real, pulls, strict=True):
            # The discrimination loss reaches the images of a class through its centre alone.
            distance, across = pulled(theta, images.detach(), pull, *means)
            value = value + distance
            gradient += torch.autograd.grad(images, synthetic.images, across)[0]
        return with_gradients(value, [(synthetic.images, gradient)])

    def release(self) -> None:
        """See :meth:`Objective.release`: what a compiler made."""
        self._parts = None

    def _functions(self, network: FunctionalNetwork) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What images are in every layer, and how the synthetic ones are to change."""
        if self._parts is None or self._parts[0] is not network:
            seen: Callable[..., Any] = partial(_seen, network)
            pulled: Callable[..., Any] = partial(self._pulled, network)
            if self.compile:
                compiler = Compiler("objective.compile")
                seen, pulled = compiler.compiled(seen), compiler.compiled(pulled)
            self._parts = network, seen, pulled
        return self._parts[1:]

    def _pulled(
        self, network: FunctionalNetwork, theta: Tensor, images: Tensor, pull: Tensor, *real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The distance of a class, and the gradient of the whole loss in its synthetic images."""

        def distance(images: Tensor) -> tuple[Tensor, Tensor]:
            *mine, _ = _seen(network, theta, images)
            found = self._distance(mine, real)
            return found + (mine[-1] * pull).sum(), found

        across, found = grad(distance, has_aux=True)(images)
        return found, across

    def _distance(self, mine: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
        """Weighted sum over the layers of || mean features mine - real ||^2, for one class."""
        weights = self.layer_weights or [1.0] * len(mine)
        return torch.stack(
            [weight * (a - b).square().sum() for weight, a, b in zip(weights, mine, real, strict=True)]
        ).sum()

    def _discriminate(self, embedded: Sequence[Tensor], centres: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted discrimination loss, and its gradient in the centres.

        Args:
            embedded: Features of the real images of each class, each of shape (n, F).
            centres: Mean features of the synthetic images of each class, shape (classes, F).
        """
        centres = centres.requires_grad_()
        labels = torch.cat([torch.full((len(f),), label, device=f.device) for label, f in enumerate(embedded)])
        with torch.enable_grad():
            loss = self.discrimination * F.cross_entropy(torch.cat(list(embedded)) @ centres.T, labels)
        return loss.detach(), torch.autograd.grad(loss, centres)[0]


def _seen(network: FunctionalNetwork, theta: Tensor, images: Tensor) -> list[Tensor]:
    """The mean output of every layer, and the features of each image."""
    outputs = network.embed_layers(network.layout.unflatten(theta), images)
    return [*(output.mean(0) for output in outputs), outputs[-1]]
