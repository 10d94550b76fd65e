"""Dynamics: at which model states the synthetic and the real training are compared."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from pdd_lightning.augment import Augmentation
from pdd_lightning.devices import sent
from pdd_lightning.errors import ConfigError
from pdd_lightning.functional import FunctionalNetwork
from pdd_lightning.learning import Learner
from pdd_lightning.loss_gradients import Recordings, pays_to_compile
from pdd_lightning.rng import Key, generator
from pdd_lightning.states import StateBank
from pdd_lightning.store import Json
from pdd_lightning.types import ImageShape, LabelledImages, State


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the work.

    Attributes:
        rank: Position, from 0.
        world: Number of processes.
        barrier: Waits until every process has come.
    """

    rank: int = 0
    world: int = 1
    barrier: Callable[[], object] = lambda: None

    def share(self, items: int) -> range:
        """The positions of a fixed list of work that fall to this process."""
        return range(self.rank, items, self.world)


@dataclass(frozen=True)
class StageContext:
    """What a stage offers to its dynamics, objective and transition.

    Attributes:
        seed: The run's seed.
        stage: Number of the stage, from 1.
        network: The network as a function of its parameters.
        make_network: Makes a network to train; its values do not matter.
        network_settings: Description of the architecture.
        image_shape: Channels, height, width.
        num_classes: Number of classes.
        bank: Start states theta^(k-1).
        real: The real training images of this stage, on the device.
        validation: Held-out training images, on the device.
        data: Fingerprint of the data.
        augmentation: The method's augmentation.
        experts: Folder of the expert trajectories.
        device: Where to compute.
        ranks: Who else is at work.
        networks_at_once: How many networks are trained on real data, or on the union, at once.
        compile_networks: Let PyTorch compile their steps on a GPU.
        recordings: What a GPU has recorded of them.
    """

    seed: int
    stage: int
    network: FunctionalNetwork
    make_network: Callable[[], nn.Module]
    network_settings: Json
    image_shape: ImageShape
    num_classes: int
    bank: StateBank
    real: LabelledImages
    validation: LabelledImages
    data: str
    augmentation: Augmentation
    experts: Path
    device: torch.device
    ranks: Ranks
    networks_at_once: int = 1
    compile_networks: bool = False
    recordings: Recordings = field(default_factory=dict)

    def learners(self, count: int, steps: int) -> list[Learner]:
        """Networks to train; what they begin with is to be loaded.

        Args:
            count: How many.
            steps: Optimiser steps that are to be made in all: few are not worth compiling.
        """
        compiled = pays_to_compile(self.compile_networks, steps)
        return [Learner(self.make_network(), self.device, compiled, self.recordings) for _ in range(count)]

    @cached_property
    def positions(self) -> tuple[Tensor, ...]:
        """Where the real images of each class are: one tensor of positions, on the CPU, for each class."""
        labels = self.real.labels.cpu()
        return tuple((labels == label).nonzero().flatten() for label in range(self.num_classes))

    def real_images(self, label: int, count: int, *keys: Key) -> Tensor:
        """Random real images of one class, without repetition.

        Args:
            label: The class.
            count: How many at most; a class with fewer gives all that it has.
            keys: What they are for.

        Returns:
            Shape (n, C, H, W), on the device.

        Raises:
            ConfigError: If there is no image of this class.
        """
        positions = self.positions[label]
        if not len(positions):
            raise ConfigError(f"data: stage {self.stage} has no real image of class {label} to compare with")
        draw = generator(self.seed, *self.keys("real", *keys, label))
        chosen = torch.randperm(len(positions), generator=draw)[:count]
        return self.real.images[sent(positions[chosen], self.device)]

    def keys(self, *keys: Key) -> tuple[Key, ...]:
        """Keys of a stream of random numbers that belongs to this stage."""
        return ("stage", self.stage, *keys)


@dataclass(frozen=True)
class MatchPoint:
    """Where the two trainings are compared.

    Attributes:
        start: Parameters at which both begin, shape (P,).
        target: Parameters at which training on real data arrived, shape (P,); None if the dynamics has none.
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
    """

    dynamics: "Dynamics"
    seconds: float
    pieces: int = 0
    piece: Callable[[int], object] = lambda number: None


class Dynamics(ABC):
    """Offers a match point for every step. Subclass it and name your class by ``class_path``."""

    has_target: ClassVar[bool] = False
    """Whether its match points have a target."""

    @property
    @abstractmethod
    def members(self) -> int:
        """How many start states it needs."""

    @abstractmethod
    def prepare(self, context: StageContext) -> None:
        """Do what must be done before the first step; called again when a stage is resumed."""

    @abstractmethod
    def point(self, step: int, index: int) -> MatchPoint:
        """The match point of a step.

        Args:
            step: Optimiser step of the stage, from 0.
            index: Which of the step's match points, from 0.
        """

    def advance(self, step: int, synthetic: LabelledImages, rate: float) -> None:  # noqa: B027 (most have nothing to do)
        """Move on after an optimiser step; for dynamics whose network is itself in training.

        Args:
            step: The step that was just made, from 0.
            synthetic: U_{k-1} ∪ S_k as it is now, detached.
            rate: Learning rate alpha_k as it is now.
        """

    def rehearse(self, context: StageContext) -> Rehearsal:
        """Prepare for a few steps that `pdd-cli plan` measures, and say how much work `prepare` is.

        This one prepares in full, which suits dynamics that have little to prepare; others measure a part.

        Args:
            context: Of a stage in a temporary folder. Its images and start states have the right sizes, not the right
                values.
        """
        began = time.perf_counter()
        self.prepare(context)
        return Rehearsal(self, time.perf_counter() - began)

    def stored_bytes(self, parameters: int) -> int:
        """Bytes that `prepare` leaves in the experts' folder, where other runs of the same settings find them.

        Args:
            parameters: Number of the network's parameters P.
        """
        return 0

    def found_bytes(self, parameters: int, folder: Path, known: Json) -> int:
        """How many of :meth:`stored_bytes` are in the experts' folder already.

        Args:
            parameters: Number of the network's parameters P.
            folder: Of the experts, those of other runs among them.
            known: What `prepare` will store beside what it leaves, as far as it is known before the stage begins:
                "stage", "network", "layout", "seed", "start", "augmentation", and "data" unless some are discarded.
        """
        return 0

    def state_dict(self) -> State:
        """What must be in a checkpoint to continue bit for bit: named tensors."""
        return {}

    def load_state_dict(self, state: State) -> None:  # noqa: B027 (most have no state)
        """Continue from what :meth:`state_dict` gave; called after :meth:`prepare`."""

    @abstractmethod
    def describe(self) -> Json:
        """The class path and every option that the numbers depend on, ready for JSON."""
