"""Random real images: how a distillation begins, and the simplest baseline."""

import torch
from torch import Tensor

from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator
from pdd_lightning.types import LabelledImages


def random_images(
    real: LabelledImages, class_names: tuple[str, ...], ipc: int, seed: int, *keys: int | str
) -> tuple[Tensor, Tensor]:
    """Real images, drawn without replacement, class by class.

    Args:
        real: Where to draw from.
        class_names: In the order of the labels.
        ipc: Images per class.
        seed: The run's seed.
        keys: What they are for.

    Returns:
        Images (C * ipc, channels, H, W) and labels (C * ipc,), class by class.

    Raises:
        ConfigError: If a class has fewer images.
    """
    chosen = []
    for label, name in enumerate(class_names):
        positions = (real.labels == label).nonzero().flatten()
        if len(positions) < ipc:
            raise ConfigError(
                f"model.ipc={ipc}: class {name!r} has only {len(positions)} training images (after the validation "
                "split); lower ipc or data.validation_fraction"
            )
        order = torch.randperm(len(positions), generator=generator(seed, "draw", *keys, label))
        chosen.append(positions[order[:ipc].to(positions.device)])
    subset = real.take(torch.cat(chosen))
    return subset.images.clone(), subset.labels.clone()
