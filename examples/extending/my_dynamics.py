"""A dynamics of your own: match at start states that are a little off, so that no single network is fitted too well."""

import torch

from pdd_lightning.dynamics import Dynamics, MatchPoint, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator


class PerturbedStates(Dynamics):
    """A start state of the stage, every parameter of which is multiplied by a random number around 1.

    Options are recorded as the attributes of their names; one that changes no number is named in `unrecorded`.

    Args:
        start_states: How many start states the stage keeps.
        noise: Standard deviation of the random numbers.

    Raises:
        ConfigError: If an option is out of range.
    """

    members_option = "start_states"  # which `pdd-cli plan --plan.minutes` may suggest to lower

    def __init__(self, start_states: int = 10, noise: float = 0.1) -> None:
        if start_states < 1:
            raise ConfigError(f"dynamics.start_states must be at least 1, got {start_states}")
        if not noise >= 0:
            raise ConfigError(f"dynamics.noise must be at least 0, got {noise}")
        self.start_states, self.noise = start_states, noise
        self._context: StageContext | None = None

    @property
    def members(self) -> int:
        """How many start states the bank must hold."""
        return self.start_states

    def prepare(self, context: StageContext) -> None:
        """Called before the first step, and again when a stage continues."""
        self._context = context

    def point(self, step: int, index: int) -> MatchPoint:
        """Drawn by counter: a stage that continues at step 17 gets step 17's network and noise."""
        context = self._context
        assert context is not None, "prepare() comes first"
        draw = generator(context.seed, *context.keys("point", step, index))
        member = int(torch.randint(len(context.bank), (), generator=draw))
        start = context.network.layout.flatten(context.bank[member])
        factors = 1 + self.noise * torch.randn(start.shape, generator=draw)
        return MatchPoint((start * factors).to(context.device))
