"""Trajectory matching against equation 2 of the paper, written down naively."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import make_case
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from toys import NETWORK, toy_context, toy_images, toy_module, toy_state

from pdd_lightning.compute.functional import Layout
from pdd_lightning.compute.step_products import graph_bytes
from pdd_lightning.dynamics import MatchPoint, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives import SyntheticSide, TrajectoryMatching, Work
from pdd_lightning.objectives.trajectory import normalised_distance
from pdd_lightning.objectives.walk import Walk, walk_ends
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA
from pdd_lightning.types import ImageShape

SHAPES: list[ImageShape] = [(1, 8, 8), (3, 8, 8), (1, 32, 32), (3, 32, 32)]
START, TARGET = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, -1.0])


def test_no_movement_gives_one() -> None:
    assert normalised_distance(START, START, TARGET) == 1


def test_arrival_gives_zero() -> None:
    assert normalised_distance(TARGET, START, TARGET) == 0


def test_half_way_gives_a_quarter() -> None:
    assert normalised_distance((START + TARGET) / 2, START, TARGET) == 0.25


@pytest.mark.parametrize(("ways", "steps"), [({"recompute": True}, 5), ({"compile": True}, 5), ({}, 42)])
def test_a_tenth_of_the_steps_is_shown_where_none_is_kept(ways: dict[str, bool], steps: int) -> None:
    objective = TrajectoryMatching(syn_steps=42, syn_momentum=0.5, **ways)
    brief, times = objective.brief()
    assert isinstance(brief, TrajectoryMatching)
    assert (brief.syn_steps, brief.compile, brief.syn_momentum) == (steps, False, 0.5)
    assert brief.syn_steps * times == pytest.approx(42)
    assert objective.syn_steps == 42


def test_overshooting_to_the_mirror_image_gives_one() -> None:
    assert normalised_distance(2 * TARGET - START, START, TARGET) == 1


def side(shape: ImageShape, previous: bool = False, dtype: torch.dtype = torch.float64) -> SyntheticSide:
    learned = toy_images(6, shape, dtype=dtype)
    return SyntheticSide(
        learned.images.clone().requires_grad_(),
        learned.labels,
        torch.tensor(0.05, dtype=dtype, requires_grad=True),
        toy_images(3, shape, seed=1, dtype=dtype) if previous else None,
    )


def match_point(shape: ImageShape, dtype: torch.dtype = torch.float64) -> MatchPoint:
    """Two unrelated states: how far the expert went does not matter here."""
    states = [toy_state(shape=shape, key=key, dtype=dtype) for key in range(2)]
    layout = Layout.of(toy_module(states[0], shape=shape))
    return MatchPoint(layout.flatten(states[0]), layout.flatten(states[1]))


def equation_2(synthetic: SyntheticSide, shape: ImageShape, steps: int, size: int | None = None) -> Tensor:
    """||theta_{t+N} - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2, after N steps on the union.

    With a size, each step takes the next so many images of a random order, and what is left where it ends.
    """
    start, target = (toy_state(shape=shape, key=key, dtype=torch.float64) for key in range(2))
    module = toy_module(start, shape=shape)
    images, labels = synthetic.decoded, synthetic.all_labels
    if synthetic.previous is not None:
        images = torch.cat([synthetic.previous.images, images])
    theta = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
    left: list[Tensor] = []
    for step in range(steps):
        if not left:
            draw = generator(0, "stage", 1, "walk", 0, 0, "epoch", step // -(-len(images) // (size or len(images))))
            order = torch.randperm(len(images), generator=draw) if size else torch.arange(len(images))
            left = [*torch.split(order, size or len(images))]
        chosen = left.pop(0)
        loss = F.cross_entropy(functional_call(module, theta, (images[chosen],)), labels[chosen])
        gradient = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        theta = {name: t - synthetic.rate * g for (name, t), g in zip(theta.items(), gradient, strict=True)}
    above = torch.stack([(theta[name] - target[name]).square().sum() for name in theta]).sum()
    below = torch.stack([(start[name] - target[name]).square().sum() for name in theta]).sum()
    return above / below


@pytest.mark.parametrize("previous", [False, True], ids=["first-stage", "conditioned"])
@pytest.mark.parametrize("recompute", [True, False], ids=["recompute", "store"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_loss_and_its_gradients_are_those_of_equation_2(
    shape: ImageShape, recompute: bool, previous: bool, tmp_path: Path
) -> None:
    synthetic = side(shape, previous)
    learned = (synthetic.images, synthetic.rate)
    context = toy_context(tmp_path, shape=shape)
    matching = TrajectoryMatching(syn_steps=3, syn_batch_size="union", recompute=recompute)
    found = matching.loss(synthetic, Work(match_point(shape), 0, 0), context)
    wanted = equation_2(synthetic, shape, steps=3)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=0)
    for mine, naive in zip(torch.autograd.grad(found, learned), torch.autograd.grad(wanted, learned), strict=True):
        assert (mine - naive).norm() < 1e-8 * naive.norm()


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("recompute", [True, False], ids=["recompute", "store"])
def test_a_step_of_a_later_stage_takes_as_many_images_as_the_stage_learns(
    recompute: bool, factor: int, tmp_path: Path
) -> None:
    """Of the union, in a random order: the paper's claim that conditioning does not raise the cost (section 4.1)."""
    shape = (1, 8, 8)
    synthetic = replace(side(shape, previous=True), factor=factor)
    learned, size = (synthetic.images, synthetic.rate), 6 * factor**2
    found = TrajectoryMatching(syn_steps=5, recompute=recompute).loss(
        synthetic, Work(match_point(shape), 0, 0), toy_context(tmp_path, shape=shape)
    )
    wanted = equation_2(synthetic, shape, 5, size)
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=0)
    for mine, naive in zip(torch.autograd.grad(found, learned), torch.autograd.grad(wanted, learned), strict=True):
        assert (mine - naive).norm() < 1e-8 * naive.norm()
    assert abs(wanted - equation_2(synthetic, shape, 5)) > 1e-6 * wanted


