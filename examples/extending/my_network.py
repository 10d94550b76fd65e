"""A network of your own: a perceptron with two hidden layers."""

from dataclasses import dataclass
from math import prod

from torch import nn

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import Architecture, Classifier
from pdd_lightning.types import ImageShape


@dataclass(frozen=True)
class Perceptron(Architecture):
    """Flattened images, two hidden layers and a linear head.

    A frozen dataclass describes itself, so there is no `describe` to write.

    Attributes:
        width: Units of each hidden layer.

    Raises:
        ConfigError: If it is not positive.
    """

    width: int = 64

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width is {self.width}: set width >= 1")

    def build(self, image_shape: ImageShape, num_classes: int) -> Classifier:
        """A `Classifier` keeps features and head apart, for objectives that compare features."""
        features = nn.Sequential(
            nn.Flatten(),
            nn.Linear(prod(image_shape), self.width),
            nn.LayerNorm(self.width),  # no running statistics, and no dropout: every step can be repeated
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
        )
        return Classifier(features, nn.Linear(self.width, num_classes))
