"""Dynamics whose network is itself in training while the images are learned."""

from abc import abstractmethod

import torch

from pdd_lightning.dynamics.base import Dynamics, MatchPoint, StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.learning import Learner
from pdd_lightning.rng import generator
from pdd_lightning.types import LabelledImages, State


class EvolvingNetwork(Dynamics):
    """Episodes that begin at a start state of the bank, and train the network a little after every optimiser step.

    Args:
        members: Start states; each episode draws one. At stage 1 the bank is made of fresh networks.
        episode: Optimiser steps before the next start state is drawn.
    """

    def __init__(self, members: int, episode: int) -> None:
        for name, value in {"start_states": members, "episode": episode}.items():
            if value < 1:
                raise ConfigError(f"dynamics.{name} must be at least 1, got {value}")
        self._members, self.episode = members, episode
        self._learner: Learner | None = None
        self._context: StageContext | None = None

    @property
    def members(self) -> int:
        """Number of start states."""
        return self._members

    @property
    def context(self) -> StageContext:
        """What `prepare` was given."""
        assert self._context is not None, "prepare() comes first"
        return self._context

    @property
    def learner(self) -> Learner:
        """The network in training."""
        assert self._learner is not None, "prepare() comes first"
        return self._learner

    def prepare(self, context: StageContext) -> None:
        """Make the network; the first episode gives it its values."""
        self._context = context
        self._learner = Learner(context.make_network(), context.device)

    def point(self, step: int, index: int) -> MatchPoint:
        """The network as it is now; at the start of an episode, a start state."""
        if step % self.episode == 0 and index == 0:
            draw = generator(self.context.seed, *self.context.keys("episode", step // self.episode))
            member = int(torch.randint(len(self.context.bank), (), generator=draw))
            self.learner.load(self.context.bank[member])
        return MatchPoint(self.learner.parameters())

    def advance(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Train the network, unless the next step begins a new episode anyway."""
        if (step + 1) % self.episode:
            self.train(step, synthetic, rate)

    @abstractmethod
    def train(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Train the network after an optimiser step; see :meth:`Dynamics.advance`."""

    def state_dict(self) -> State:
        """The network and its momentum."""
        return self.learner.checkpoint()

    def load_state_dict(self, state: State) -> None:
        """See :meth:`Dynamics.load_state_dict`."""
        self.learner.restore(state)
