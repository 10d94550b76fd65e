"""The network is trained on the synthetic set that is being learned.

Source: Zhao et al., "Dataset Condensation with Gradient Matching", ICLR 2021, algorithm 1.
"""

from pdd_lightning.dynamics.evolving import EvolvingNetwork
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages


class SyntheticTraining(EvolvingNetwork):
    """Match along training on the union of all subsets, as it is at the time.

    Args:
        start_states: Size of the bank.
        episode: Optimiser steps per network, the paper's outer loop T (published: 1, 10 and 50 for 1, 10 and 50 images
            per class).
        epochs: Passes over the union after every optimiser step, the paper's inner loop (published: 1, 50 and 10).
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
        >>> dynamics = SyntheticTraining(episode=10, epochs=50)
        >>> dynamics.place(25)  # the sixth step of the third network
        (2, 5)
    """

    def __init__(
        self,
        start_states: int = 20,
        episode: int = 10,
        epochs: int = 50,
        batch_size: int = 256,
        learning_rate: float = 0.01,
        momentum: float = 0.5,
        weight_decay: float = 5e-4,
        renew_every: int | None = None,
    ) -> None:
        super().__init__(start_states, episode, learning_rate, renew_every)
        self.epochs, self.batch_size, self.momentum, self.weight_decay = epochs, batch_size, momentum, weight_decay
        self.recipe = Recipe(
            epochs=epochs, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay, decay_at=()
        )

    def train(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """Some epochs of the union."""
        context = self.context
        episode, inner = self.place(step)
        steps = self.recipe.steps(len(synthetic))
        self.learner.train_steps(
            synthetic,
            range(inner * steps, (inner + 1) * steps),
            self.learning_rate,
            self.recipe,
            context.augmentation,
            context.seed,
            *context.keys("synthetic training", episode),
        )
