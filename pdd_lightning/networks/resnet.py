"""Residual networks for transfer to other architectures."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn
from torchvision.models.resnet import BasicBlock  # type: ignore[import-untyped]
from torchvision.models.resnet import ResNet as TorchvisionResNet

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks.base import Architecture, Classifier
from pdd_lightning.types import ImageShape

Initialisation = Literal["fan_out", "default"]

_BLOCKS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2]}
_TORCHVISION_WIDTH = 64


@dataclass(frozen=True)
class ResNet(Architecture):
    """ResNet-10 or ResNet-18 for small images: a 3x3 stem of stride 1 and no max-pooling.

    He et al., CVPR 2016, section 4.2 (the CIFAR stem) on the layers of section 4.1. Images of eight
    pixels a side or fewer are halved only while 2x2 pixels remain: on a single pixel, instance norm returns
    the same output for every image.

    What the codes of the methods evaluate on, beside the norm: IDC's has a width of 32 for CIFAR (64 for larger images)
    and ``"fan_out"``; those of DC, DSA, DM, MTT and PDD a width of 64 and ``"default"``.

    Attributes:
        depth: Number of layers, 10 or 18.
        norm: ``"batch"``, or ``"instance"`` (one channel per group).
        width: Channels of the stem and of the first of four stages; each stage after it has twice as many.
        initialisation: Of the convolutions: ``"fan_out"``, normal with variance 2 / (9 * output channels) (He et al.,
            ICCV 2015), or ``"default"``, as PyTorch has it: uniform, with variance 1 / (27 * input channels). These are
            the numbers of a 3x3 kernel.

    Raises:
        ConfigError: If an option is none of these, or the width is not positive.

    Example:
        >>> network = ResNet(depth=10, norm="instance")
        >>> network.name, network.build((3, 32, 32), num_classes=10).layers
        ('ResNet10', ('stem', 'layer1', 'layer2', 'layer3', 'layer4'))
    """

    depth: Literal[10, 18] = 18
    norm: Literal["batch", "instance"] = "batch"
    width: int = _TORCHVISION_WIDTH
    initialisation: Initialisation = "fan_out"

    def __post_init__(self) -> None:
        if self.depth not in _BLOCKS:
            raise ConfigError(f"depth is {self.depth}: a ResNet has depth 10 or 18")
        if self.norm not in ("batch", "instance"):
            raise ConfigError(f"norm is {self.norm!r}: choose 'batch' or 'instance' for a ResNet")
        if self.width < 1:
            raise ConfigError(f"width is {self.width}: a ResNet needs at least one channel, set width >= 1")
        if self.initialisation not in get_args(Initialisation):
            allowed = ", ".join(get_args(Initialisation))
            raise ConfigError(f"initialisation is {self.initialisation!r}: choose one of {allowed}")

    @property
    def name(self) -> str:
        """``ResNet10`` or ``ResNet18``."""
        return f"ResNet{self.depth}"

    def build(self, image_shape: ImageShape, num_classes: int) -> Classifier:
        """See :meth:`Architecture.build`."""
        channels, height, width = image_shape
        norm = nn.BatchNorm2d if self.norm == "batch" else _instance_norm
        net = _Residual(self.width, _BLOCKS[self.depth], num_classes, norm)
        stem = nn.Conv2d(channels, self.width, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's own stem
        stages = OrderedDict(layer1=net.layer1, layer2=net.layer2, layer3=net.layer3, layer4=net.layer4)
        _keep_two_pixels([net.layer2[0], net.layer3[0], net.layer4[0]], min(height, width))
        layers = OrderedDict(
            [
                ("stem", nn.Sequential(OrderedDict(conv=stem, norm=norm(self.width), activation=nn.ReLU()))),
                *stages.items(),
                ("pool", nn.AdaptiveAvgPool2d(1)),
                ("flatten", nn.Flatten()),
            ]
        )
        features = nn.Sequential(layers)
        if self.initialisation == "default":
            for module in features.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
        return Classifier(features, net.fc, ["stem", *stages])


class _Residual(TorchvisionResNet):  # type: ignore[misc] # torchvision has no types
    """Torchvision's residual network, in stages of any width."""

    def __init__(self, width: int, blocks: list[int], num_classes: int, norm: Callable[[int], nn.Module]) -> None:
        self.width = width
        super().__init__(BasicBlock, blocks, num_classes=num_classes, norm_layer=norm)
        if width != _TORCHVISION_WIDTH:
            self.fc = nn.Linear(8 * width, num_classes)

    def _make_layer(self, block: type[nn.Module], planes: int, *options: Any, **named: Any) -> nn.Sequential:
        """A stage, of which torchvision would make one with `planes` channels."""
        if planes == _TORCHVISION_WIDTH:
            self.inplanes = self.width
        stage: nn.Sequential = super()._make_layer(block, planes * self.width // _TORCHVISION_WIDTH, *options, **named)
        return stage


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
