"""Progressive dataset distillation as a PyTorch Lightning system."""

from typing import TYPE_CHECKING

from pdd_lightning.lazy import lazily

if TYPE_CHECKING:
    from pdd_lightning.distilled import DistilledSet, load

__version__ = "0.1.0"

__all__ = ["DistilledSet", "load"]

__getattr__ = lazily(__name__, {"DistilledSet": "pdd_lightning.distilled", "load": "pdd_lightning.distilled"})
