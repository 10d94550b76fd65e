"""Networks: options that build a classifier for any image shape, and the states they start from."""

from typing import TYPE_CHECKING

from pdd_lightning.lazy import lazily
from pdd_lightning.networks.base import (
    Architecture,
    Classifier,
    build_template,
    features_of,
    initial_state,
    layers_of,
)
from pdd_lightning.networks.convnet import ConvNet

if TYPE_CHECKING:
    from pdd_lightning.networks.resnet import ResNet

__all__ = [
    "Architecture",
    "Classifier",
    "ConvNet",
    "ResNet",
    "build_template",
    "features_of",
    "initial_state",
    "layers_of",
]

# It is built on torchvision's, which takes as long to import as PyTorch.
__getattr__ = lazily(__name__, {"ResNet": "pdd_lightning.networks.resnet"})
