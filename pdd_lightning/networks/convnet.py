"""The convolutional network of the distillation literature."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks.base import Architecture, Classifier
from pdd_lightning.types import ImageShape

Norm = Literal["instance", "batch", "layer", "group", "none"]
Activation = Literal["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu"]
Pooling = Literal["average", "max", "none"]

CHANNEL_GROUPS = 4
"""Number of groups of ``norm="group"``."""

# "instance" is a group norm with one channel per group: the same mathematics as an affine InstanceNorm2d,
# the same statistics in training and evaluation, and far faster when its backward pass is differentiated.
_NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "instance": lambda width: nn.GroupNorm(width, width),
    "batch": nn.BatchNorm2d,
    "layer": lambda width: nn.GroupNorm(1, width),
    "group": lambda width: nn.GroupNorm(CHANNEL_GROUPS, width),
    "none": lambda width: nn.Identity(),
}
_ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
_POOLINGS: dict[Pooling, Callable[[], nn.Module]] = {
    "average": lambda: nn.AvgPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
    "none": nn.Identity,
}


@dataclass(frozen=True)
class ConvNet(Architecture):
    """Blocks of [3x3 convolution, norm, activation, 2x2 pooling] and a linear head.

    The network of Gidaris and Komodakis (CVPR 2018) as dataset distillation uses it (Zhao et al., ICLR 2021,
    section 3.1): 3 blocks of 128 for 32x32 images and 4 for 64x64.

    The code of that paper, which later methods took over, differs in two places. It pads images of one channel by 3
    pixels in the first block, which makes 32x32 of 28x28, where every convolution here pads by 1; and its layer norm
    has a scale and a shift for every element of its input, where ``"layer"`` here has them for every channel.

    Attributes:
        width: Channels of every block.
        depth: Number of blocks. None fits it to the images: as many as pool the shorter side to about four
            pixels, ``round(log2(side)) - 2``, but two for sides of four to sixteen pixels. That is 2 for 8x8
            and 16x16, 3 for 28x28 and 32x32, 4 for 64x64.
        norm: ``"instance"`` (one channel per group, as published), ``"batch"``, ``"layer"`` (one group),
            ``"group"`` (four groups) or ``"none"``; all of them affine.
        activation: The nonlinearity.
        pooling: What halves height and width at the end of a block; ``"none"`` keeps them.

    Raises:
        ConfigError: If an option is out of range, or, when building, if ``depth`` pools the images away.

    Example:
        >>> ConvNet(width=128).depth_for((3, 32, 32))
        3
        >>> ConvNet(width=8, norm="batch").build((1, 8, 8), num_classes=10).layers
        ('block1.activation', 'block2.activation')
    """

    width: int = 128
    depth: int | None = None
    norm: Norm = "instance"
    activation: Activation = "relu"
    pooling: Pooling = "average"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width is {self.width}: a ConvNet needs at least one channel, set width >= 1")
        if self.depth is not None and self.depth < 1:
            raise ConfigError(f"depth is {self.depth}: a ConvNet needs at least one block, set depth >= 1")
        for option, value, allowed in (
            ("norm", self.norm, get_args(Norm)),
            ("activation", self.activation, get_args(Activation)),
            ("pooling", self.pooling, get_args(Pooling)),
        ):
            if value not in allowed:
                raise ConfigError(f"{option} is {value!r}: choose one of {', '.join(allowed)}")
        if self.norm == "group" and self.width % CHANNEL_GROUPS:
            raise ConfigError(
                f"width is {self.width} with norm 'group': choose a multiple of its {CHANNEL_GROUPS} groups"
            )

    def build(self, image_shape: ImageShape, num_classes: int) -> Classifier:
        """See :meth:`Architecture.build`."""
        channels, height, width = image_shape
        depth = self.depth_for(image_shape)
        blocks = OrderedDict(
            (f"block{index + 1}", self._block(channels if index == 0 else self.width)) for index in range(depth)
        )
        factor = 1 if self.pooling == "none" else 2**depth
        flat = self.width * (height // factor) * (width // factor)
        features = nn.Sequential(OrderedDict([*blocks.items(), ("flatten", nn.Flatten())]))
        return Classifier(features, nn.Linear(flat, num_classes), [f"{name}.activation" for name in blocks])

    def depth_for(self, image_shape: ImageShape) -> int:
        """The number of blocks for images of a shape: ``depth``, or what suits them if it is None.

        Raises:
            ConfigError: If that many poolings would leave less than one pixel.
        """
        _, height, width = image_shape
        side = min(height, width)
        largest = int(math.log2(side))
        depth = self.depth
        if depth is None:
            depth = max(1, min(largest, max(2, round(math.log2(side)) - 2)))
        if self.pooling != "none" and depth > largest:
            raise ConfigError(
                f"depth is {self.depth}: {depth} poolings leave nothing of {height}x{width} images; "
                f"the largest depth for them is {largest}, or set pooling to 'none'"
            )
        return depth

    def _block(self, in_channels: int) -> nn.Sequential:
        layers: list[tuple[str, nn.Module]] = [
            ("conv", nn.Conv2d(in_channels, self.width, kernel_size=3, padding=1)),
            ("norm", _NORMS[self.norm](self.width)),
            ("activation", _ACTIVATIONS[self.activation]()),
            ("pool", _POOLINGS[self.pooling]()),
        ]
        return nn.Sequential(OrderedDict(layers))
