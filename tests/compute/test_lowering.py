"""Convolutions in tiles, and what the compiler is given instead of a network's derivatives."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, jvp
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock  # type: ignore[import-untyped]
from toys import SHAPE

from pdd_lightning.compute import winograd
from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.compute.lowering import FEW_CHANNELS, MANY_CHANNELS, lowered
from pdd_lightning.compute.step_products import CompiledStepMath, StepMath
from pdd_lightning.networks import ConvNet, build_template
from pdd_lightning.networks.base import Classifier
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
    "between": (nn.Conv2d(FEW_CHANNELS + 1, MANY_CHANNELS, 3, padding=1), (2, FEW_CHANNELS + 1, 8, 8), 3),
    "no tiles": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1), (2, MANY_CHANNELS, 8, 6), 3),
    "stride": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1, stride=2), (2, MANY_CHANNELS, 8, 8), 3),
    "dilation": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1, dilation=2), (2, MANY_CHANNELS, 8, 8), 3),
    "padding": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 3), (2, MANY_CHANNELS, 8, 8), 3),
    "groups": (nn.Conv2d(2 * MANY_CHANNELS, MANY_CHANNELS, 3, padding=1, groups=2), (2, 2 * MANY_CHANNELS, 4, 4), 3),
    "1x1": (nn.Conv2d(MANY_CHANNELS, MANY_CHANNELS, 1, padding=1), (2, MANY_CHANNELS, 8, 8), 3),
    "transposed": (nn.ConvTranspose2d(MANY_CHANNELS, MANY_CHANNELS, 3, padding=1), (2, MANY_CHANNELS, 8, 8), 3),
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


def test_few_channels_take_no_gradient_in_the_weights_that_nobody_asks_for() -> None:
    x, weight = draw(2, FEW_CHANNELS, 5, 7), draw(8, FEW_CHANNELS, 3, 3)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=1).square().sum()

    graph = lowered(grad(loss), x, weight)
    assert convolutions(graph) == [torch.ops.aten.convolution.default]
    assert distance(graph(x, weight), grad(loss)(x, weight)) < 1e-12


def test_gradients_that_nobody_reads_are_left_out() -> None:
    """Those in the weights take no part in the gradient in the images, though both are asked for at once."""
    x, weight = draw(2, 8, 6, 6), draw(8, 8, 3, 3)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, padding=1).square().sum()

    graph = lowered(lambda x, weight: grad(loss, (0, 1))(x, weight)[0], x, weight)
    wanted = [node.args[-1] for node in graph.graph.nodes if "convolution_backward" in str(node.target)]
    assert wanted == [[True, False, False]]
    assert distance(graph(x, weight), grad(loss)(x, weight)) < 1e-12


def test_convolutions_of_nothing_are_left_out() -> None:
    """The first layer's images have no tangent, where parameters are moved."""
    x, weight, bias, direction = draw(2, 8, 6, 6), draw(8, 8, 3, 3), draw(8), draw(8, 8, 3, 3)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, padding=1).square().sum()

    def along(x: Tensor, weight: Tensor, direction: Tensor) -> Any:
        return jvp(grad(loss, (0, 1)), (x, weight), (torch.zeros_like(x), direction))[1]

    graph = lowered(along, x, weight, direction)
    # Outputs and their tangent; in the images what two tangents make, in the weights what that of the outputs makes.
    assert len(convolutions(graph)) == 2 + 2 + 1
    for mine, direct in zip(graph(x, weight, direction), along(x, weight, direction), strict=True):
        assert distance(mine, direct) < 1e-12


def test_the_code_is_that_of_the_graph() -> None:
    """Where nothing is merged, too: the compiler reads both, line by line."""
    graph = lowered(lambda x: 2 * x.view(-1), draw(2, 3))
    before = graph.code
    graph.recompile()
    assert graph.code == before
    assert "aten.view" not in before


class Scaled(nn.Module):
    """A module with a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(3.0))
        self.scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class InPlace(nn.Module):
    """A module that writes over what it made: its two buffers begin equal, and are not one."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        first.copy_(2 * x)
        second.copy_(-3 * x)
        return F.relu(first + second.square(), inplace=True)


class Choosing(nn.Module):
    """A module that looks at the values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class Keeping(nn.Module):
    """A module that keeps what it made when it was first called."""

    ramp: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.ramp is None:
            self.ramp = torch.linspace(0, 1, x.shape[-1])
        return x * self.ramp


class Drawing(nn.Module):
    """A module that draws at random, and does nothing with it."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * torch.rand_like(x)


def wrapped(inner: nn.Module) -> FunctionalNetwork:
    features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), inner, nn.Tanh(), nn.Flatten())
    return FunctionalNetwork(Classifier(features, nn.Linear(4 * 64, 3)))


def steps(network: FunctionalNetwork, math: Callable[[FunctionalNetwork], StepMath]) -> list[Tensor]:
    """Gradient and products of two steps, on other data."""
    draws, made = generator(0, "step"), math(network)
    theta = 0.1 * torch.randn(network.layout.size, generator=draws)
    found = []
    for _ in range(2):
        x, vector = torch.randn(6, 1, 8, 8, generator=draws), torch.randn(theta.shape, generator=draws)
        labels = torch.randint(3, (6,), generator=draws)
        found += [made.gradient(theta, x, labels), *made.products(theta, x, labels, vector)]
    return found


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs the graphs as they are, and fails where there is none."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="objective.compile")
        yield


RESIDUAL = nn.Sequential(
    nn.Conv2d(4, 6, 1), BasicBlock(6, 6), BasicBlock(6, 4, 2, nn.Conv2d(6, 4, 1, 2)), nn.Upsample(8)
)


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    "inner", [Scaled(), InPlace(), Keeping(), RESIDUAL], ids=["constant", "in place", "keeps", "residual"]
)
def test_a_graph_is_the_network(inner: nn.Module) -> None:
    network = wrapped(inner)
    for mine, plain in zip(steps(network, CompiledStepMath), steps(network, StepMath), strict=True):
        assert type(mine) is Tensor
        assert plain.norm() > 0
        assert distance(mine, plain) < 1e-5


@pytest.mark.parametrize("inner", [Choosing(), Drawing()], ids=lambda inner: type(inner).__name__)
def test_what_has_no_graph_is_computed_as_it_comes(inner: nn.Module) -> None:
    network = wrapped(inner)
    with pytest.warns(UserWarning, match="cannot be compiled here"):
        found = steps(network, CompiledStepMath)
    assert all(torch.equal(mine, plain) for mine, plain in zip(found, steps(network, StepMath), strict=True))


@pytest.mark.usefixtures("uncompiled")
def test_every_shape_has_its_own_graph() -> None:
    """What was made for one size of the union is not run for another."""
    network = FunctionalNetwork(build_template(ConvNet(width=4, depth=2), SHAPE, 3))
    compiled, plain = CompiledStepMath(network), StepMath(network)
    theta = 0.1 * torch.randn(network.layout.size, generator=generator(0, "theta"))
    for count in (3, 5, 3):
        x, labels = torch.randn(count, 1, 8, 8, generator=generator(0, "x")), torch.arange(count) % 3
        assert torch.allclose(compiled.gradient(theta, x, labels), plain.gradient(theta, x, labels), atol=1e-6)
