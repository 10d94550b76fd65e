"""Networks: options that build a classifier for any image shape, and the states they start from."""

from pdd_lightning.networks.base import (
    Architecture,
    Classifier,
    build_template,
    features_of,
    initial_state,
    layers_of,
)
from pdd_lightning.networks.convnet import ConvNet
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
