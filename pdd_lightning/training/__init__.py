"""Training networks on tensors: recipes, augmentation, CutMix and multi-formation."""

from pdd_lightning.training.augmentation import DSA, Augmentation, NoAugmentation
from pdd_lightning.training.recipe import Recipe

__all__ = ["DSA", "Augmentation", "NoAugmentation", "Recipe"]
