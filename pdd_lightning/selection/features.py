"""Selections by the features of a network trained on the real data."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import build_template
from pdd_lightning.selection.base import Selection, SelectionContext
from pdd_lightning.selection.training import TrainingOptions, train_on_real


@dataclass(frozen=True)
class FeatureSelection(TrainingOptions, Selection):
    """Chooses within each class by the features that a trained network's head reads."""

    @abstractmethod
    def pick(self, features: Tensor, count: int) -> Tensor:
        """Choose among the examples of one class.

        Args:
            features: Shape (N, F), float64, on any device.
            count: How many, at most N.

        Returns:
            Rows, shape (count,), int64, best first, on the same device.
        """

    def choose(self, context: SelectionContext, classes: Sequence[Tensor], ipc: int) -> list[Tensor]:
        """See :meth:`Selection.choose`.

        Raises:
            ConfigError: If the network has no `embed`.
        """
        network = build_template(context.architecture, context.image_shape, len(context.class_names))
        if not callable(getattr(network, "embed", None)):
            raise ConfigError(
                f"model.network={context.architecture.name}: {self.name} compares features, and this network has no "
                "method `embed` that returns them (N, F); add one, or use random or forgetting"
            )
        network.load_state_dict(train_on_real(context, self.learning_rate, self.recipe).state)
        network.to(context.device)
        # One class at a time: the features of all images together may not fit into memory.
        return [positions[self.pick(embed(network, context, positions), ipc).cpu()] for positions in classes]


@torch.no_grad()
def embed(network: nn.Module, context: SelectionContext, positions: Tensor, batch_size: int = 1000) -> Tensor:
    """Features of some images, without augmentation and in evaluation mode.

    Args:
        network: With a method `embed`, on the context's device.
        context: The images.
        positions: Shape (N,).
        batch_size: Images at a time.

    Returns:
        Shape (N, F), float64: sums and differences of greedy methods should not depend on rounding.
    """
    network.eval()
    function: Any = network.embed
    return torch.cat([function(context.real.take(part).images).double() for part in torch.split(positions, batch_size)])
