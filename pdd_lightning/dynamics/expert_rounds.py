"""Which experts a step is matched with, where a stage renews them."""

from dataclasses import dataclass

from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import Key


@dataclass(frozen=True)
class Expert:
    """One training on real data.

    Neither the size of the bank nor the number of experts is part of it, so runs in which these differ share experts.

    Attributes:
        member: Of the bank, where it begins.
        turn: How many experts began there before it in the same stage.

    Example:
        >>> Expert(3).name, Expert(3, turn=2).name
        ('3', '3.2')
    """

    member: int
    turn: int = 0

    @property
    def name(self) -> str:
        """For people, and in its file."""
        return f"{self.member}.{self.turn}" if self.turn else str(self.member)

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"expert_{self.member:04d}{f'_{self.turn:04d}' if self.turn else ''}.safetensors"

    @property
    def keys(self) -> tuple[Key, ...]:
        """Of its random numbers within the stage."""
        return ("expert", self.member, "turn", self.turn) if self.turn else ("expert", self.member)


@dataclass(frozen=True)
class Rounds:
    """The experts of a stage, a round of them after the other.

    Attributes:
        experts: Of each round.
        start_states: Members of the bank; every round begins with the one after the last of the round before.
        every: Optimiser steps of a round; None for a single round.

    Raises:
        ConfigError: If there are fewer start states than experts, or some at which none would ever begin.

    Example:
        >>> rounds = Rounds(experts=2, start_states=3, every=100)
        >>> [[expert.name for expert in rounds.experts_of(number)] for number in range(3)]
        [['0', '1'], ['2', '0.1'], ['1.1', '2.1']]
        >>> rounds.at(99), rounds.at(100)
        (0, 1)
    """

    experts: int
    start_states: int
    every: int | None

    def __post_init__(self) -> None:
        if self.start_states < self.experts:
            raise ConfigError(
                f"dynamics.start_states={self.start_states} are too few for experts={self.experts}, each of which "
                "begins at another one: raise start_states to as many or more, or lower experts"
            )
        if self.start_states > self.experts and self.every is None:
            raise ConfigError(
                f"dynamics.start_states={self.start_states} are more than experts={self.experts}, and no expert would "
                "begin at the others: set dynamics.renew_every to the steps after which they have their turn, or lower "
                "start_states"
            )

    def at(self, step: int) -> int:
        """Number of the round that a step, counted from 0, is matched with."""
        return step // self.every if self.every else 0

    def experts_of(self, number: int) -> list[Expert]:
        """The experts of a round."""
        first = number * self.experts
        return [Expert(n % self.start_states, n // self.start_states) for n in range(first, first + self.experts)]
