"""Lightning callbacks: hook, pure decision, act."""

from pdd_lightning.callbacks.checkpoint import StageCheckpoint
from pdd_lightning.callbacks.monitor import ImageMonitor, StepProgress
from pdd_lightning.callbacks.stage import StageCallback

__all__ = ["ImageMonitor", "StageCallback", "StageCheckpoint", "StepProgress"]
