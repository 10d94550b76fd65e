"""The bank of start states: the many networks from which a stage's training dynamics begin."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import read_tensors, write_tensors
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import State


class StateBank:
    """Model states of one architecture, stacked by name (PDD section 4.1: theta^(k) is never a single network).

    Args:
        stacked: Parameters and buffers by name, each of shape (M, ...) for M members.
        identity: Fingerprint of how the states were made.

    Example:
        >>> from pdd_lightning.networks import ConvNet
        >>> bank = StateBank.random(Problem(ConvNet(width=4), (1, 8, 8), num_classes=2), members=3)
        >>> len(bank), bank[0]["head.weight"].shape
        (3, torch.Size([2, 16]))
    """

    def __init__(self, stacked: Mapping[str, Tensor], identity: str) -> None:
        self._stacked = dict(stacked)
        self.identity = identity

    @classmethod
    def random(cls, problem: Problem, members: int) -> Self:
        """theta^(0): fresh networks, each with a seed of its own."""
        return cls.stack([problem.initial_state("bank", m) for m in range(members)], cls.random_identity(problem))

    @staticmethod
    def random_identity(problem: Problem) -> str:
        """Of fresh networks, however many: a member is the same in a small bank and in a large one."""
        shape = list(problem.image_shape)
        return fingerprint(["random", problem.architecture.describe(), shape, problem.num_classes, problem.seed])

    @classmethod
    def repeated(cls, state: State, members: int, identity: str) -> Self:
        """One state in the place of many, which takes the memory of one: for a plan."""
        return cls({name: tensor[None].expand(members, *tensor.shape) for name, tensor in state.items()}, identity)

    @classmethod
    def stack(cls, states: Sequence[State], identity: str) -> Self:
        """Collect states by name."""
        return cls({name: torch.stack([state[name] for state in states]) for name in states[0]}, identity)

    @classmethod
    def read(cls, path: Path, like: Mapping[str, Tensor]) -> Self:
        """Read a bank that a stage left behind.

        Args:
            path: File written by :meth:`write`.
            like: A state of the present network; names and shapes must agree.

        Raises:
            ArtifactError: If the file is damaged or belongs to another network.
        """
        tensors, metadata = read_tensors(path)
        wanted = {name: tuple(tensor.shape) for name, tensor in like.items()}
        found = {name: tuple(tensor.shape[1:]) for name, tensor in tensors.items()}
        if found != wanted:
            differing = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
            raise ArtifactError(
                f"{path} holds states of another network: {', '.join(differing)} differ in shape or existence; use "
                "the network that made them, or another --run_dir"
            )
        return cls(tensors, metadata.get("identity", ""))

    def write(self, path: Path) -> None:
        """Write all members as one file, atomically."""
        write_tensors(path, self._stacked, {"identity": self.identity})

    def __len__(self) -> int:
        return len(next(iter(self._stacked.values())))

    def __getitem__(self, member: int) -> State:
        """A member's state, as a copy."""
        if not 0 <= member < len(self):
            raise IndexError(f"the bank has {len(self)} members, asked for {member}")
        return {name: tensor[member].clone() for name, tensor in self._stacked.items()}
