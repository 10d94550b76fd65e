"""Data modules: real images as preprocessed tensors, with a validation split and a fingerprint."""

from typing import TYPE_CHECKING

from pdd_lightning.lazy import lazily

if TYPE_CHECKING:
    from pdd_lightning.datamodules.base import ImageDataModule
    from pdd_lightning.datamodules.cifar import CIFAR10Data, CIFAR100Data
    from pdd_lightning.datamodules.digits import DigitsData
    from pdd_lightning.datamodules.image_folder import ImageFolderData
    from pdd_lightning.datamodules.preprocessing import Preprocessing, Whitening
    from pdd_lightning.datamodules.raw import RawData
    from pdd_lightning.datamodules.tensors import TensorData
    from pdd_lightning.datamodules.tiny_imagenet import TinyImageNetData

__all__ = [
    "CIFAR10Data",
    "CIFAR100Data",
    "DigitsData",
    "ImageDataModule",
    "ImageFolderData",
    "Preprocessing",
    "RawData",
    "TensorData",
    "TinyImageNetData",
    "Whitening",
]

# A distilled set is used with the preprocessing alone, and data modules import Lightning.
__getattr__ = lazily(
    __name__,
    {
        "CIFAR10Data": "pdd_lightning.datamodules.cifar",
        "CIFAR100Data": "pdd_lightning.datamodules.cifar",
        "DigitsData": "pdd_lightning.datamodules.digits",
        "ImageDataModule": "pdd_lightning.datamodules.base",
        "ImageFolderData": "pdd_lightning.datamodules.image_folder",
        "Preprocessing": "pdd_lightning.datamodules.preprocessing",
        "RawData": "pdd_lightning.datamodules.raw",
        "TensorData": "pdd_lightning.datamodules.tensors",
        "TinyImageNetData": "pdd_lightning.datamodules.tiny_imagenet",
        "Whitening": "pdd_lightning.datamodules.preprocessing",
    },
)
