"""Parts that fail on purpose, in one process of several."""

import os

from torch import Tensor

from pdd_lightning.dynamics import StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives import SyntheticSide, TrajectoryMatching, Work


class FailsInOneProcess(TrajectoryMatching):
    """Trajectory matching that raises at its third step in the process that PDD_FAILING names."""

    def loss(self, synthetic: SyntheticSide, work: Work, context: StageContext) -> Tensor:
        if work.step == 2 and context.ranks.rank == int(os.environ["PDD_FAILING"]):
            if os.environ.get("PDD_FAULT") == "user":
                raise ConfigError("sabotage: a mistake of the user")
            raise RuntimeError("sabotage: a fault of the program")
        return super().loss(synthetic, work, context)
