"""Choosing real images: the baselines that a distilled set is compared with, one method in each file."""

from pdd_lightning.selection.base import Selection, SelectionContext
from pdd_lightning.selection.forgetting import Forgetting
from pdd_lightning.selection.herding import Herding
from pdd_lightning.selection.k_center import KCenter
from pdd_lightning.selection.random import RandomSelection

__all__ = ["Forgetting", "Herding", "KCenter", "RandomSelection", "Selection", "SelectionContext"]
