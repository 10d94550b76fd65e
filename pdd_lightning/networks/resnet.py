"""Residual networks for transfer to other architectures."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torchvision.models.resnet import BasicBlock  # type: ignore[import-untyped]
from torchvision.models.resnet import ResNet as TorchvisionResNet

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks.base import Architecture, Classifier
from pdd_lightning.types import ImageShape

_BLOCKS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2]}


@dataclass(frozen=True)
class ResNet(Architecture):
    """ResNet-10 or ResNet-18 for small images: a 3x3 stem of stride 1 and no max-pooling.

    He et al., CVPR 2016, section 4.2 (the CIFAR stem) on the layers of section 4.1. Images of eight
    pixels a side or fewer are halved only while 2x2 pixels remain: on a single pixel, instance norm returns
    the same output for every image.

    Attributes:
        depth: Number of layers, 10 or 18.
        norm: ``"batch"``, or ``"instance"`` (one channel per group).

    Raises:
        ConfigError: If an option is none of these.

    Example:
        >>> network = ResNet(depth=10, norm="instance")
        >>> network.name, network.build((3, 32, 32), num_classes=10).layers
        ('ResNet10', ('stem', 'layer1', 'layer2', 'layer3', 'layer4'))
    """

    depth: Literal[10, 18] = 18
    norm: Literal["batch", "instance"] = "batch"

    def __post_init__(self) -> None:
        if self.depth not in _BLOCKS:
            raise ConfigError(f"depth is {self.depth}: a ResNet has depth 10 or 18")
        if self.norm not in ("batch", "instance"):
            raise ConfigError(f"norm is {self.norm!r}: choose 'batch' or 'instance' for a ResNet")

    @property
    def name(self) -> str:
        """``ResNet10`` or ``ResNet18``."""
        return f"ResNet{self.depth}"

    def build(self, image_shape: ImageShape, num_classes: int) -> Classifier:
        """See :meth:`Architecture.build`."""
        channels, height, width = image_shape
        net = TorchvisionResNet(
            BasicBlock,
            _BLOCKS[self.depth],
            num_classes=num_classes,
            norm_layer=nn.BatchNorm2d if self.norm == "batch" else _instance_norm,
        )
        stem = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own stem
        stages = OrderedDict(layer1=net.layer1, layer2=net.layer2, layer3=net.layer3, layer4=net.layer4)
        _keep_two_pixels([net.layer2[0], net.layer3[0], net.layer4[0]], min(height, width))
        layers = OrderedDict(
            [
                ("stem", nn.Sequential(OrderedDict(conv=stem, norm=net.bn1, activation=nn.ReLU()))),
                *stages.items(),
                ("pool", nn.AdaptiveAvgPool2d(1)),
                ("flatten", nn.Flatten()),
            ]
        )
        return Classifier(nn.Sequential(layers), net.fc, ["stem", *stages])


def _instance_norm(channels: int) -> nn.GroupNorm:
    """The same as an affine instance norm, and faster under double backward (see ConvNet)."""
    return nn.GroupNorm(channels, channels)


def _keep_two_pixels(blocks: list[Any], side: int) -> None:
    """Give stride 1 to those halving blocks (torchvision's BasicBlock) that would leave a single pixel."""
    for block in blocks:
        if side > 2:
            side = (side + 1) // 2
        else:
            block.conv1.stride = block.downsample[0].stride = (1, 1)