@pytest.fixture
def augmented(tmp_path: Path) -> StageContext:
    return toy_context(tmp_path, augmentation=DSA())


def loss(matching: TrajectoryMatching, context: StageContext, step: int = 0, index: int = 0) -> float:
    shape = context.image_shape
    return matching.loss(side(shape), Work(match_point(shape), step, index), context).item()


def test_the_same_counter_gives_the_same_loss(augmented: StageContext) -> None:
    matching = TrajectoryMatching(syn_steps=3, syn_batch_size=2)
    assert loss(matching, augmented, 7, 1) == loss(matching, augmented, 7, 1)


def test_every_step_point_stage_and_seed_draws_its_own_augmentation(augmented: StageContext) -> None:
    matching = TrajectoryMatching(syn_steps=3)
    losses = [
        loss(matching, augmented, 7, 1),
        loss(matching, augmented, 8, 1),
        loss(matching, augmented, 7, 2),
        loss(matching, replace(augmented, stage=2), 7, 1),
        loss(matching, replace(augmented, problem=replace(augmented.problem, seed=1)), 7, 1),
    ]
    assert len(set(losses)) == len(losses)


def test_every_step_draws_its_own_minibatches(tmp_path: Path) -> None:
    matching, context = TrajectoryMatching(syn_steps=3, syn_batch_size=2), toy_context(tmp_path)
    assert loss(matching, context, 7) != loss(matching, context, 8)


def test_the_whole_set_without_augmentation_draws_nothing(tmp_path: Path) -> None:
    matching, context = TrajectoryMatching(syn_steps=3), toy_context(tmp_path)
    assert loss(matching, context, 7) == loss(matching, context, 8)


def test_a_large_minibatch_is_the_whole_set(tmp_path: Path) -> None:
    context = toy_context(tmp_path)
    assert loss(TrajectoryMatching(3, syn_batch_size=100), context) == loss(TrajectoryMatching(3), context)


def test_recomputing_changes_no_number_so_it_is_no_setting() -> None:
    assert TrajectoryMatching(recompute=True).describe() == TrajectoryMatching(recompute=False).describe()


