"""Small images, networks and stage contexts that tests share."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pdd_lightning.dynamics import StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.networks import Architecture, ConvNet, build_template, initial_state
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import Augmentation, NoAugmentation
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import ImageShape, LabelledImages, State

SHAPE: ImageShape = (1, 8, 8)
CLASSES = 3
NETWORK = ConvNet(width=4, depth=2)


def toy_images(
    count: int, shape: ImageShape = SHAPE, seed: int = 0, dtype: torch.dtype = torch.float32
) -> LabelledImages:
    """Noise around a pattern of each class, which a network can learn."""
    draw = generator(seed, "toy")
    labels = torch.arange(count) % CLASSES
    patterns = torch.randn(CLASSES, *shape, generator=generator(0, "patterns"))
    images = patterns[labels] + 0.5 * torch.randn(count, *shape, generator=draw)
    return LabelledImages(images.to(dtype), labels)


def toy_context(
    folder: Path,
    *,
    architecture: Architecture = NETWORK,
    shape: ImageShape = SHAPE,
    members: int = 2,
    seed: int = 0,
    augmentation: Augmentation = NoAugmentation(),  # noqa: B008 (immutable)
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
    **changes: Any,
) -> StageContext:
    """A first stage, by default on the CPU; `changes` replace its attributes."""
    problem = Problem(architecture, shape, CLASSES, augmentation, seed, device)
    values: dict[str, Any] = {
        "problem": problem,
        "stage": 1,
        "bank": StateBank.random(problem, members),
        "real": toy_images(10, shape),
        "validation": toy_images(6, shape, seed=1),
        "data": "toy data",
        "experts": folder / "experts",
    }
    return StageContext(**{**values, **changes})


def toy_state(
    architecture: Architecture = NETWORK, shape: ImageShape = SHAPE, key: int = 0, dtype: torch.dtype = torch.float32
) -> State:
    """A fresh state; counters stay integers."""
    state = initial_state(architecture, shape, CLASSES, 0, "toy", key)
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def toy_module(state: State, architecture: Architecture = NETWORK, shape: ImageShape = SHAPE) -> nn.Module:
    """An ordinary module in training mode, with these values and in their floating-point type."""
    module = build_template(architecture, shape, CLASSES).to(next(iter(state.values())).dtype)
    module.load_state_dict(state)
    return module


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 0.0) -> None:
    """Two states agree in names and values."""
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance, msg=f"{name} differs")
