"""The network is a start state, and is not trained.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, section 3.2: random networks.
Inside PDD they are the bank of start states theta^(k-1).
"""

import torch

from pdd_lightning.dynamics.base import Dynamics, MatchPoint
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator


class StartStates(Dynamics):
    """A start state of the bank, drawn anew at every step.

    Args:
        start_states: Size of the bank.

    Example:
        >>> from pathlib import Path
        >>> from pdd_lightning.dynamics.bank import StateBank
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.training.problem import Problem
        >>> from pdd_lightning.types import LabelledImages
        >>> problem = Problem(ConvNet(width=4), (1, 8, 8), num_classes=2)
        >>> images = LabelledImages(torch.zeros(6, 1, 8, 8), torch.arange(6) % 2)
        >>> bank, dynamics = StateBank.random(problem, members=3), StartStates(3)
        >>> dynamics.prepare(StageContext(problem, 1, bank, images, images, "", Path("experts")))
        >>> dynamics.point(step=0, index=0).start.shape
        torch.Size([238])
    """

    members_option: str | None = "start_states"

    def __init__(self, start_states: int = 100) -> None:
        if start_states < 1:
            raise ConfigError(f"dynamics.start_states must be at least 1, got {start_states}")
        self.start_states = start_states
        self._context: StageContext | None = None

    @property
    def members(self) -> int:
        """Number of start states."""
        return self.start_states

    def prepare(self, context: StageContext) -> None:
        """Nothing but to remember the bank."""
        self._context = context

    def point(self, step: int, index: int) -> MatchPoint:
        """Draw a member by counter."""
        context = self._context
        assert context is not None, "prepare() comes first"
        draw = generator(context.seed, *context.keys("point", step, index))
        member = int(torch.randint(len(context.bank), (), generator=draw))
        return MatchPoint(context.network.layout.flatten(context.bank[member]).to(context.device))
