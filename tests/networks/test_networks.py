"""Networks: shapes, counts, states and how configurations name them."""

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import Architecture, Classifier, ConvNet, ResNet, build_template, initial_state
from pdd_lightning.types import ImageShape, State

SHAPES: list[ImageShape] = [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64)]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "architecture",
    [
        *(ConvNet(width=8, norm=norm) for norm in ("instance", "batch", "layer", "group", "none")),
        *(ConvNet(width=8, pooling=pooling) for pooling in ("max", "none")),
        *(ConvNet(width=8, activation=name) for name in ("leaky_relu", "sigmoid", "tanh", "gelu", "silu")),
        ResNet(10),
        ResNet(10, "instance"),
        ResNet(10, width=6, initialisation="default"),
    ],
    ids=str,
)
def test_output_depends_on_the_images(architecture: Architecture, shape: ImageShape) -> None:
    network = build_template(architecture, shape, num_classes=7)
    assert isinstance(network, Classifier)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    logits = network(images)
    assert logits.shape == (2, 7)
    assert network.embed(images).shape == (2, network.head.in_features)
    assert (logits[0] - logits[1]).abs().max() > 1e-6


def test_published_parameter_counts() -> None:
    assert parameters(build_template(ConvNet(), (3, 32, 32), 10)) == 320_010
    assert parameters(build_template(ConvNet(width=128, depth=3), (3, 32, 32), 10)) == 320_010
    # torchvision's ResNet-18 with a thousand classes has 11,689,512, of which the 7x7 stem 9,408.
    resnet = parameters(build_template(ResNet(18), (3, 32, 32), 1000))
    assert resnet == 11_689_512 - 9_408 + 64 * 3 * 9
    assert parameters(build_template(ResNet(18, "instance"), (3, 32, 32), 1000)) == resnet


@pytest.mark.parametrize(("width", "count"), [(64, 4_903_242), (32, 1_228_970)])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_resnet_s_width(width: int, count: int, norm: Literal["batch", "instance"]) -> None:
    """IDC's ResNet-10 for CIFAR has stages of 32 to 256 channels."""
    network = build_template(ResNet(10, norm, width), (3, 32, 32), 10)
    assert isinstance(network, Classifier)
    assert parameters(network) == count
    assert network.head.in_features == 8 * width
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert {conv.out_channels for conv in convolutions} == {width, 2 * width, 4 * width, 8 * width}


def test_resnet_s_initialisation() -> None:
    """By formula for every convolution, and the published figures for one: IDC's, and PyTorch's own."""
    for initialisation, wanted in (("fan_out", 0.0589), ("default", 0.0241)):
        network = ResNet(10, initialisation=initialisation)  # type: ignore[arg-type]
        state = initial_state(network, (3, 32, 32), 10, 0)
        assert state["features.layer1.0.conv1.weight"].std().item() == pytest.approx(wanted, rel=0.02)
        kernels = [tensor for tensor in state.values() if tensor.ndim == 4]
        assert len(kernels) == 12
        for kernel in kernels:
            fan_out, fan_in = kernel[:, 0].numel(), kernel[0].numel()
            if initialisation == "fan_out":
                assert kernel.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
                assert kernel.abs().max() > 2.5 * (2 / fan_out) ** 0.5
            else:
                assert kernel.std().item() == pytest.approx((1 / (3 * fan_in)) ** 0.5, rel=0.05)
                assert kernel.abs().max() <= fan_in**-0.5


@pytest.mark.parametrize(("side", "depth"), [(2, 1), (4, 2), (8, 2), (16, 2), (28, 3), (32, 3), (64, 4)])
def test_fitted_depth(side: int, depth: int) -> None:
    assert ConvNet().depth_for((3, side, side)) == depth
    assert ConvNet(depth=1).depth_for((3, side, side)) == 1


def test_names() -> None:
    assert [a.name for a in (ConvNet(), ResNet(), ResNet(10))] == ["ConvNet", "ResNet18", "ResNet10"]


def test_depth_that_pools_the_images_away() -> None:
    with pytest.raises(ConfigError, match=r"depth is 4: .* 8x12 images.*largest depth for them is 3"):
        ConvNet(depth=4).build((1, 8, 12), 10)
    assert ConvNet(width=4, depth=4, pooling="none").build((1, 8, 12), 10).head.in_features == 4 * 8 * 12
    assert ConvNet(width=4, depth=3).build((1, 8, 12), 10).head.in_features == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"norm": "instanse"}, "norm is 'instanse': choose one of instance, batch"),
        ({"activation": "swish"}, "activation is 'swish'"),
        ({"pooling": "mean"}, "pooling is 'mean'"),
        ({"width": 6, "norm": "group"}, "width is 6 with norm 'group'"),
    ],
)
def test_convnet_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConvNet(**options)  # type: ignore[arg-type]


def test_resnet_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="depth is 34"):
        ResNet(34)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="norm is 'layer'"):
        ResNet(18, "layer")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="width is 0"):
        ResNet(width=0)
    with pytest.raises(ConfigError, match="initialisation is 'he': choose one of fan_out, default"):
        ResNet(initialisation="he")  # type: ignore[arg-type]


def test_resnet_halves_large_images_three_times() -> None:
    for shape, side in (((3, 32, 32), 4), ((3, 16, 16), 2), ((1, 8, 8), 2)):
        features = build_template(ResNet(10), shape, 10).features
        assert isinstance(features, nn.Sequential)
        assert features[:5](torch.zeros(2, *shape)).shape == (2, 512, side, side)


