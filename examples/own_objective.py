"""Distil by an objective of your own.

python examples/own_objective.py

The synthetic images of each class get the mean output of the real ones, over the networks of a bank of start states.
"""

import argparse
from pathlib import Path

from torch import Tensor

import pdd_lightning as pdd
from pdd_lightning.dynamics import StageContext, StartStates
from pdd_lightning.objectives import Objective, SyntheticSide, Work


class MeanOutput(Objective):
    """Squared distance between the mean outputs, added up over the classes.

    Its options are recorded, so a run is continued only under the same ones.
    """

    def __init__(self, real_batch_size: int = 64) -> None:
        self.real_batch_size = real_batch_size

    def loss(self, synthetic: SyntheticSide, work: Work, context: StageContext) -> Tensor:
        state = context.network.layout.unflatten(work.point.start)
        total = work.point.start.new_zeros(())
        for label in range(context.num_classes):
            # Drawn by the step's number: a stage that continues sees what it would have seen.
            real = context.real_images(label, self.real_batch_size, "own", work.step, work.index)
            mine = context.network(state, synthetic.of_class(label)).mean(0)
            total = total + (mine - context.network(state, real).mean(0)).square().sum()
        return total


def main(run_dir: Path, iterations: int) -> None:
    distilled = pdd.distil(
        "digits",
        run_dir=run_dir,
        objective=MeanOutput(),
        dynamics=StartStates(20),
        stages=2,
        iterations=iterations,
        image_lr=0.3,
        learning_rate_lr=0.0,  # the loss does not depend on the learning rate
    )
    print(distilled)
    print(pdd.evaluate(run_dir, seeds=3, baselines=["random"], random_rates=[0.1]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run_dir", type=Path, default=Path("checkpoints/own_objective"), help="Folder of the run.")
    parser.add_argument("--iterations", type=int, default=100, help="Optimiser steps of a stage.")
    given = parser.parse_args()
    main(given.run_dir, given.iterations)
