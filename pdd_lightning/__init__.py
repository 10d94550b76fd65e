"""Progressive dataset distillation as a PyTorch Lightning system."""

from typing import TYPE_CHECKING

from pdd_lightning.lazy import lazily

if TYPE_CHECKING:
    from pdd_lightning.datamodules import DigitsData, ImageDataModule, ImageFolderData, TensorData
    from pdd_lightning.distilled import DistilledSet, load
    from pdd_lightning.distilling import Results, distil, evaluate, recorded_data
    from pdd_lightning.networks import ConvNet, ResNet
    from pdd_lightning.stage.callback import StageCallback
    from pdd_lightning.stage.checkpoints import SealedCheckpointIO, StageCheckpoint, latest_checkpoint
    from pdd_lightning.stage.module import StageModule
    from pdd_lightning.stage.monitor import ImageMonitor, StepProgress
    from pdd_lightning.training import DSA, NoAugmentation, Recipe

__version__ = "0.1.0"

__all__ = [
    "DSA",
    "ConvNet",
    "DigitsData",
    "DistilledSet",
    "ImageDataModule",
    "ImageFolderData",
    "ImageMonitor",
    "NoAugmentation",
    "Recipe",
    "ResNet",
    "Results",
    "SealedCheckpointIO",
    "StageCallback",
    "StageCheckpoint",
    "StageModule",
    "StepProgress",
    "TensorData",
    "distil",
    "evaluate",
    "latest_checkpoint",
    "load",
    "recorded_data",
]

# Importing the package imports nothing else: the commands start with it, and a distilled set needs no Lightning.
__getattr__ = lazily(
    __name__,
    {
        "DigitsData": "pdd_lightning.datamodules",
        "ImageDataModule": "pdd_lightning.datamodules",
        "ImageFolderData": "pdd_lightning.datamodules",
        "TensorData": "pdd_lightning.datamodules",
        "DistilledSet": "pdd_lightning.distilled",
        "load": "pdd_lightning.distilled",
        "Results": "pdd_lightning.distilling",
        "distil": "pdd_lightning.distilling",
        "evaluate": "pdd_lightning.distilling",
        "recorded_data": "pdd_lightning.distilling",
        "ConvNet": "pdd_lightning.networks",
        "ResNet": "pdd_lightning.networks",
        "StageCallback": "pdd_lightning.stage.callback",
        "SealedCheckpointIO": "pdd_lightning.stage.checkpoints",
        "StageCheckpoint": "pdd_lightning.stage.checkpoints",
        "latest_checkpoint": "pdd_lightning.stage.checkpoints",
        "StageModule": "pdd_lightning.stage.module",
        "ImageMonitor": "pdd_lightning.stage.monitor",
        "StepProgress": "pdd_lightning.stage.monitor",
        "DSA": "pdd_lightning.training",
        "NoAugmentation": "pdd_lightning.training",
        "Recipe": "pdd_lightning.training",
    },
)