@pytest.mark.parametrize("compile", [False, True])
def test_steps_are_compiled_where_that_is_asked_for(
    compile: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def count(function: Any, **_: Any) -> Any:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", count)
    matching, context = TrajectoryMatching(syn_steps=3, compile=compile), toy_context(tmp_path)
    loss(matching, context)
    loss(matching, context)
    assert len(compiled) == (2 if compile else 0)  # a gradient and the products, for the whole stage


def test_what_is_compiled_is_not_kept() -> None:
    with pytest.raises(ConfigError, match=r"objective.recompute=false .* objective.compile=true .* leave one of"):
        TrajectoryMatching(compile=True, recompute=False)


@pytest.mark.parametrize(("share", "kept"), [(2.01, True), (1.99, False)])
def test_graphs_are_kept_where_they_take_half_of_the_free_memory(
    share: float, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = toy_context(tmp_path)
    synthetic, point = side(context.image_shape), match_point(context.image_shape)
    graphs = 3 * graph_bytes(context.network, point.start, synthetic.images.detach(), synthetic.labels)
    monkeypatch.setattr("pdd_lightning.objectives.trajectory.free_memory", lambda device: share * graphs)
    found: list[bool] = []

    def look(images: Tensor, rate: Tensor, walks: Sequence[Walk]) -> tuple[Tensor, ...]:
        found.extend(walk.store for walk in walks)
        return walk_ends(images, rate, walks)

    monkeypatch.setattr("pdd_lightning.objectives.trajectory.walk_ends", look)
    matching = TrajectoryMatching(syn_steps=3)
    matching.loss(synthetic, Work(point, 0, 0), context)
    monkeypatch.setattr("pdd_lightning.objectives.trajectory.free_memory", lambda device: 0)
    matching.loss(synthetic, Work(point, 1, 0), context)  # which is less by what the first one took
    assert found == [kept, kept]


def test_batch_norm_leaves_no_trace_between_losses(tmp_path: Path) -> None:
    """A network that kept running statistics would not be a function."""
    architecture = replace(NETWORK, norm="batch")
    context = toy_context(tmp_path, architecture=architecture)
    synthetic = side(context.image_shape)
    states = [toy_state(architecture, key=key, dtype=torch.float64) for key in range(2)]
    point = MatchPoint(*(context.network.layout.flatten(state) for state in states))
    matching = TrajectoryMatching(syn_steps=2)
    first, second = (matching.loss(synthetic, Work(point, 0, 0), context) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("options", [{"syn_steps": 0}, {"syn_batch_size": 0}, {"syn_batch_size": "all"}], ids=str)
def test_options_must_be_positive(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=f"objective.{name} must be at least 1.*, got {value}"):
        TrajectoryMatching(**options)


def test_several_match_points_hold_no_graphs_together(tmp_path: Path) -> None:
    """Each loss is differentiated at once: what is left of it are two gradients."""
    case = make_case(tmp_path, "trajectory", "experts")
    loss = case.loss()
    graph = loss.grad_fn
    assert graph is not None
    while type(graph).__name__ != "_AttachBackward":
        graph = graph.next_functions[0][0]
        assert graph is not None
    leaves = [node for node, _ in graph.next_functions if node is not None]
    assert [type(node).__name__ for node in leaves] == ["AccumulateGrad"] * 2


@pytest.mark.parametrize(("recompute", "wanted"), [(False, [1, 1, 1]), (True, [3])], ids=["kept", "built again"])
def test_graphs_that_are_kept_are_kept_for_one_walk_at_a_time(
    recompute: bool, wanted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a GPU takes several walks side by side."""
    case = make_case(tmp_path, "trajectory", "experts")
    sizes: list[int] = []

    def counting(images: Tensor, rate: Tensor, walks: Sequence[Walk]) -> tuple[Tensor, ...]:
        sizes.append(len(walks))
        return walk_ends(images, rate, walks)

    monkeypatch.setattr("pdd_lightning.objectives.trajectory.walk_ends", counting)
    context = replace(case.context, problem=replace(case.context.problem, device=torch.device("cuda")))
    vars(context)["network"] = case.context.network  # there need not be a GPU
    works = [Work(case.dynamics.point(0, index), 0, index) for index in range(3)]
    losses = [*TrajectoryMatching(syn_steps=2, recompute=recompute).losses(case.synthetic, works, context)]
    assert len(losses) == 1
    assert sizes == wanted
