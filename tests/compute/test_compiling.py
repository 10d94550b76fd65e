"""Wide networks are given to the compiler as plain operations, in tiles, and narrow ones as they are."""

import pytest
import torch

from pdd_lightning.compute.lowering import pays_to_lower
from pdd_lightning.networks import ConvNet, ResNet
from pdd_lightning.training.gradients import LossGradients
from pdd_lightning.training.learner import Learner

SHAPE = (3, 8, 8)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a compiler is given, which then does nothing with it."""
    given = list[object]()

    def compile(function: object, **_: object) -> object:
        given.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    return given


@pytest.mark.parametrize(
    ("architecture", "lower"),
    [(ConvNet(width=64), False), (ConvNet(width=128), True), (ConvNet(width=128, depth=1), False), (ResNet(), True)],
    ids=["narrow", "wide", "one layer", "resnet"],
)
def test_wide_networks_are_lowered(architecture: ConvNet | ResNet, lower: bool) -> None:
    assert pays_to_lower(architecture.build((3, 32, 32), 10)) == lower


@pytest.mark.parametrize("width", [8, 128])
def test_steps_of_networks_are_the_same_in_tiles(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Learner(ConvNet(width=width, depth=2).build(SHAPE, 10).double())
    images = torch.randn(4, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lane = learner.parameters(), images, torch.arange(4), None
    given = noted(monkeypatch)
    [(loss, gradient)], [(found_loss, found)] = (
        LossGradients(learner.network, "float32", compiled)([lane]) for compiled in (False, True)
    )
    assert [isinstance(function, torch.fx.GraphModule) for function in given] == [width == 128]
    torch.testing.assert_close((found_loss, found), (loss, gradient), rtol=1e-10, atol=1e-12)


def test_tiles_are_not_rounded_to_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little would be left of their sums."""
    given = noted(monkeypatch)
    learner = Learner(ConvNet(width=128, depth=2).build(SHAPE, 10))
    lane = learner.parameters(), torch.zeros(4, *SHAPE), torch.arange(4), None
    LossGradients(learner.network, "float32", True)([lane])
    LossGradients(learner.network, "bfloat16", True)([lane])
    convolutions = [
        sum(node.target is torch.ops.aten.convolution.default for node in graph.graph.nodes)
        for graph in given
        if isinstance(graph, torch.fx.GraphModule)
    ]
    assert convolutions == [1, 2]  # the first layer's has three channels
