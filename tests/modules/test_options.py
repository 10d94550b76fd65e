"""Checks of a stage's options that need a network of one's own."""

import pytest
import torch
from torch import Tensor, nn
from toys import SHAPE, toy_module, toy_state

from pdd_lightning.errors import ConfigError
from pdd_lightning.modules.options import require_vmap


class Looking(nn.Module):
    """Decides by the value of its input, which cannot be done for several networks at once."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(torch.Size(SHAPE).numel(), 3)

    def forward(self, images: Tensor) -> Tensor:
        scale = float(images.abs().max()) + 1
        logits: Tensor = self.head(images.flatten(1) / scale)
        return logits


def test_a_network_that_cannot_be_trained_at_once_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.networks_at_once: model.network builds a Looking .*; set it to 1"):
        require_vmap(Looking(), SHAPE)


def test_others_are_not() -> None:
    require_vmap(toy_module(toy_state()), SHAPE)
