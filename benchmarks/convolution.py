"""A 3x3 convolution with both of its gradients: as `compile: true` computes it against PyTorch's kernels.

python benchmarks/convolution.py --images 100 --inputs 128 --outputs 128 --size 16 --json
"""

import torch
from harness import Settings, Work, compare, count, parser
from torch import Tensor
from torch.func import vjp
from torch.nn import functional as F

from pdd_lightning.compute.lowering import lowered
from pdd_lightning.rng import generator


def _layer(settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Images, weights, and the gradient in the outputs, in the order of memory that the compiler chooses."""
    draw, count, size = generator(0, "benchmark"), settings["images"], settings["size"]
    inputs, outputs = settings["inputs"], settings["outputs"]
    shapes = (count, inputs, size, size), (outputs, inputs, 3, 3), (count, outputs, size, size)
    x, weight, gradient = (torch.randn(shape, generator=draw).to(settings["device"]) for shape in shapes)
    return tuple(part.to(memory_format=torch.channels_last) for part in (x, weight, gradient))  # type: ignore[return-value]


def _all_of_it(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y, back = vjp(lambda x, weight: F.conv2d(x, weight, padding=1), x, weight)  # type: ignore[misc]
    return y, *back(gradient)


def ours(settings: Settings) -> Work:
    """What the compiler makes of the graph that it is given."""
    layer = _layer(settings)
    compiled = torch.compile(lowered(_all_of_it, *layer), dynamic=False)
    return torch.no_grad()(lambda: compiled(*layer))


def reference(settings: Settings) -> Work:
    """The kernels that `torch.nn.Conv2d` runs."""
    layer = _layer(settings)
    return lambda: _all_of_it(*layer)


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--images", type=count, default=100)
    options.add_argument("--inputs", type=count, default=128, help="Channels of the images.")
    options.add_argument("--outputs", type=count, default=128, help="Channels of the outputs.")
    options.add_argument("--size", type=count, default=16, help="Height and width of the images.")
    compare(__file__, options)
