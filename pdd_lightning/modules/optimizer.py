"""The optimiser of a stage: one group for the images, one for the learning rate."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pdd_lightning.errors import ConfigError

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
