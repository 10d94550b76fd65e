"""Gradient matching against the papers' formulas, written down naively in double precision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import DISTANCES, LAYERS, synthetic_side
from torch import Tensor, nn
from torch.nn import functional as F
from toys import CLASSES, NETWORK, SHAPE, toy_context, toy_images, toy_module, toy_state

from pdd_lightning.dynamics import MatchPoint, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives import GradientMatching, SyntheticSide, Work
from pdd_lightning.objectives.gradient import gradient_distance
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.types import ImageShape

EVERYTHING = DSA(one_per_step=False)
IDC = DSA(operations=("color", "crop", "cutout"), one_per_step=False)


def context_of(folder: Path, shape: ImageShape, augmentation: Augmentation) -> StageContext:
    return toy_context(folder, shape=shape, augmentation=augmentation, real=toy_images(15, shape, dtype=torch.float64))


def start(context: StageContext) -> MatchPoint:
    state = toy_state(shape=context.image_shape, dtype=torch.float64)
    return MatchPoint(context.network.layout.flatten(state))


def compare(objective: GradientMatching, wanted: Tensor, synthetic: SyntheticSide, context: StageContext) -> None:
    """Value and gradient in the images agree to 1e-8."""
    parts = [objective.loss(synthetic, Work(start(context), 3, 1, part), context) for part in range(CLASSES)]
    found = torch.stack(parts).sum()
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12)
    mine, naive = (torch.autograd.grad(loss, synthetic.images)[0] for loss in (found, wanted))
    assert naive.norm() > 0
    assert (mine - naive).norm() < 1e-8 * naive.norm()


# The distances of two lists of gradients, as loops over layers and output units


def layerwise(mine: Tensor, real: Tensor) -> Tensor:
    """Zhao et al. 2021, appendix: a convolution's (out, in, k, k) is out vectors of in * k * k numbers."""
    if mine.ndim == 1:
        rows = [(mine, real)]
    else:
        rows = [(mine[unit].reshape(-1), real[unit].reshape(-1)) for unit in range(len(mine))]
    return sum(
        (1 - (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt() + 1e-6) for a, b in rows),
        start=torch.zeros((), dtype=mine.dtype),
    )


def l1_mean(mine: Tensor, real: Tensor) -> Tensor:
    units = [(mine[unit] - real[unit]).abs().mean() for unit in range(len(mine))]
    return torch.stack(units).sum()


PER_LAYER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "layerwise": layerwise,
    "mse": lambda mine, real: torch.pow(mine - real, 2).sum(),
    "l1": lambda mine, real: torch.abs(mine - real).sum(),
    "l1-mean": l1_mean,
}


def naive_distance(mine: list[Tensor], real: list[Tensor], distance: str) -> Tensor:
    if distance == "cosine":
        a, b = (torch.cat([layer.reshape(-1) for layer in side]) for side in (mine, real))
        return 1 - (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt() + 1e-6)
    return torch.stack([PER_LAYER[distance](a, b) for a, b in zip(mine, real, strict=True)]).sum()


def counts(module: nn.Module, name: str, layers: str) -> bool:
    """Which parameters are compared, by the kind of their layer."""
    path, _, kind = name.rpartition(".")
    layer = module.get_submodule(path)
    if layers == "all":
        return True
    kinds = (nn.Conv2d,) if layers == "convolutions" else (nn.Conv2d, nn.Linear)
    return kind == "weight" and isinstance(layer, kinds)


