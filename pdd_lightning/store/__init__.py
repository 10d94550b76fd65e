"""Files of a run: where they lie, writing them whole or not at all, and reading them checked."""

from pdd_lightning.store.folders import RunFolder, StageFolder
from pdd_lightning.types import Json

__all__ = ["Json", "RunFolder", "StageFolder"]
