"""What a stage offers to its dynamics, objective and transition."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from pdd_lightning.compute.compiling import pays_to_compile, training_operations
from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import Key, generator
from pdd_lightning.training.augmentation import Augmentation
from pdd_lightning.training.gradients import Recordings
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import ImageShape, LabelledImages, sent, stage_title


@dataclass(frozen=True)
class Ranks:
    """This process among those that share the work.

    Attributes:
        rank: Position, from 0.
        world: Number of processes.
        barrier: Waits until every process has come.

    Example:
        >>> list(Ranks(rank=1, world=2).share(5))
        [1, 3]
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
        problem: Networks, images, augmentation, seed and device.
        stage: Number of the stage, from 1.
        bank: Start states theta^(k-1).
        real: The real training images of this stage, on the device.
        validation: Held-out training images, on the device.
        data: Fingerprint of the data.
        experts: Folder of the expert trajectories.
        ranks: Who else is at work.
        networks_at_once: How many networks are trained on real data, or on the union, side by side on a GPU.
        workers: Processes that train such networks side by side on a CPU.
        compile_networks: Let PyTorch compile their steps; None leaves it to what pays on a CPU.
        recordings: What a GPU has recorded of them, and what was compiled.
        baseline: Which of the run's baselines of one stage it is; None for a stage of the run.
        steps: Numbers of the optimiser steps that are to be made: the first is not 0 where a stage is resumed.
        renewals: Folder of what a dynamics renews within the steps, and nobody needs after them.
        renewed_bank: Gives the start states of a renewal, counted from 1: other networks, that went through the earlier
            stages as those of the bank did. On every rank at once.

    Example:
        >>> from pdd_lightning.networks import ConvNet
        >>> problem = Problem(ConvNet(width=4), (1, 8, 8), num_classes=2)
        >>> images = LabelledImages(torch.zeros(6, 1, 8, 8), torch.arange(6) % 2)
        >>> context = StageContext(problem, 1, StateBank.random(problem, 3), images, images, "", Path("experts"))

        >>> len(context.bank), context.real_images(0, 2, "example").shape
        (3, torch.Size([2, 1, 8, 8]))
    """

    problem: Problem
    stage: int
    bank: StateBank
    real: LabelledImages
    validation: LabelledImages
    data: str
    experts: Path
    ranks: Ranks = Ranks()
    networks_at_once: int = 1
    workers: int = 1
    compile_networks: bool | None = False
    recordings: Recordings = field(default_factory=dict)
    baseline: str | None = None
    steps: range = range(1)
    renewals: Path | None = None
    renewed_bank: Callable[[int], StateBank] | None = None

    @cached_property
    def network(self) -> FunctionalNetwork:
        """The network as a function of its parameters."""
        return self.problem.functional()

    @property
    def title(self) -> str:
        """The stage, for people."""
        return stage_title(self.stage, baseline=self.baseline)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.problem.seed

    @property
    def image_shape(self) -> ImageShape:
        """Channels, height, width."""
        return self.problem.image_shape

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.problem.num_classes

    @property
    def augmentation(self) -> Augmentation:
        """The method's augmentation."""
        return self.problem.augmentation

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self.problem.device

    def learners(self, count: int, recipe: Recipe | None = None, examples: int = 0, networks: int = 0) -> list[Learner]:
        """Networks to train; what they begin with is to be loaded.

        Args:
            count: How many.
            recipe: How they are to be trained; None if a few steps are all.
            examples: Training images of each.
            networks: How many are trained in all, for few steps are not worth compiling.
        """
        compiled = recipe is not None and self._compiles(recipe, examples, networks)
        return [Learner(self.problem.network(), self.device, compiled, self.recordings) for _ in range(count)]

    def compile(self, recipe: Recipe, examples: int, networks: int) -> None:
        """Compile on a CPU what :meth:`learners` need, before processes begin that would each do so."""
        if self.device.type == "cpu" and self._compiles(recipe, examples, networks):
            self.learners(1, recipe, examples, networks)[0].compile(recipe, examples, self.image_shape)

    def _compiles(self, recipe: Recipe, examples: int, networks: int) -> bool:
        images, steps = networks * recipe.epochs * examples, networks * recipe.steps(examples)
        operations = training_operations(self.problem.network(), self.image_shape, images)
        return pays_to_compile(self.compile_networks, self.device, steps, operations)

    @cached_property
    def positions(self) -> tuple[Tensor, ...]:
        """Where the real images of each class are: one tensor of positions, on the CPU, for each class."""
        return self.real.by_class(self.num_classes)

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
            raise ConfigError(f"data: {self.title} has no real image of class {label} to compare with")
        draw = generator(self.seed, *self.keys("real", *keys, label))
        chosen = torch.randperm(len(positions), generator=draw)[:count]
        return self.real.images[sent(positions[chosen], self.device)]

    def keys(self, *keys: Key) -> tuple[Key, ...]:
        """Keys of a stream of random numbers that belongs to this stage."""
        return ("stage", self.stage, *keys)
