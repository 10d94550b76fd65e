"""What every training of a run has in common."""

from dataclasses import dataclass, field

import torch
from torch import nn

from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.networks import Architecture, build_template, initial_state
from pdd_lightning.rng import Key
from pdd_lightning.training.augmentation import Augmentation, NoAugmentation
from pdd_lightning.types import ImageShape, Json, State


@dataclass(frozen=True)
class Problem:
    """Which networks classify which images, how these are augmented, from which seed, and where.

    Attributes:
        architecture: The networks' options.
        image_shape: Channels, height, width.
        num_classes: Number of classes.
        augmentation: Used wherever networks train.
        seed: Of everything random.
        device: Where to compute.

    Example:
        >>> from pdd_lightning.networks import ConvNet
        >>> digits = Problem(ConvNet(width=4), image_shape=(1, 8, 8), num_classes=10)
        >>> sum(parameter.numel() for parameter in digits.network().parameters())
        374
    """

    architecture: Architecture
    image_shape: ImageShape
    num_classes: int
    augmentation: Augmentation = field(default_factory=NoAugmentation)
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)

    def network(self) -> nn.Module:
        """A network on the CPU, in training mode; its values do not matter.

        Raises:
            ConfigError: If the architecture does not suit the images.
        """
        return build_template(self.architecture, self.image_shape, self.num_classes)

    def functional(self) -> FunctionalNetwork:
        """The network as a function of its parameters, on the device.

        Raises:
            ConfigError: If it is not a function of its parameters and images alone.
        """
        return FunctionalNetwork(self.network(), self.device)

    def initial_state(self, *keys: Key) -> State:
        """A random initialisation, the same for the same keys.

        Args:
            keys: Which one, such as ``"bank", 3``.
        """
        return initial_state(self.architecture, self.image_shape, self.num_classes, self.seed, *keys)

    def describe(self) -> Json:
        """What a training depends on apart from the data, by the names of a stage's options."""
        return {
            "network": self.architecture.describe(),
            "augmentation": self.augmentation.describe(),
            "seed": self.seed,
        }
