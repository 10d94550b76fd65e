"""What is trained and scored in an evaluation: the run's unions, and the baselines beside them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final, Self

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.described import Described
from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.module import Phase
from pdd_lightning.evaluation.row import Baseline, Order
from pdd_lightning.networks import Architecture
from pdd_lightning.selection import Forgetting, Herding, KCenter
from pdd_lightning.selection.random import random_images
from pdd_lightning.stage.subsets import Subset, union_of
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import ONE_STAGES, Json, LabelledImages

Noting = Callable[[str], AbstractContextManager[None]]
"""What is being trained -> a block that notes how long that took."""

SELECTION: Final = "selection"
"""What choosing real images is called where evaluations note what they take."""


SELECTIONS: Final[Mapping[str, type[Herding | KCenter | Forgetting]]] = {
    method.name: method for method in (Herding, KCenter, Forgetting)
}
"""Baselines that choose real images by what a network trained on the real data says of them."""


@dataclass(frozen=True)
class Evaluation(Described):
    """How a run is scored. The test set is read once for each row of the table and chooses nothing.

    Args:
        seeds: Fresh networks for every row; each has its own initialisation, minibatches and augmentation.
        networks: Networks to train; null means the one that the images were distilled with.
        orders: How the subsets are shown: progressively (U_1, then U_2, ...), their union at once, or one after
            the other (PDD section 5.4).
        baselines: What to compare with. At the same total images per class, and at as many optimiser steps as whole
            epochs allow: a random subset of the real images; real images selected by herding, k-center or forgetting
            events, from a network trained as `full` and `full_rate` say; distillation in one stage, which `pdd-cli run`
            makes beside the run: one-stage with as many iterations as all stages together, one-stage-short with as many
            as the longest of them, which is the published comparison. By a recipe of its own: the full data.
        recipe: How networks train on the distilled sets; null means as in the transition.
        recipes: Further recipes to choose from. Every distilled set, the baselines of one stage too, is then trained on
            by the one of all that is best on held-out training images, with three networks for each. By each of them
            the baselines take as many optimiser steps as the run; where they differ in epochs or in the size of their
            minibatches, every set is at its own best number of steps.
        random_rates: Learning rates tried for sets of real images; for each set, random or selected, the best on the
            held-out training images is used.
        full: How networks train on the full data.
        full_rate: Learning rate on the full data.
        spread: On several devices, give each network to one of them, instead of splitting every minibatch: faster for
            several seeds of a small network. The accuracies are the same.
        fresh: Start over: train everything again, and leave out the rows of earlier evaluations, which otherwise stay
            in the table beside the new ones for as long as their sets are what they were.

    Example:
        >>> evaluation = Evaluation(seeds=3, orders=["progressive", "union"], full_rate=0.05, spread=True)
        >>> evaluation.describe()["seeds"], "spread" in evaluation.describe()
        (3, False)
    """

    unrecorded = ("spread", "fresh")

    seeds: int = 5
    networks: list[Architecture] | None = None
    orders: list[Order] = field(default_factory=lambda: ["progressive"])
    baselines: list[Baseline] = field(default_factory=lambda: ["random", "full"])
    recipe: Recipe | None = None
    recipes: list[Recipe] = field(default_factory=list)
    random_rates: list[float] = field(default_factory=lambda: [0.01, 0.03, 0.1, 0.3])
    full: Recipe = field(default_factory=lambda: Recipe(epochs=50))
    full_rate: float = 0.01
    spread: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"evaluation.seeds must be at least 1, got {self.seeds}")
        if not self.orders and not self.baselines:
            raise ConfigError("evaluation.orders and evaluation.baselines are both empty: name what to score")
        chosen: dict[str, Sequence[str]] = {"orders": self.orders, "baselines": self.baselines}
        for name, words in chosen.items():
            if len(set(words)) < len(words):
                raise ConfigError(f"evaluation.{name}={list(words)}: name each once")
        for name, rates in {"random_rates": self.random_rates, "full_rate": [self.full_rate]}.items():
            if not rates or not all(0 < rate < float("inf") for rate in rates):
                raise ConfigError(f"evaluation.{name} must be positive, got {rates}")

    @property
    def one_stages(self) -> list[str]:
        """The baselines of one stage among those that are asked for, in the order in which they are distilled."""
        return [name for name in ONE_STAGES if name in self.baselines]


Images = Callable[[int], LabelledImages]
"""Number of a network -> what it trains on. Asked for when the training begins, for choosing images may take long."""

TRIALS: Final = 3
"""Networks that try each candidate rate."""


@dataclass(frozen=True)
class Training:
    """One part of a job, after which its networks are scored.

    Attributes:
        images: What each network trains on.
        examples: How many images that are.
        rates: Initial learning rate of each network.
        recipe: How they train.

    Example:
        >>> import torch
        >>> images = LabelledImages(torch.zeros(10, 1, 8, 8), torch.arange(10))
        >>> Training(lambda member: images, examples=10, rates=[0.1] * 5, recipe=Recipe(epochs=30, batch_size=5)).steps
        60
    """

    images: Images
    examples: int
    rates: Sequence[float]
    recipe: Recipe

    @property
    def steps(self) -> int:
        """Optimiser steps of each network."""
        return self.recipe.steps(self.examples)


@dataclass(frozen=True)
class Job:
    """One training of `seeds` networks, and the rows it yields.

    Attributes:
        name: Of the set.
        order: How its parts are shown.
        network: What is trained.
        trainings: What to train on, in order.
        stages: Number of the stage that each training reaches; None for a set without stages.
        images_per_class: After each training; None for the full data.
        stored_bytes: Of the set after each training; None for the full data.
        members: Number of each network; see :class:`EvaluationModule`.
        candidates: Learning rates of which the best on held-out images is to be used; none where it is known.
        trial_images: What networks that try a rate train on; None stands for those of the job itself.
        alternatives: The same by other recipes, of which the best on held-out images is to stand in its place.

    Example:
        >>> import torch
        >>> from pdd_lightning.networks import ConvNet
        >>> subset = Subset(LabelledImages(torch.zeros(10, 1, 8, 8), torch.arange(10)), rate=0.1, stage=1)
        >>> job = distilled_job("mine", "union", ConvNet(), [subset], Recipe(epochs=30), seeds=5)
        >>> job.label, job.trainings[0].steps, len(job.members)
        ('mine union, ConvNet', 30, 5)
    """

    name: str
    order: Order
    network: Architecture
    trainings: Sequence[Training]
    stages: Sequence[int | None]
    images_per_class: Sequence[float | None]
    stored_bytes: Sequence[int | None]
    members: Sequence[int]
    candidates: Sequence[float] = ()
    trial_images: Images | None = None
    alternatives: Sequence[Self] = ()

    @property
    def label(self) -> str:
        """Tells it from the other jobs of an evaluation, for people."""
        return f"{self.name} {self.order}, {self.network.name}"

    def phases(self) -> list[Phase]:
        """The trainings with their images."""
        return [Phase([part.images(m) for m in self.members], part.rates, part.recipe) for part in self.trainings]

    def trials(self) -> list[Self]:
        """The trainings of networks that try the candidate rates, or each recipe; none where there is no choice."""
        if self.alternatives:
            few, jobs = list(range(TRIALS)), [self, *self.alternatives]
            return [
                replace(
                    self,
                    name=f"{self.name}-recipe-{number}",
                    trainings=[replace(part, rates=[part.rates[0]] * TRIALS) for part in job.trainings],
                    members=few,
                    alternatives=(),
                )
                for number, job in enumerate(jobs, start=1)
            ]
        if len(self.candidates) < 2:
            return []
        # Every rate is tried on the same subsets and initialisations, which differ more than close rates do.
        rates = [rate for rate in self.candidates for _ in range(TRIALS)]
        images = self.trial_images
        trainings = [replace(part, images=images or part.images, rates=rates) for part in self.trainings]
        members = list(range(TRIALS)) * len(self.candidates)
        return [replace(self, name=f"{self.name}-tuning", trainings=trainings, members=members, candidates=())]

    def at(self, rate: float) -> Self:
        """The job with one learning rate for all its networks."""
        trainings = [replace(part, rates=[rate] * len(self.members)) for part in self.trainings]
        return replace(self, trainings=trainings, candidates=())

    def describe(self) -> Json:
        """What the rows depend on, apart from the images."""
        return {
            "name": self.name,
            "order": self.order,
            "network": self.network.describe(),
            "members": list(self.members),
            "phases": [
                {"rates": list(part.rates), "recipe": part.recipe.describe(), "examples": part.examples}
                for part in self.trainings
            ],
        }


def distilled_job(
    name: str,
    order: Order,
    network: Architecture,
    subsets: Sequence[Subset],
    recipe: Recipe,
    seeds: int,
    baseline: bool = False,
) -> Job:
    """Train on the subsets of a run.

    Args:
        name: Of the set.
        order: Progressive trains on U_1, U_2, ... at alpha_1, alpha_2, ...; sequential on S_1, S_2, ...; union on
            U_P at alpha_P, for as many steps as the progressive order takes.
        network: What is trained.
        subsets: S_1 ... S_P.
        recipe: Of each training.
        seeds: Number of networks.
        baseline: Whether the subsets are not the stages of the run.
    """
    unions = [_union(subsets[: k + 1]) for k in range(len(subsets))]
    shown = {"progressive": unions, "sequential": [s.decoded for s in subsets], "union": unions[-1:]}[order]
    rates = [s.rate for s in subsets][-len(shown) :]
    recipes = [recipe] * len(shown)
    if order == "union":
        recipes = [with_steps(recipe, len(unions[-1]), sum(recipe.steps(len(u)) for u in unions))]
    classes = int(subsets[0].data.labels.max()) + 1
    stored = [[s.data for s in subsets[: k + 1]] for k in range(len(subsets))][-len(shown) :]
    return Job(
        name,
        order,
        network,
        [
            Training(_same(data), len(data), [rate] * seeds, used)
            for data, rate, used in zip(shown, rates, recipes, strict=True)
        ],
        [None if baseline else s.stage for s in subsets][-len(shown) :],
        [sum(len(data) for data in held) / classes for held in stored],
        [sum(data.images.nbytes + data.labels.nbytes for data in held) for held in stored],
        range(seeds),
    )


def real_job(
    name: str,
    network: Architecture,
    data: ImageDataModule,
    ipc: int,
    images: Images,
    recipe: Recipe,
    evaluation: Evaluation,
    trial_images: Images | None = None,
) -> Job:
    """Train on a subset of the real images, at the best of the candidate rates.

    Args:
        name: Of the subset.
        network: What is trained.
        data: Which it is a subset of.
        ipc: Images per class.
        images: The subset.
        recipe: Of the one training.
        evaluation: Names seeds and candidate rates.
        trial_images: See :class:`Job`.
    """
    examples, seeds, rates = ipc * data.num_classes, evaluation.seeds, evaluation.random_rates
    size = examples * (data.train.images[0].nbytes + data.train.labels[0].nbytes)
    training = Training(images, examples, [rates[0]] * seeds, recipe)
    return Job(name, "union", network, [training], [None], [ipc], [size], range(seeds), rates, trial_images)


def random_job(
    network: Architecture, data: ImageDataModule, ipc: int, recipe: Recipe, evaluation: Evaluation, seed: int
) -> Job:
    """Train on random real images, a subset of its own for every network.

    Args:
        network: What is trained.
        data: Where to draw from.
        ipc: Images per class.
        recipe: Of the one training.
        evaluation: Names seeds and candidate rates.
        seed: Decides the subsets.
    """

    def drawn(purpose: str) -> Images:
        return cache(lambda m: LabelledImages(*random_images(data.train, data.class_names, ipc, seed, purpose, m)))

    return real_job("random", network, data, ipc, drawn("random"), recipe, evaluation, drawn("tune"))


def full_job(network: Architecture, data: ImageDataModule, evaluation: Evaluation) -> Job:
    """Train on all training images that are not held out."""
    seeds = evaluation.seeds
    training = Training(_same(data.train), len(data.train), [evaluation.full_rate] * seeds, evaluation.full)
    return Job("full", "union", network, [training], [None], [None], [None], range(seeds))


def with_steps(recipe: Recipe, examples: int, steps: int) -> Recipe:
    """The recipe with as many epochs of a set as come closest to a number of optimiser steps."""
    per_epoch = recipe.batches(examples, 0).per_epoch
    return replace(recipe, epochs=max(1, round(steps / per_epoch)))


def progressive_steps(subsets: Sequence[Subset], recipe: Recipe) -> int:
    """Optimiser steps of progressive training on U_1 ... U_P."""
    return sum(recipe.steps(len(_union(subsets[: k + 1]))) for k in range(len(subsets)))


def _same(data: LabelledImages) -> Images:
    return lambda member: data


def _union(subsets: Sequence[Subset]) -> LabelledImages:
    union = union_of(subsets)
    assert union is not None
    return union
