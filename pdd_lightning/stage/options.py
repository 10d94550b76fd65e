"""Checks of a stage's options, and what follows from them."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pdd_lightning.dynamics import Dynamics
from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives import Objective
from pdd_lightning.types import ImageShape


def per_stage(ipc: int | list[int], stages: int) -> list[int]:
    """Images per class of each stage.

    Raises:
        ConfigError: If the numbers are not positive, or not one for each stage.
    """
    if stages < 1:
        raise ConfigError(f"model.stages must be at least 1, got {stages}")
    values = [ipc] * stages if isinstance(ipc, int) else list(ipc)
    if len(values) != stages:
        raise ConfigError(f"model.ipc={values} lists {len(values)} stages, model.stages={stages}: make them agree")
    if any(value < 1 for value in values):
        raise ConfigError(f"model.ipc must be at least 1 in every stage, got {ipc}")
    return values


def total_asked(values: Sequence[int]) -> str:
    """How the options ask for the images per class of all stages together, for a message.

    Args:
        values: Images per class of each stage.
    """
    if len(values) == 1:
        return f"model.ipc={values[0]}"
    if len(set(values)) == 1:
        return f"model.ipc={values[0]} in each of model.stages={len(values)}, {sum(values)} in all"
    return f"model.ipc={list(values)}, {sum(values)} in all"


def at_least_one(**options: int) -> None:
    """Refuse counts below 1.

    Raises:
        ConfigError: Naming the option.
    """
    for name, value in options.items():
        if value < 1:
            raise ConfigError(f"model.{name} must be at least 1, got {value}")


def positive(**options: float) -> None:
    """Refuse rates that are not positive and finite.

    Raises:
        ConfigError: Naming the option.
    """
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise ConfigError(f"model.{name} must be positive and finite, got {value}")


def require_target(objective: Objective, dynamics: Dynamics) -> None:
    """Refuse an objective that compares with a target at a dynamics without one.

    Raises:
        ConfigError: Naming both.
    """
    if objective.needs_target and not dynamics.has_target:
        raise ConfigError(
            f"model.objective={type(objective).__name__} compares with a target, which "
            f"model.dynamics={type(dynamics).__name__} does not have: use ExpertTrajectories"
        )


def require_logits(network: nn.Module, image_shape: ImageShape, num_classes: int) -> None:
    """Refuse a network that does not give one number for each class of each image.

    Args:
        network: On the CPU; taken over.
        image_shape: Channels, height, width.
        num_classes: Number of classes.

    Raises:
        ConfigError: Naming the shape that it gives.
    """
    with torch.no_grad():
        shape = tuple(network.eval()(torch.zeros(2, *image_shape)).shape)
    if shape != (2, num_classes):
        raise ConfigError(
            f"model.network builds a {type(network).__name__} that gives shape {shape} for 2 images, where "
            f"{(2, num_classes)} is needed: one number for each class; mend its last layer"
        )


def require_recordable(settings: Mapping[str, object]) -> None:
    """Refuse settings that a file would not give back as they are: a run that continues compares them.

    Args:
        settings: By option of the model; what `describe` of its parts gives.

    Raises:
        ConfigError: Naming the part and the value.
    """
    for option, described in settings.items():
        found = _unrecordable(described, "")
        if found is not None:
            raise ConfigError(
                f"model.{option}: its describe() gives {found[1]!r}{found[0] and f' for {found[0]!r}'}, which no JSON "
                "file gives back: describe it by finite numbers, text, true or false, null, lists and dicts of these"
            )


def _unrecordable(value: object, name: str) -> tuple[str, object] | None:
    """The name and value of something that is not plain JSON."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return name, value
        parts = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        parts = [(name, part) for part in value]
    else:
        finite = isinstance(value, float) and math.isfinite(value)
        return None if value is None or finite or isinstance(value, (bool, int, str)) else (name, value)
    return next((found for key, part in parts if (found := _unrecordable(part, key)) is not None), None)


def require_scalar(loss: Tensor, objective: Objective) -> None:
    """Refuse a loss that is not one number.

    Raises:
        ConfigError: Naming the objective and the shape.
    """
    if loss.ndim:
        raise ConfigError(
            f"model.objective={type(objective).__name__}: its loss() has shape {tuple(loss.shape)}, where a single "
            "number is needed: add it up or average it"
        )


OptimizerName = Literal["sgd", "adam"]


def stage_optimizer(
    name: OptimizerName, images: Tensor, alpha: Tensor, image_lr: float, alpha_lr: float
) -> torch.optim.Optimizer:
    """SGD with momentum 0.5, as published for most methods, or Adam.

    Args:
        name: Which of them.
        images: First group.
        alpha: Second group.
        image_lr: Learning rate of the images.
        alpha_lr: Learning rate of alpha.
    """
    groups = [{"params": [images], "lr": image_lr}, {"params": [alpha], "lr": alpha_lr}]
    if name == "adam":
        # The momentum of the published SGD; the second moment forgets fast, for stages are short.
        return torch.optim.Adam(groups, betas=(0.5, 0.95))
    return torch.optim.SGD(groups, lr=image_lr, momentum=0.5)


def check_decay(decay_at: Sequence[float]) -> None:
    """Refuse points of decay outside a stage.

    Raises:
        ConfigError: Naming the option.
    """
    if any(not 0 < point < 1 for point in decay_at):
        raise ConfigError(f"model.image_lr_decay_at holds fractions of the iterations in (0, 1), got {list(decay_at)}")


def image_rate(image_lr: float, decay_at: Sequence[float], decay: float, step: int, iterations: int) -> float:
    """Learning rate of the images at a step: multiplied by `decay` at each fraction of the iterations that is past."""
    return image_lr * decay ** sum(step >= point * iterations for point in decay_at)
