"""Dynamics: at which model states the synthetic and the real training are compared."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from torch import Tensor

from pdd_lightning.described import Described
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.types import LabelledImages, State

KEPT_RENEWALS: Final = 2
"""How many renewals are on the disk at once: the last checkpoint may be of the one before."""


@dataclass(frozen=True)
class MatchPoint:
    """Where the two trainings are compared.

    Attributes:
        start: Parameters at which both begin, shape (P,).
        target: Parameters at which training on real data arrived, shape (P,); None if the dynamics has none.

    Example:
        >>> import torch
        >>> MatchPoint(start=torch.zeros(3)).target is None  # as a dynamics without targets gives it
        True
    """

    start: Tensor
    target: Tensor | None = None


@dataclass(frozen=True)
class Rehearsal:
    """What a plan measures in place of :meth:`Dynamics.prepare`.

    Attributes:
        dynamics: Offers match points that cost as much as those of the run.
        seconds: What preparing takes beside the pieces.
        pieces: How many equal pieces of work preparing has.
        piece: Does the piece of this number, counted from 0.
        groups: Of networks, which several processes can train side by side.

    Example:
        >>> from pdd_lightning.dynamics import StartStates
        >>> Rehearsal(StartStates(), seconds=0.5, pieces=100, piece=print).piece(0)  # of 100, for the plan to time
        0
    """

    dynamics: "Dynamics"
    seconds: float
    pieces: int = 0
    piece: Callable[[int], object] = lambda number: None
    groups: int = 1


@dataclass(frozen=True)
class Preparation:
    """What :meth:`Dynamics.prepare` takes, for whoever asks before it is done.

    Attributes:
        rehearse: Does a part of it, and says how much there is.
        stored: Bytes that it leaves in the experts' folder, where other runs of the same settings find them.
        found: How many of them are there already.
        passing: Bytes that renewals take in the stage's folder until the stage is complete.

    Example:
        >>> from pdd_lightning.dynamics import StartStates
        >>> preparation = Preparation(lambda: Rehearsal(StartStates(), seconds=0.5), stored=1000, found=400)
        >>> preparation.stored - preparation.found  # bytes that are left to write
        600
    """

    rehearse: Callable[[], Rehearsal]
    stored: int = 0
    found: int = 0
    passing: int = 0


class Dynamics(Described, ABC):
    """Offers a match point for every step. Subclass it and name your class by ``class_path``.

    Example:
        >>> class FirstState(Dynamics):
        ...     members = 1
        ...
        ...     def prepare(self, context):
        ...         self.context = context
        ...
        ...     def point(self, step, index):
        ...         return MatchPoint(self.context.network.layout.flatten(self.context.bank[0]))
        >>> FirstState().describe()["class_path"].rpartition(".")[2], FirstState.has_target
        ('FirstState', False)
    """

    has_target: ClassVar[bool] = False
    """Whether its match points have a target."""

    members_option: str | None = None
    """The option that says how many start states it needs; None if no option alone does. Plans suggest smaller ones."""

    renews_bank: ClassVar[bool] = False
    """Whether its renewals are other start states, which cost what carrying them through the earlier stages takes."""

    @property
    @abstractmethod
    def members(self) -> int:
        """How many start states it needs."""

    @abstractmethod
    def prepare(self, context: StageContext) -> None:
        """Do what must be done before the first of the context's steps; called again when a stage is resumed."""

    def renew(self, step: int) -> None:
        """Make anew what a step is to be matched with, where the steps before it were matched with something else.

        Called on all ranks before every step. Signals are noted meanwhile and not raised.

        Args:
            step: The step that comes, from 0.

        Raises:
            Interrupted: On every rank, if a signal asked any of them to stop before everything was made. What was made
                is found again when the stage is resumed.
        """

    def renewals(self, steps: int) -> int:
        """How often :meth:`renew` makes something within so many steps of a stage, for a plan."""
        return 0

    @abstractmethod
    def point(self, step: int, index: int) -> MatchPoint:
        """The match point of a step.

        Args:
            step: Optimiser step of the stage, from 0.
            index: Which of the step's match points, from 0.
        """

    def advance(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Move on after an optimiser step; for dynamics whose network is itself in training.

        Args:
            step: The step that was just made, from 0.
            synthetic: U_{k-1} ∪ S_k as it is now, detached.
            rate: Learning rate alpha_k as it is now.
        """

    def preparation(self, context: StageContext) -> Preparation:
        """What :meth:`prepare` takes: nothing is done before the answer is asked to rehearse.

        This one rehearses in full and stores nothing, which suits dynamics that have little to prepare.

        Args:
            context: Of a stage that is planned. Its images and start states have the right sizes, not the right values.
        """

        def rehearse() -> Rehearsal:
            began = time.perf_counter()
            self.prepare(context)
            return Rehearsal(self, time.perf_counter() - began)

        return Preparation(rehearse)

    def state_dict(self) -> State:
        """What must be in a checkpoint to continue bit for bit: named tensors."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Continue from what :meth:`state_dict` gave; called after :meth:`prepare`."""
