"""The network is trained on real data.

Source: Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022, section 4.3:
gradients vanish along training on a small synthetic set, which a network soon memorises; on real data they do not.
"""

import math

from pdd_lightning.dynamics.evolving import EvolvingNetwork
from pdd_lightning.errors import ConfigError
from pdd_lightning.training.augmentation import Augmentation
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages


class RealTraining(EvolvingNetwork):
    """Match along training on real data.

    Args:
        start_states: Size of the bank.
        episode: Optimiser steps per network, the inner loop (published: 100).
        examples: Real examples of network training after every optimiser step, rounded up to whole minibatches
            (published for CIFAR: 2000, alone and inside PDD; IDC's code takes 500 of other data).
        batch_size: Real images per network step.
        learning_rate: Of the network.
        momentum: Of the network.
        weight_decay: Of the network.
        augmentation: Of the real images in network training; null means the method's.
        cutmix: Probability of CutMix for each of its minibatches (published: 0.5).
        renew_every: Optimiser steps of a stage after which other start states take the place of these: fresh networks
            that are trained on the earlier unions as a transition does, so that images cannot come to suit a few.
            Each time that costs what the transitions of all earlier stages cost. Null keeps the bank, which in either
            case is what the next stage begins with, once it went through the transition.

    Raises:
        ConfigError: If an option is out of range.

    Example:
        >>> dynamics = RealTraining(episode=100, examples=500, cutmix=0.5)
        >>> dynamics.ends(98), dynamics.ends(99)  # after 100 steps another network begins
        (False, True)
    """

    def __init__(
        self,
        start_states: int = 20,
        episode: int = 100,
        examples: int = 2000,
        batch_size: int = 64,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        augmentation: Augmentation | None = None,
        cutmix: float = 0.0,
        renew_every: int | None = None,
    ) -> None:
        super().__init__(start_states, episode, learning_rate, renew_every)
        if examples < 1:
            raise ConfigError(f"dynamics.examples must be at least 1, got {examples}")
        self.examples, self.augmentation, self.cutmix = examples, augmentation, cutmix
        self.batch_size, self.momentum, self.weight_decay = batch_size, momentum, weight_decay
        self.recipe = Recipe(
            epochs=1, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay, decay_at=(), cutmix=cutmix
        )

    def train(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Some minibatches of the real data, going on where the last step ended."""
        context = self.context
        episode, inner = self.place(step)
        # A small data set is one minibatch, whatever the batch size.
        steps = math.ceil(self.examples / min(self.recipe.batch_size, len(context.real)))
        self.learner.train_steps(
            context.real,
            range(inner * steps, (inner + 1) * steps),
            self.learning_rate,
            self.recipe,
            context.augmentation if self.augmentation is None else self.augmentation,
            context.seed,
            *context.keys("real training", episode),
        )
