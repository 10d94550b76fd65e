"""Convolutions in tiles, and what the compiler is given instead of a network's derivatives."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional as F
from toys import SHAPE

from pdd_lightning.functional import FunctionalNetwork
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.networks.base import Classifier
from pdd_lightning.objectives import winograd
from pdd_lightning.objectives.lowering import FEW_CHANNELS, MANY_CHANNELS, lowered
from pdd_lightning.objectives.products import CompiledStepMath, StepMath
from pdd_lightning.rng import generator

DRAW = generator(0, "lowering")


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=DRAW, dtype=torch.float64).to(dtype)


def distance(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 12), (16, 4)])
@pytest.mark.parametrize(
    ("dtype", "within"), [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=["float64", "float32"]
)
def test_tiles_compute_the_convolution(height: int, width: int, dtype: torch.dtype, within: float) -> None:
    x, weight, gradient = draw(3, 5, height, width), draw(7, 5, 3, 3), draw(3, 7, height, width)
    leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = F.conv2d(*leaves, padding=1)
    wanted = y, *torch.autograd.grad(y, leaves, gradient)
    x, weight, gradient = x.to(dtype), weight.to(dtype), gradient.to(dtype)
    found = (
        winograd.convolution(x, weight),
        winograd.image_gradient(gradient, weight),
        winograd.weight_gradient(gradient, x),
    )
    for mine, direct in zip(found, wanted, strict=True):
        assert mine.dtype == dtype
        assert distance(mine.double(), direct.detach()) < within


def convolutions(graph: torch.fx.GraphModule) -> list[Any]:
    return [node.target for node in graph.graph.nodes if "convolution" in str(node.target)]


Layer = nn.Conv2d | nn.ConvTranspose2d

LAYERS: dict[str, tuple[Layer, Sequence[int], int]] = {
    # A layer, images, and how many convolutions are left of its outputs and both gradients, which are three.
    "many channels": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1), (2, MANY_CHANNELS, 8, 4), 0),
    "no bias": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1, bias=False), (2, MANY_CHANNELS, 4, 4), 0),
    "few channels": (nn.Conv2d(FEW_CHANNELS, 8, 3, padding=1), (2, FEW_CHANNELS, 5, 7), 2),
    "between": (nn.Conv2d(FEW_CHANNELS + 1, MANY_CHANNELS, 3, padding=1), (2, FEW_CHANNELS + 1, 8, 8), 2),
    "no tiles": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1), (2, MANY_CHANNELS, 8, 6), 2),
    "stride": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1, stride=2), (2, MANY_CHANNELS, 8, 8), 2),
    "dilation": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1, dilation=2), (2, MANY_CHANNELS, 8, 8), 2),
    "padding": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3), (2, MANY_CHANNELS, 8, 8), 2),
    "groups": (nn.Conv2d(2 * MANY_CHANNELS, MANY_CHANNELS, 3, padding=1, groups=2), (2, 2 * MANY_CHANNELS, 4, 4), 2),
    "1x1": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 1, padding=1), (2, MANY_CHANNELS, 6, 6), 2),
    "transposed": (nn.ConvTranspose2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1), (2, MANY_CHANNELS, 8, 8), 2),
}


@pytest.mark.parametrize(("layer", "shape", "left"), LAYERS.values(), ids=LAYERS)
def test_every_convolution_stays_what_it_is(
    layer: nn.Conv2d | nn.ConvTranspose2d, shape: Sequence[int], left: int
) -> None:
    layer = layer.double().requires_grad_(False)
    x, weight = draw(*shape), layer.weight.detach()
    bias = draw(len(layer.bias)) if layer.bias is not None else torch.zeros(())

    def loss(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        parameters = {"weight": weight, **({} if layer.bias is None else {"bias": bias})}
        y: Tensor = torch.func.functional_call(layer, parameters, (x,))
        return y.square().sum()

    function = grad(loss, (0, 1, 2))
    graph = lowered(function, x, weight, bias)
    assert len(convolutions(graph)) == left
    for mine, direct in zip(graph(x, weight, bias), function(x, weight, bias), strict=True):
        assert torch.equal(mine, direct) if not direct.norm() else distance(mine, direct) < 1e-12


def test_images_are_cut_into_tiles_once() -> None:
    """For the outputs and for the gradient in the weights."""
    x, weight = draw(2, MANY_CHANNELS, 8, 8), draw(MANY_CHANNELS, MANY_CHANNELS, 3, 3)

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=1).square().sum()

    graph = lowered(grad(loss), weight, x)
    pads = [node for node in graph.graph.nodes if node.target is torch.ops.aten.constant_pad_nd.default]
    assert len(pads) == 1


class Scaled(nn.Module):
    """A module with a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(3.0))
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Choosing(nn.Module):
    """A module that looks at the values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


def wrapped(inner: nn.Module) -> FunctionalNetwork:
    features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), inner, nn.Tanh(), nn.Flatten())
    return FunctionalNetwork(Classifier(features, nn.Linear(4 * 64, 3)))


def steps(network: FunctionalNetwork, math: Callable[[FunctionalNetwork], StepMath]) -> list[Tensor]:
    draws = generator(0, "step")
    theta = 0.1 * torch.randn(network.layout.size, generator=draws)
    x, vector = torch.randn(6, 1, 8, 8, generator=draws), torch.randn(theta.shape, generator=draws)
    labels = torch.arange(6) % 3
    made = math(network)
    return [made.gradient(theta, x, labels), *made.products(theta, x, labels, vector)]


def test_constants_of_a_network_are_part_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    network = wrapped(Scaled())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="objective.compile")
        found = steps(network, CompiledStepMath)
    for mine, plain in zip(found, steps(network, StepMath), strict=True):
        assert torch.allclose(mine, plain, rtol=1e-4, atol=1e-6)


def test_a_network_that_looks_at_values_is_computed_as_it_comes() -> None:
    network = wrapped(Choosing())
    with pytest.warns(UserWarning, match="cannot be compiled here"):
        found = steps(network, CompiledStepMath)
    assert all(torch.equal(mine, plain) for mine, plain in zip(found, steps(network, StepMath), strict=True))


def test_every_shape_has_its_own_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A union grows from stage to stage, and what was compiled for one size is not run for another."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    network = FunctionalNetwork(build_template(ConvNet(width=4, depth=2), SHAPE, 3))
    compiled, plain = CompiledStepMath(network), StepMath(network)
    theta = 0.1 * torch.randn(network.layout.size, generator=generator(0, "theta"))
    for count in (3, 5, 3):
        x, labels = torch.randn(count, 1, 8, 8, generator=generator(0, "x")), torch.arange(count) % 3
        assert torch.allclose(compiled.gradient(theta, x, labels), plain.gradient(theta, x, labels), atol=1e-6)
