"""Dynamics whose network is itself in training while the images are learned."""

from abc import abstractmethod

import torch

from pdd_lightning.dynamics.base import MatchPoint
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.dynamics.renewable import RenewableBank
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator
from pdd_lightning.training.learner import Learner
from pdd_lightning.types import LabelledImages, State


class EvolvingNetwork(RenewableBank):
    """Episodes that begin at a start state of the bank, and train the network a little after every optimiser step.

    Args:
        start_states: Size of the bank; each episode draws one. At stage 1 the bank is made of fresh networks.
        episode: Optimiser steps before the next start state is drawn.
        learning_rate: Of the network.
        renew_every: See :class:`pdd_lightning.dynamics.renewable.RenewableBank`; an episode that has begun goes on.

    Raises:
        ConfigError: If an option is not positive.

    Example:
        >>> class Still(EvolvingNetwork):
        ...     def train(self, step, synthetic, rate):
        ...         pass
        >>> dynamics = Still(start_states=2, episode=5, learning_rate=0.01)
        >>> dynamics.place(7), dynamics.ends(9), dynamics.members
        ((1, 2), True, 2)
    """

    def __init__(self, start_states: int, episode: int, learning_rate: float, renew_every: int | None = None) -> None:
        super().__init__(start_states, renew_every)
        if episode < 1:
            raise ConfigError(f"dynamics.episode must be at least 1, got {episode}")
        if not 0 < learning_rate < float("inf"):
            raise ConfigError(f"dynamics.learning_rate must be positive and finite, got {learning_rate}")
        self.episode, self.learning_rate = episode, learning_rate
        self._learner: Learner | None = None

    @property
    def learner(self) -> Learner:
        """The network in training."""
        assert self._learner is not None, "prepare() comes first"
        return self._learner

    def prepare(self, context: StageContext) -> None:
        """Make the network; the first episode gives it its values."""
        super().prepare(context)
        (self._learner,) = context.learners(1)

    def place(self, step: int) -> tuple[int, int]:
        """Number of the episode that a step belongs to, and number of the step within it."""
        return divmod(step, self.episode)

    def ends(self, step: int) -> bool:
        """Whether an episode ends with a step."""
        return (step + 1) % self.episode == 0

    def point(self, step: int, index: int) -> MatchPoint:
        """The network as it is now; at the start of an episode, a start state."""
        episode, inner = self.place(step)
        if inner == 0 and index == 0:
            draw = generator(self.context.seed, *self.context.keys("episode", episode))
            member = int(torch.randint(len(self.bank), (), generator=draw))
            self.learner.load(self.bank[member])
        return MatchPoint(self.learner.parameters())

    def advance(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Train the network, unless the next step begins a new episode anyway.

        Raises:
            ConfigError: If the network diverged.
        """
        if self.ends(step):
            return
        self.train(step, synthetic, rate)
        if not torch.isfinite(self.learner.parameters()).all():
            raise ConfigError(
                f"dynamics.learning_rate={self.learning_rate}: the network diverged in training after step {step} of "
                f"{self.context.title}; lower it"
            )

    @abstractmethod
    def train(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Train the network after an optimiser step; see :meth:`Dynamics.advance`."""

    def state_dict(self) -> State:
        """The network and its momentum."""
        return self.learner.checkpoint()

    def load_state_dict(self, state: State) -> None:
        """See :meth:`Dynamics.load_state_dict`."""
        self.learner.restore(state)
