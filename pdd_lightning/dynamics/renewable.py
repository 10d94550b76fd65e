"""Dynamics that begin at a start state of the bank, which a stage may draw anew."""

from typing import ClassVar

from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.dynamics.base import Dynamics
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.errors import ConfigError


class RenewableBank(Dynamics):
    """Begins at start states of the bank, or of one that takes its place within a stage.

    Args:
        start_states: Size of the bank.
        renew_every: Optimiser steps of a stage after which other start states take the place of these: fresh networks
            that are trained on the earlier unions as a transition does, so that images cannot come to suit a few.
            Each time that costs what the transitions of all earlier stages cost. Null keeps the bank, which in either
            case is what the next stage begins with, once it went through the transition.

    Raises:
        ConfigError: If an option is not positive.

    Example:
        >>> from pdd_lightning.dynamics import StartStates
        >>> dynamics = StartStates(start_states=5, renew_every=100)
        >>> isinstance(dynamics, RenewableBank), dynamics.renewals(steps=250)
        (True, 2)
    """

    members_option: str | None = "start_states"
    renews_bank: ClassVar[bool] = True

    def __init__(self, start_states: int, renew_every: int | None = None) -> None:
        for name, value in {"start_states": start_states, "renew_every": renew_every}.items():
            if value is not None and value < 1:
                raise ConfigError(f"dynamics.{name} must be at least 1, got {value}")
        self.start_states, self.renew_every = start_states, renew_every
        self._context: StageContext | None = None
        self._bank: StateBank | None = None
        self._renewal = 0

    @property
    def members(self) -> int:
        """Number of start states."""
        return self.start_states

    @property
    def context(self) -> StageContext:
        """What `prepare` was given."""
        assert self._context is not None, "prepare() comes first"
        return self._context

    @property
    def bank(self) -> StateBank:
        """The start states as they are now."""
        assert self._bank is not None, "prepare() comes first"
        return self._bank

    def prepare(self, context: StageContext) -> None:
        """Remember the bank; a stage that is resumed may be past it."""
        self._context, self._bank, self._renewal = context, context.bank, 0
        self.renew(min(context.steps.start, context.steps.stop - 1))  # all of them may have been made

    def renew(self, step: int) -> None:
        """See :meth:`Dynamics.renew`."""
        number = step // self.renew_every if self.renew_every else 0
        if number != self._renewal:
            assert self.context.renewed_bank is not None, "a stage gives other start states"
            self._bank, self._renewal = self.context.renewed_bank(number), number

    def renewals(self, steps: int) -> int:
        """See :meth:`Dynamics.renewals`."""
        return (steps - 1) // self.renew_every if self.renew_every else 0
