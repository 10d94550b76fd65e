"""Data modules: real images as preprocessed tensors, with a validation split and a fingerprint."""

from pdd_lightning.datamodules.base import ImageDataModule
from pdd_lightning.datamodules.cifar import CIFAR10Data, CIFAR100Data
from pdd_lightning.datamodules.digits import DigitsData
from pdd_lightning.datamodules.image_folder import ImageFolderData
from pdd_lightning.datamodules.preprocessing import Preprocessing, Whitening
from pdd_lightning.datamodules.raw import RawData
from pdd_lightning.datamodules.tiny_imagenet import TinyImageNetData

__all__ = [
    "CIFAR10Data",
    "CIFAR100Data",
    "DigitsData",
    "ImageDataModule",
    "ImageFolderData",
    "Preprocessing",
    "RawData",
    "TinyImageNetData",
    "Whitening",
]