def test_instance_norm_is_torchs() -> None:
    images = torch.rand(4, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    ours = build_template(ConvNet(width=6), (6, 8, 8), 2).get_submodule("features.block1.norm")
    theirs = nn.InstanceNorm2d(6, affine=True)
    scale, shift = torch.rand(2, 6, generator=torch.Generator().manual_seed(1))
    for norm in (ours, theirs):
        norm.load_state_dict({"weight": scale, "bias": shift})
    torch.testing.assert_close(ours(images), theirs(images))
    torch.testing.assert_close(ours.eval()(images), theirs(images))


@pytest.mark.parametrize("architecture", [ConvNet(width=4, norm="batch"), ResNet(10)])
def test_initial_state_has_buffers(architecture: Architecture) -> None:
    shape = (1, 8, 8)
    state = initial_state(architecture, shape, 10, 0)
    template = build_template(architecture, shape, 10)
    assert state.keys() == {n for n, _ in (*template.named_parameters(), *template.named_buffers())}
    assert any(name.endswith("running_mean") for name in state)
    before = {name: tensor.clone() for name, tensor in template.state_dict().items()}
    logits = functional_call(template, state, (torch.rand(2, *shape),))
    assert logits.shape == (2, 10)
    assert all(torch.equal(before[name], tensor) for name, tensor in template.state_dict().items())


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_initial_state_is_a_function_of_its_keys() -> None:
    def state(seed: int, *keys: int | str) -> State:
        return initial_state(ConvNet(width=4), (1, 8, 8), 10, seed, *keys)

    assert same(state(0, "bank", 1), state(0, "bank", 1))
    assert not same(state(0, "bank", 1), state(0, "bank", 2))
    assert not same(state(0, "bank", 1), state(1, "bank", 1))
    assert not any(tensor.requires_grad for tensor in state(0).values())


def test_global_generator_is_untouched() -> None:
    before = torch.get_rng_state()
    initial_state(ResNet(10), (3, 32, 32), 10, 0)
    build_template(ConvNet(), (3, 32, 32), 10)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "architecture", [ConvNet(width=4), ConvNet(width=4, activation="gelu", pooling="max")], ids=str
)
def test_hessian_vector_products_agree(architecture: Architecture) -> None:
    """Reverse over reverse and forward over reverse both go through the network."""
    state = initial_state(architecture, (1, 8, 8), 3, 0)
    state = {name: tensor.double() for name, tensor in state.items()}
    template = build_template(architecture, (1, 8, 8), 3)
    source = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, 8, 8, generator=source, dtype=torch.float64)
    vector = {name: torch.rand(t.shape, generator=source, dtype=t.dtype) for name, t in state.items()}

    def loss(state: State) -> Tensor:
        logits = functional_call(template, state, (images,))
        return nn.functional.cross_entropy(logits, torch.arange(3))

    def slope(state: State) -> Tensor:
        gradient = grad(loss)(state)
        return torch.stack([(gradient[name] * vector[name]).sum() for name in state]).sum()

    forward = jvp(grad(loss), (state,), (vector,))[1]
    reverse = grad(slope)(state)
    for name in state:
        torch.testing.assert_close(forward[name], reverse[name])


class Linear(Architecture):
    """A user's architecture: neither a dataclass nor a Classifier."""

    def __init__(self, bias: bool = True) -> None:
        self.bias = bias
        self._cache = object()

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        size = image_shape[0] * image_shape[1] * image_shape[2]
        return nn.Sequential(nn.Flatten(), nn.Linear(size, num_classes, bias=self.bias))


def test_describe() -> None:
    described = ConvNet(width=64).describe()
    assert described == {
        "class_path": "pdd_lightning.networks.ConvNet",
        "width": 64,
        "depth": None,
        "norm": "instance",
        "activation": "relu",
        "pooling": "average",
    }
    assert json.loads(json.dumps(described)) == described
    assert Linear().describe() == {"class_path": f"{__name__}.Linear", "bias": True}
    assert Linear().name == "Linear"
    assert ConvNet(width=64) == ConvNet(width=64) != ConvNet()
    assert len({ConvNet(), ConvNet(), ResNet()}) == 2


class Holder:
    """What has an architecture among its options."""

    def __init__(self, network: Architecture) -> None:
        self.network = network


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--network=ConvNet"], ConvNet()),
        (["--network=ConvNet", "--network.width=16", "--network.depth=2"], ConvNet(16, 2)),
        (["--network=pdd_lightning.networks.ConvNet", "--network.norm=batch"], ConvNet(norm="batch")),
        (["--network=ResNet", "--network.depth=10"], ResNet(10)),
        (
            ["--network=ResNet", "--network.width=32", "--network.initialisation=default"],
            ResNet(18, "batch", 32, "default"),
        ),
        (['--network={"class_path": "ResNet", "init_args": {"norm": "instance"}}'], ResNet(norm="instance")),
    ],
)
def test_named_on_the_command_line(options: list[str], expected: Architecture) -> None:
    assert parse(options) == expected


def test_named_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("network: {class_path: ResNet, init_args: {depth: 10}}")
    assert parse([f"--config={path}"]) == ResNet(10)
    path.write_text("network: {class_path: torch.nn.Linear, init_args: {in_features: 1, out_features: 1}}")
    with pytest.raises(Exception, match="Architecture"):
        parse([f"--config={path}"])


def parse(options: list[str]) -> Architecture:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(Holder, None)
    instantiated = parser.instantiate_classes(parser.parse_args(options))
    network = instantiated["network"]
    assert isinstance(network, Architecture)
    return network
