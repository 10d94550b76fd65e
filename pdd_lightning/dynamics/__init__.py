"""At which model states training on the synthetic and on the real data are compared."""

from pdd_lightning.dynamics.base import Dynamics, MatchPoint, Ranks, StageContext
from pdd_lightning.dynamics.experts import ExpertTrajectories

__all__ = ["Dynamics", "ExpertTrajectories", "MatchPoint", "Ranks", "StageContext"]