def naive_loss(
    synthetic: SyntheticSide,
    context: StageContext,
    distance: str,
    layers: str,
    augmentation: Augmentation,
    real_batch_size: int,
) -> Tensor:
    """Class by class: gradients of an ordinary module on real and on synthetic images, alike augmented."""
    shape = context.image_shape
    module = toy_module(toy_state(shape=shape, dtype=torch.float64), shape=shape)
    images, labels = synthetic.images, synthetic.labels
    if synthetic.previous is not None:
        images = torch.cat([synthetic.previous.images, images])
        labels = torch.cat([synthetic.previous.labels, labels])
    total = torch.zeros((), dtype=torch.float64)
    named = [(name, p) for name, p in module.named_parameters() if counts(module, name, layers)]
    for label in range(CLASSES):
        keys = ("match", 3, 1, label)
        drawn = augmentation.draw(1, shape, generator(0, "stage", 1, *keys))
        sides = [context.real_images(label, real_batch_size, *keys), images[labels == label]]
        gradients = []
        for batch in sides:
            logits = module(augmentation.apply(batch, drawn))
            loss = F.cross_entropy(logits, torch.full((len(batch),), label))
            gradients.append(list(torch.autograd.grad(loss, [p for _, p in named], create_graph=True)))
        real, mine = gradients
        total = total + naive_distance(mine, [layer.detach() for layer in real], distance)
    return total


@pytest.mark.parametrize("previous", [False, True], ids=["first-stage", "conditioned"])
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_loss_is_that_of_the_papers(distance: Any, layers: Any, previous: bool, tmp_path: Path) -> None:
    shape = (3, 8, 8)
    context = context_of(tmp_path, shape, NoAugmentation())
    synthetic = synthetic_side(shape, previous=previous, dtype=torch.float64)
    wanted = naive_loss(synthetic, context, distance, layers, NoAugmentation(), 4)
    compare(GradientMatching(distance, layers, real_batch_size=4), wanted, synthetic, context)


@pytest.mark.parametrize("augmentation", [DSA(), EVERYTHING, IDC], ids=["one", "everything", "idc"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)], ids=str)
def test_real_and_synthetic_images_are_augmented_alike(
    shape: ImageShape, augmentation: Augmentation, tmp_path: Path
) -> None:
    context = context_of(tmp_path, shape, augmentation)
    synthetic = synthetic_side(shape, previous=False, dtype=torch.float64)
    wanted = naive_loss(synthetic, context, "layerwise", "weights", augmentation, 256)
    compare(GradientMatching(), wanted, synthetic, context)


def test_an_augmentation_of_its_own_takes_the_place_of_the_methods(tmp_path: Path) -> None:
    context = context_of(tmp_path, SHAPE, DSA())
    synthetic = synthetic_side(SHAPE, previous=False, dtype=torch.float64)
    wanted = naive_loss(synthetic, context, "mse", "convolutions", IDC, 4)
    compare(GradientMatching("mse", "convolutions", 4, augmentation=IDC), wanted, synthetic, context)


def test_the_published_methods_compare_the_layers_that_their_code_compares(tmp_path: Path) -> None:
    """DC: weights of convolutions and of the head. IDC: those of convolutions (its options bias and fc are off)."""
    context = context_of(tmp_path, SHAPE, NoAugmentation())
    images = synthetic_side(SHAPE, previous=False, dtype=torch.float64).images

    def shapes(objective: GradientMatching) -> list[int]:
        point = start(context)
        return [
            g.ndim
            for g in objective._gradient(context.network, point.start, images, torch.tensor(0), differentiable=False)
        ]

    assert shapes(GradientMatching()) == [4, 4, 2]
    assert shapes(GradientMatching(layers="convolutions")) == [4, 4]
    assert shapes(GradientMatching(layers="all")) == [4, 1, 1, 1, 4, 1, 1, 1, 2, 1]


def test_only_the_synthetic_side_has_a_graph_of_its_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, synthetic = toy_context(tmp_path), synthetic_side(SHAPE, previous=False)
    point = MatchPoint(context.network.layout.flatten(context.bank[0]))
    differentiate, kept = torch.autograd.grad, []

    def look(outputs: Tensor, inputs: Any, **options: Any) -> Any:
        if "create_graph" in options:
            kept.append(options["create_graph"])
        return differentiate(outputs, inputs, **options)

    monkeypatch.setattr(torch.autograd, "grad", look)
    GradientMatching(real_batch_size=4).loss(synthetic, Work(point, 0, 0, 2), context)
    assert kept == [False, True]  # of the parameters, with real images and with synthetic ones


# Properties of the distances


