"""At which model states training on the synthetic and on the real data are compared."""

from pdd_lightning.dynamics.adaptive import DynamicTraining
from pdd_lightning.dynamics.base import Dynamics, MatchPoint, Preparation, Rehearsal
from pdd_lightning.dynamics.context import Ranks, StageContext
from pdd_lightning.dynamics.experts import ExpertTrajectories
from pdd_lightning.dynamics.real import RealTraining
from pdd_lightning.dynamics.start_states import StartStates
from pdd_lightning.dynamics.synthetic import SyntheticTraining

__all__ = [
    "DynamicTraining",
    "Dynamics",
    "ExpertTrajectories",
    "MatchPoint",
    "Preparation",
    "Ranks",
    "RealTraining",
    "Rehearsal",
    "StageContext",
    "StartStates",
    "SyntheticTraining",
]
