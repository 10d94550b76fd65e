"""On a GPU, works that are recorded side by side are what a CPU computes one by one."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import synthetic_side
from pretended import Playing, recordings
from torch import nn
from toys import CLASSES, NETWORK, SHAPE, toy_context, toy_images

from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.dynamics import MatchPoint, StageContext
from pdd_lightning.networks import build_template
from pdd_lightning.objectives import GradientMatching, Objective, SyntheticSide, TrajectoryMatching, Work
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import DSA

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "trajectory": lambda: TrajectoryMatching(syn_steps=3, syn_batch_size="union"),
    "minibatches": lambda: TrajectoryMatching(syn_steps=3, syn_batch_size=4, recompute=True),
    "gradient": lambda: GradientMatching(real_batch_size=3),
    "mse": lambda: GradientMatching("mse", "convolutions", real_batch_size=2, syn_batch_size=1),
}


class Own(nn.Sequential):
    """A class that nobody here knows: it may draw numbers, or keep a tensor for the next call."""


def everything_on(device: str, folder: Path, own: bool) -> tuple[StageContext, SyntheticSide, list[MatchPoint]]:
    """In float64."""
    context = toy_context(folder, augmentation=DSA(siamese=True), real=toy_images(10, dtype=torch.float64).to(device))
    template = build_template(NETWORK, SHAPE, CLASSES).double()
    network = FunctionalNetwork(Own(template) if own else template, device)
    side = synthetic_side(SHAPE, previous=True, dtype=torch.float64)
    images, rate = (tensor.detach().to(device).requires_grad_() for tensor in (side.images, side.rate))
    assert side.previous is not None
    side = replace(side, images=images, labels=side.labels.to(device), rate=rate, previous=side.previous.to(device))
    points = []
    for index in range(5):
        start, target = (
            0.1 * torch.randn(network.layout.size, generator=generator(0, name, index), dtype=torch.float64).to(device)
            for name in ("start", "target")
        )
        points.append(MatchPoint(start, target))
    context = replace(context, problem=replace(context.problem, device=torch.device(device)))
    vars(context)["network"] = network  # in float64, and perhaps of a class of the user's own
    return context, side, points


def losses_on(device: str, objective: Objective, folder: Path, own: bool = False) -> list[torch.Tensor]:
    """Of two steps: the second plays what the first recorded."""
    context, side, points = everything_on(device, folder, own)
    found = []
    for step in range(2):
        works = [
            Work(point, step, i, part) for i, point in enumerate(points) for part in range(objective.parts(context))
        ]
        loss = torch.stack([*objective.losses(side, works, context)]).sum()
        found += [loss.detach(), *torch.autograd.grad(loss, [side.images, side.rate], allow_unused=True)]
    return [tensor.cpu() for tensor in found if tensor is not None]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_recorded_works_are_those_of_a_cpu(name: str, tmp_path: Path, playing: Playing) -> None:
    with warnings.catch_warnings(), playing() as device, recordings() as made:
        warnings.filterwarnings("error", message=".*cannot be recorded")
        found = losses_on(device, OBJECTIVES[name](), tmp_path)
    # Of four works and of the remainder; for walks to go forward and back, and for minibatches of two sizes.
    assert len(made) == {"trajectory": 4, "minibatches": 8, "gradient": 2, "mse": 2}[name]
    wanted = losses_on("cpu", OBJECTIVES[name](), tmp_path)
    assert len(found) == len(wanted) >= 4
    for mine, its in zip(found, wanted, strict=True):
        assert its.norm() > 0
        assert (mine - its).norm() / its.norm() < 1e-8


@pytest.mark.parametrize("name", OBJECTIVES)
def test_networks_of_ones_own_are_computed_as_they_come(name: str, tmp_path: Path, player: str) -> None:
    with recordings() as made:
        losses_on(player, OBJECTIVES[name](), tmp_path, own=True)
    assert not made
