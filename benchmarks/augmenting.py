"""What the augmentation is of a training step: ours augments minibatches, the reference trains on them too.

python benchmarks/augmenting.py --json
"""

import torch
from harness import Settings, Work, compare, count, parser

from pdd_lightning.networks import ConvNet
from pdd_lightning.rng import generator
from pdd_lightning.training import DSA, Recipe
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import minibatch
from pdd_lightning.types import LabelledImages


def _problem(settings: Settings) -> tuple[Problem, LabelledImages, Recipe]:
    shape = (settings["channels"], settings["size"], settings["size"])
    images = torch.randn(settings["images"], *shape, generator=generator(0, "benchmark"))
    data = LabelledImages(images, torch.arange(len(images)) % 10)
    return Problem(ConvNet(width=settings["width"]), shape, 10, DSA()), data, Recipe(epochs=settings["steps"])


def ours(settings: Settings) -> Work:
    """Parameters are drawn for every minibatch, and images moved."""
    problem, data, recipe = _problem(settings)
    batches = recipe.batches(len(data), 0, "benchmark")

    def work() -> None:
        for step in range(settings["steps"]):
            minibatch(data, batches, step, recipe, problem.augmentation, generator(0, "benchmark", step))

    return work


def reference(settings: Settings) -> Work:
    """A step of plain training, of which that is a part."""
    problem, data, recipe = _problem(settings)
    learner = Learner(problem.network())

    def work() -> None:
        learner.load(problem.initial_state("benchmark"))
        learner.train(data, 0.01, recipe, problem.augmentation, 0, "benchmark")

    return work


if __name__ == "__main__":
    options = parser(__doc__ or "")
    options.add_argument("--images", type=count, default=30, help="Of a minibatch.")
    options.add_argument("--steps", type=count, default=200)
    options.add_argument("--channels", type=count, default=1)
    options.add_argument("--size", type=count, default=8, help="Height and width of the images.")
    options.add_argument("--width", type=count, default=32, help="Channels of the ConvNet.")
    compare(__file__, options)
