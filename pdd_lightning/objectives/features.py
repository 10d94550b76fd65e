"""Feature alignment: in every layer, each class's synthetic images have the mean features of the real ones.

Source: Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features", CVPR 2022, section 3: the layer-wise
feature alignment and the discrimination loss.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pdd_lightning.compute.attached import with_gradients
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

    def __init__(
        self,
        discrimination: float = 1.0,
        layer_weights: list[float] | None = None,
        real_batch_size: int = 256,
        augmentation: Augmentation | None = None,
    ) -> None:
        if real_batch_size < 1:
            raise ConfigError(f"objective.real_batch_size must be at least 1, got {real_batch_size}")
        if not 0 <= discrimination < float("inf"):
            raise ConfigError(f"objective.discrimination must be at least 0 and finite, got {discrimination}")
        for weight in layer_weights or []:
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"objective.layer_weights must be at least 0 and finite, got {layer_weights}")
        self.discrimination, self.layer_weights = discrimination, layer_weights
        self.real_batch_size, self.augmentation = real_batch_size, augmentation

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
        state = context.network.layout.unflatten(work.point.start)
        augmentation = context.augmentation if self.augmentation is None else self.augmentation
        classes = range(context.num_classes)
        keys = [("match", work.step, work.index, label) for label in classes]
        draws = [
            augmentation.draw(1, context.image_shape, generator(context.seed, *context.keys(*key))) for key in keys
        ]

        def layers(images: Tensor, label: int) -> list[Tensor]:
            return context.network.embed_layers(state, augmentation.apply(images, draws[label]))

        real: list[list[Tensor]] = []
        embedded: list[Tensor] = []
        centres: list[Tensor] = []
        with torch.no_grad():
            for label in classes:
                outputs = layers(context.real_images(label, self.real_batch_size, *keys[label]), label)
                real.append([output.mean(0) for output in outputs])
                embedded.append(outputs[-1])
                centres.append(layers(synthetic.of_class(label), label)[-1].mean(0))
        value, pulls = self._discriminate(embedded, torch.stack(centres))
        gradient = torch.zeros_like(synthetic.images)
        for label in classes:
            mine = [output.mean(0) for output in layers(synthetic.of_class(label), label)]
            distance = self._distance(mine, real[label])
            value = value + distance.detach()
            # The discrimination loss reaches the images of a class through its centre alone.
            gradient += torch.autograd.grad(distance + (mine[-1] * pulls[label]).sum(), synthetic.images)[0]
        return with_gradients(value, [(synthetic.images, gradient)])

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