def test_layerwise_distance_does_not_see_the_length_of_a_gradient() -> None:
    a, b = torch.randn(2, 4, 3, 3, 3, generator=generator(0), dtype=torch.float64)
    once, scaled = (gradient_distance([factor * a], [b], "layerwise") for factor in (1.0, 100.0))
    torch.testing.assert_close(once, scaled, rtol=1e-5, atol=0)
    assert gradient_distance([a], [100 * a], "layerwise") < 1e-5
    assert gradient_distance([a], [-a], "layerwise") == pytest.approx(2 * len(a), rel=1e-5)


@pytest.mark.parametrize("distance", ["layerwise", "cosine"])
def test_a_unit_without_gradient_is_finite(distance: Any) -> None:
    mine, real = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3)
    loss = gradient_distance([mine], [real], distance)
    (gradient,) = torch.autograd.grad(loss, mine)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


# Which images


def test_a_small_class_shows_all_its_real_images_once(tmp_path: Path) -> None:
    context = toy_context(tmp_path, real=toy_images(10))
    shown = context.real_images(0, 256, "any")
    assert len(shown) == 4
    assert len(torch.unique(shown, dim=0)) == 4
    assert len(context.real_images(0, 3, "any")) == 3


def test_a_class_without_real_images_is_named(tmp_path: Path) -> None:
    real = toy_images(10)
    kept = (real.labels != 1).nonzero().flatten()
    context = toy_context(tmp_path, real=real.take(kept))
    with pytest.raises(ConfigError, match="stage 1 has no real image of class 1"):
        context.real_images(1, 3)


def test_at_most_so_many_synthetic_images_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = toy_context(tmp_path, real=toy_images(30))
    learned = toy_images(15)
    earlier = toy_images(6, seed=1)
    synthetic = SyntheticSide(learned.images.requires_grad_(), learned.labels, torch.tensor(0.1), earlier)
    seen: list[int] = []
    network_loss = context.network.loss

    def noting(parameters: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        seen.append(len(images))
        return network_loss(parameters, images, labels)

    monkeypatch.setattr(context.network, "loss", noting)
    point = MatchPoint(context.network.layout.flatten(context.bank[0]))
    touched = set()
    for step in range(30):
        objective = GradientMatching(real_batch_size=7, syn_batch_size=2)
        (gradient,) = torch.autograd.grad(objective.loss(synthetic, Work(point, step, 0, 2), context), learned.images)
        touched |= set((gradient.flatten(1).norm(dim=1) > 0).nonzero().flatten().tolist())
    assert set(zip(seen[::2], seen[1::2], strict=True)) == {(7, 2)}
    assert touched == set((learned.labels == 2).nonzero().flatten().tolist())
    GradientMatching(syn_batch_size=100).loss(synthetic, Work(point, 0, 0, 2), context)
    assert seen[-1] == len(synthetic.of_class(2))


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": "l2"}, "objective.distance='l2': choose from layerwise, mse"),
        ({"layers": "biases"}, "objective.layers='biases': choose from weights"),
        ({"real_batch_size": 0}, "objective.real_batch_size must be at least 1, got 0"),
        ({"syn_batch_size": 0}, "objective.syn_batch_size must be at least 1, got 0"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GradientMatching(**options)


def test_a_network_without_the_chosen_layers_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    with pytest.raises(ConfigError, match=r"objective.layers='convolutions': model.network builds a Sequential"):
        GradientMatching(layers="convolutions").check(network)
    GradientMatching(layers="weights").check(network)


def test_every_option_is_a_setting() -> None:
    changes: list[dict[str, Any]] = [
        {"distance": "mse"},
        {"layers": "all"},
        {"real_batch_size": 3},
        {"syn_batch_size": 3},
        {"augmentation": IDC},
    ]
    described = [GradientMatching(**change).describe() for change in [{}, *changes]]
    assert all(a != b for i, a in enumerate(described) for b in described[:i])


def test_the_network_of_these_tests_has_layers_of_every_kind() -> None:
    module = toy_module(toy_state())
    assert {type(module.get_submodule(name.rpartition(".")[0])) for name, _ in module.named_parameters()} == {
        nn.Conv2d,
        nn.GroupNorm,
        nn.Linear,
    }
    assert NETWORK.norm == "instance"
