"""The network is trained on the synthetic set for as long as what it learns changes.

Source: Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features", CVPR 2022, section 3: dynamic bi-level
optimisation.
"""

import torch
from torch import Tensor

from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.dynamics.evolving import EvolvingNetwork
from pdd_lightning.errors import ConfigError
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages, State


class DynamicTraining(EvolvingNetwork):
    """Match along training on the union, with loops whose lengths follow the accuracy on real images.

    After every optimiser step, and after every epoch of network training, the network is scored on a query set of real
    images. An episode ends when the scores of its last `watch` steps lie within `outer_threshold` of each other: the
    images have no more to gain from this network. Between two steps the network is trained until the scores of the last
    `watch` epochs lie farther apart than `inner_threshold`: it has moved on. As published, both are checked from the
    `watch`-th score on. The published loops have no other end; here both have a largest length.

    Args:
        start_states: Size of the bank.
        episode: Optimiser steps per network at most.
        epochs: Passes over the union between two optimiser steps at most. Scores of few correct answers vary less than
            `inner_threshold`, and then nothing else ends the training.
        watch: Scores that are compared (published: 10).
        outer_threshold: Fraction of the query set, the paper's lambda_1.
        inner_threshold: Fraction of the query set, the paper's lambda_2.
        query_images: Real images of the query set, as many of each class and at least one, drawn anew for every score.
            Published are 128 of each of ten classes: scores differ by `inner_threshold` mostly because their images do,
            and ten times as many images would let the network train without an end.
        batch_size: Synthetic images per network step.
        learning_rate: Of the network.
        momentum: Of the network.
        weight_decay: Of the network.
        renew_every: Optimiser steps of a stage after which other start states take the place of these: fresh networks
            that are trained on the earlier unions as a transition does, so that images cannot come to suit a few.
            Each time that costs what the transitions of all earlier stages cost. Null keeps the bank, which in either
            case is what the next stage begins with, once it went through the transition.

    Raises:
        ConfigError: If an option is out of range.

    Example:
        >>> DynamicTraining(watch=10, query_images=64).members
        20
        >>> DynamicTraining(outer_threshold=4)
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.ConfigError: dynamics.outer_threshold is a difference of accuracies in [0, 1], got 4
    """

    def __init__(
        self,
        start_states: int = 20,
        episode: int = 100,
        epochs: int = 100,
        watch: int = 10,
        outer_threshold: float = 0.04,
        inner_threshold: float = 0.03,
        query_images: int = 1280,
        batch_size: int = 256,
        learning_rate: float = 0.01,
        momentum: float = 0.5,
        weight_decay: float = 5e-4,
        renew_every: int | None = None,
    ) -> None:
        super().__init__(start_states, episode, learning_rate, renew_every)
        for name, count, least in (("watch", watch, 2), ("query_images", query_images, 1)):
            if count < least:
                raise ConfigError(f"dynamics.{name} must be at least {least}, got {count}")
        for name, value in {"outer_threshold": outer_threshold, "inner_threshold": inner_threshold}.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"dynamics.{name} is a difference of accuracies in [0, 1], got {value}")
        self.recipe = Recipe(
            epochs=epochs, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay, decay_at=()
        )
        self.epochs, self.batch_size, self.momentum, self.weight_decay = epochs, batch_size, momentum, weight_decay
        self.watch, self.query_images = watch, query_images
        self.outer_threshold, self.inner_threshold = outer_threshold, inner_threshold
        self._episode = self._inner = self._trained = 0
        self._scores: list[float] = []

    def prepare(self, context: StageContext) -> None:
        """See :meth:`Dynamics.prepare`."""
        super().prepare(context)
        self._begin(0)

    def place(self, step: int) -> tuple[int, int]:
        """See :meth:`EvolvingNetwork.place`: steps must come in order, for episodes have no fixed length."""
        return self._episode, self._inner

    def ends(self, step: int) -> bool:
        """Score the network; whether the last scores say that its episode is over."""
        self._scores = [*self._scores, self._score("step", step)][-self.watch :]
        over = len(self._scores) == self.watch and _spread(self._scores) < self.outer_threshold
        if over or self._inner + 1 == self.episode:
            self._begin(self._episode + 1)
            return True
        self._inner += 1
        return False

    def train(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Epochs of the union until the scores differ enough."""
        scores: list[float] = []
        per_epoch = self.recipe.batches(len(synthetic), 0).per_epoch
        for epoch in range(self.recipe.epochs):
            self.learner.train_steps(
                synthetic,
                range(self._trained, self._trained + per_epoch),
                self.learning_rate,
                self.recipe,
                self.context.augmentation,
                self.context.seed,
                *self.context.keys("dynamic training", self._episode),
            )
            self._trained += per_epoch
            scores = [*scores, self._score("epoch", step, epoch)][-self.watch :]
            if len(scores) == self.watch and _spread(scores) > self.inner_threshold:
                return

    def _begin(self, episode: int) -> None:
        self._episode, self._inner, self._trained, self._scores = episode, 0, 0, []

    def _score(self, *keys: int | str) -> float:
        """Accuracy on fresh real images, as many of each class."""
        classes = self.context.num_classes
        each = max(1, round(self.query_images / classes))
        images = [self.context.real_images(label, each, "query", *keys) for label in range(classes)]
        counts = torch.tensor([len(part) for part in images])
        answers = torch.repeat_interleave(torch.arange(len(counts)), counts).to(self.context.device)
        return self.learner.accuracy(LabelledImages(torch.cat(images), answers))

    def state_dict(self) -> State:
        """The network, its momentum and the place in its episode."""
        place = torch.tensor([self._episode, self._inner, self._trained])
        scores: Tensor = torch.tensor(self._scores, dtype=torch.float64)
        return {**super().state_dict(), "place": place, "scores": scores}

    def load_state_dict(self, state: State) -> None:
        """See :meth:`Dynamics.load_state_dict`."""
        super().load_state_dict(state)
        self._episode, self._inner, self._trained = (int(number) for number in state["place"])
        self._scores = [float(score) for score in state["scores"]]


def _spread(scores: list[float]) -> float:
    return max(scores) - min(scores)
