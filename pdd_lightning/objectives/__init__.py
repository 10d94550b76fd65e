"""What is compared between training on the synthetic and on the real data."""

from pdd_lightning.objectives.base import Objective, SyntheticSide, Work
from pdd_lightning.objectives.distribution import MeanEmbedding
from pdd_lightning.objectives.features import FeatureAlignment
from pdd_lightning.objectives.gradient import GradientMatching
from pdd_lightning.objectives.trajectory import TrajectoryMatching

__all__ = [
    "FeatureAlignment",
    "GradientMatching",
    "MeanEmbedding",
    "Objective",
    "SyntheticSide",
    "TrajectoryMatching",
    "Work",
]
