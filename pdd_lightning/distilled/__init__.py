"""A distilled set outside its run: loading, using, exporting, importing and showing it."""

from pdd_lightning.distilled.distilled_set import DistilledImages, DistilledSet
from pdd_lightning.distilled.load import load

__all__ = ["DistilledImages", "DistilledSet", "load"]
