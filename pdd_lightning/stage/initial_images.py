"""The images of a stage before its first step, and the bounds that they may be kept within."""

import torch
from torch import Tensor

from pdd_lightning.datamodules import Preprocessing
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator
from pdd_lightning.selection.random import random_images
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.training.formation import encode
from pdd_lightning.types import LabelledImages


def real_images_needed(options: StageOptions, ipc: int) -> int:
    """Real images of each class that the initialisation of so many images per class takes."""
    return ipc * options.factor**2 if options.initial == "mixed" else ipc


def initial_images(
    options: StageOptions, stage: int, real: LabelledImages, class_names: tuple[str, ...], ipc: int
) -> tuple[Tensor, Tensor]:
    """S_k before its first step: as `initial` says, from real images or from a standard normal distribution.

    Args:
        options: Of the run.
        stage: Number of the stage.
        real: The real images that the stage reads.
        class_names: In the order of the labels.
        ipc: Images per class.

    Returns:
        Images (C * ipc, channels, H, W) and labels (C * ipc,), class by class.

    Raises:
        ConfigError: If a class has too few real images.
    """
    count, factor = real_images_needed(options, ipc), options.factor
    asked = None if count == ipc else f"model.ipc={ipc} with model.factor={factor} takes {count} images of each class"
    images, labels = random_images(real, class_names, count, options.seed, stage, asked=asked)
    if options.initial == "mixed":
        return encode(images, factor, options.reduction), labels[:: factor**2].clone()
    if options.initial == "noise":
        images = torch.randn(images.shape, generator=generator(options.seed, "stage", stage, "noise"))
    return images, labels


def pixel_bounds(preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """Black and white in the networks' space.

    Returns:
        Two tensors of shape (C, 1, 1).

    Raises:
        ConfigError: If the images are whitened, for a whitened pixel has no bounds of its own.
    """
    if preprocessing.whitening is not None:
        raise ConfigError(
            "model.clamp_pixels=true keeps pixels within [0, 1], which whitened pixels do not have: set data.zca=false"
        )
    low, high = (((level - preprocessing.mean) / preprocessing.std)[:, None, None] for level in (0.0, 1.0))
    return low, high
