"""What is refused before a stage writes its first file."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives import Objective
from pdd_lightning.stage.keeping import Keep
from pdd_lightning.types import ImageShape


def require_logits(network: nn.Module, image_shape: ImageShape, num_classes: int) -> None:
    """Refuse a network that does not give one number for each class of each image.

    Args:
        network: On the CPU; taken over.
        image_shape: Channels, height, width.
        num_classes: Number of classes.

    Raises:
        ConfigError: Naming the shape that it gives.
    """
    with torch.no_grad():
        shape = tuple(network.eval()(torch.zeros(2, *image_shape)).shape)
    if shape != (2, num_classes):
        raise ConfigError(
            f"model.network builds a {type(network).__name__} that gives shape {shape} for 2 images, where "
            f"{(2, num_classes)} is needed: one number for each class; mend its last layer"
        )


def require_recordable(settings: Mapping[str, object]) -> None:
    """Refuse settings that a file would not give back as they are: a run that continues compares them.

    Args:
        settings: By option of the model; what `describe` of its parts gives.

    Raises:
        ConfigError: Naming the part and the value.
    """
    for option, described in settings.items():
        found = _unrecordable(described, "")
        if found is not None:
            raise ConfigError(
                f"model.{option}: its describe() gives {found[1]!r}{found[0] and f' for {found[0]!r}'}, which no JSON "
                "file gives back: describe it by finite numbers, text, true or false, null, lists and dicts of these"
            )


def _unrecordable(value: object, name: str) -> tuple[str, object] | None:
    """The name and value of something that is not plain JSON."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return name, value
        parts = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        parts = [(name, part) for part in value]
    else:
        finite = isinstance(value, float) and math.isfinite(value)
        return None if value is None or finite or isinstance(value, (bool, int, str)) else (name, value)
    return next((found for key, part in parts if (found := _unrecordable(part, key)) is not None), None)


def require_held_out(keep: Keep, watch_every: int, held_out: int) -> None:
    """Refuse to score images where there is nothing to score them with.

    Args:
        keep: Which state a stage ends with.
        watch_every: Steps between two scorings; 0 asks for none.
        held_out: How many training images are held out.

    Raises:
        ConfigError: Naming the options.
    """
    if watch_every and not held_out:
        asked = f"model.watch_every={watch_every}{' with model.keep=best' if keep == 'best' else ''}"
        instead = "model.keep=last and model.watch_every=0" if keep == "best" else "model.watch_every=0"
        raise ConfigError(
            f"{asked} scores networks on held-out images, and data.validation_fraction=0 holds none out: raise it, "
            f"to 0.1 for instance, or set {instead}"
        )


def require_scalar(loss: Tensor, objective: Objective) -> None:
    """Refuse a loss that is not one number.

    Raises:
        ConfigError: Naming the objective and the shape.
    """
    if loss.ndim:
        raise ConfigError(
            f"model.objective={type(objective).__name__}: its loss() has shape {tuple(loss.shape)}, where a single "
            "number is needed: add it up or average it"
        )
