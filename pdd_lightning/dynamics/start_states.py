"""The network is a start state, and is not trained.

Source: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, section 3.2: random networks.
Inside PDD they are the bank of start states theta^(k-1).
"""

import torch

from pdd_lightning.dynamics.base import MatchPoint
from pdd_lightning.dynamics.renewable import RenewableBank
from pdd_lightning.rng import generator


class StartStates(RenewableBank):
    """A start state of the bank, drawn anew at every step.

    Args:
        start_states: Size of the bank.
        renew_every: Optimiser steps of a stage after which other start states take the place of these: fresh networks
            that are trained on the earlier unions as a transition does, so that images cannot come to suit a few.
            Each time that costs what the transitions of all earlier stages cost. Null keeps the bank, which in either
            case is what the next stage begins with, once it went through the transition.

    Example:
        >>> from pathlib import Path
        >>> from pdd_lightning.dynamics import StageContext
        >>> from pdd_lightning.dynamics.bank import StateBank
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.training.problem import Problem
        >>> from pdd_lightning.types import LabelledImages
        >>> problem = Problem(ConvNet(width=4), (1, 8, 8), num_classes=2)
        >>> images = LabelledImages(torch.zeros(6, 1, 8, 8), torch.arange(6) % 2)
        >>> bank, dynamics = StateBank.random(problem, members=3), StartStates(3)
        >>> dynamics.prepare(StageContext(problem, 1, bank, images, images, "", Path("experts")))
        >>> dynamics.point(step=0, index=0).start.shape
        torch.Size([238])
    """

    def __init__(self, start_states: int = 100, renew_every: int | None = None) -> None:
        super().__init__(start_states, renew_every)

    def point(self, step: int, index: int) -> MatchPoint:
        """Draw a member by counter."""
        context = self.context
        draw = generator(context.seed, *context.keys("point", step, index))
        member = int(torch.randint(len(self.bank), (), generator=draw))
        return MatchPoint(context.network.layout.flatten(self.bank[member]).to(context.device))
