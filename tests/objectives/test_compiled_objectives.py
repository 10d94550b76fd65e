"""What a compiler is given computes the same as what it stands for, and the same goes for what it makes of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cases import DISTANCES, LAYERS, synthetic_side
from toys import CLASSES, SHAPE, toy_context, toy_images, toy_state

from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.dynamics import MatchPoint
from pdd_lightning.objectives import FeatureAlignment, GradientMatching, MeanEmbedding, Objective, Work
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA

Make = Callable[[bool], Objective]

GRADIENTS: dict[str, Make] = {
    f"{distance}-{layers}": lambda compile, distance=distance, layers=layers: GradientMatching(  # type: ignore[misc]
        distance, layers, real_batch_size=3, compile=compile
    )
    for distance in DISTANCES
    for layers in LAYERS
}
OBJECTIVES: dict[str, Make] = {
    **GRADIENTS,
    "mean": lambda compile: MeanEmbedding(real_batch_size=3, compile=compile),
    "features": lambda compile: FeatureAlignment(real_batch_size=3, layer_weights=[0.5, 1.0, 2.0], compile=compile),
}


def results(objective: Objective, folder: Path, dtype: torch.dtype) -> list[torch.Tensor]:
    """Losses of two steps and their gradients in the images."""
    images = toy_images(10, dtype=dtype)
    context = toy_context(folder, augmentation=DSA(siamese=True), real=images)
    vars(context)["network"] = FunctionalNetwork(context.problem.network().to(dtype))
    side = synthetic_side(SHAPE, previous=True, dtype=dtype)
    start = context.network.layout.flatten(toy_state(shape=SHAPE, dtype=dtype))
    start = start + 0.1 * torch.randn(len(start), generator=generator(0, "start"), dtype=dtype)
    found = []
    for step in range(2):
        works = [Work(MatchPoint(start), step, 0, part) for part in range(objective.parts(context))]
        for loss in objective.losses(side, works, context):
            found += [loss.detach(), *torch.autograd.grad(loss, side.images)]
    return found


@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)
def test_what_a_compiler_is_given_is_the_same(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, graphs = results(make(False), tmp_path, torch.float64), list[object]()
    assert all(found.abs().sum() > 0 for found in wanted)

    def given(graph: object, **_: object) -> object:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", given)
    found = results(make(True), tmp_path, torch.float64)
    assert graphs
    assert all(isinstance(graph, torch.fx.GraphModule) for graph in graphs)
    assert len(graphs) < 2 * CLASSES  # the second step finds those of the first
    for mine, plain in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layerwise-weights", "mean", "features"])
def test_what_a_compiler_makes_of_it_is_the_same(name: str, tmp_path: Path) -> None:
    found, wanted = (results(OBJECTIVES[name](compile), tmp_path, torch.float64) for compile in (True, False))
    for mine, plain in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["layerwise-weights", "mean", "features"])
def test_without_a_compiler_it_goes_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler\nand much more")

    wanted = results(OBJECTIVES[name](False), tmp_path, torch.float64)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.warns(UserWarning, match=r"objective.compile: .* cannot be compiled here .RuntimeError") as said:
        found = results(OBJECTIVES[name](True), tmp_path, torch.float64)
    assert len(said) == 1
    assert all(torch.equal(mine, plain) for mine, plain in zip(found, wanted, strict=True))


def test_whether_it_is_compiled_is_no_setting_of_a_run() -> None:
    for make in OBJECTIVES.values():
        assert make(True).describe() == make(False).describe()
