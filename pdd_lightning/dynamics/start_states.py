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
    """

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
