"""What every network has in common: options without a data shape, and states made from derived seeds."""

import dataclasses
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pdd_lightning.rng import Key, scoped_seed
from pdd_lightning.types import ImageShape, State, class_path


class Architecture(ABC):
    """The options of a network, without the shape of the data.

    Subclass it to bring your own network; in a configuration it is chosen by ``class_path``. Subclasses are
    best frozen dataclasses: they compare and hash by value, and their fields are their options. This class
    itself must not become one, or the command line would stop accepting subclasses in its place.
    """

    @abstractmethod
    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        """Make the network, initialised from the global generator as torch layers do.

        Use :func:`initial_state` or :func:`build_template` rather than calling this directly.

        Args:
            image_shape: Channels, height, width.
            num_classes: Number of outputs.

        Returns:
            A module from images (N, C, H, W) to logits (N, num_classes).

        Raises:
            ConfigError: If the options do not suit images of this shape.
        """

    @property
    def name(self) -> str:
        """A short name for tables and files."""
        return type(self).__name__

    def describe(self) -> dict[str, object]:
        """The class path and every option, ready for JSON.

        Options are the fields of a dataclass, else the public attributes of the instance.
        """
        instance: Any = self
        if dataclasses.is_dataclass(instance):
            options = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
        else:
            options = {key: value for key, value in vars(instance).items() if not key.startswith("_")}
        # As JSON would read them back, so that a stored description compares equal to a fresh one.
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
        return {"class_path": _exported_path(type(self)), **plain}


class Classifier(nn.Module):
    """Features followed by a linear head.

    Args:
        features: From images (N, C, H, W) to flat features (N, F).
        head: From features (N, F) to logits (N, number of classes).
        layers: Names of modules within `features`, in the order in which they are computed: their outputs are what an
            objective that aligns layers compares, beside the features themselves.
    """

    def __init__(self, features: nn.Module, head: nn.Linear, layers: Sequence[str] = ()) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.layers = tuple(layers)

    def embed(self, images: Tensor) -> Tensor:
        """The features that the head reads.

        Args:
            images: Shape (N, C, H, W).

        Returns:
            Shape (N, F).
        """
        features: Tensor = self.features(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, number of classes) of images (N, C, H, W)."""
        logits: Tensor = self.head(self.embed(images))
        return logits


def initial_state(
    architecture: Architecture, image_shape: ImageShape, num_classes: int, seed: int, *keys: Key
) -> State:
    """A random initialisation, always the same for the same seed and keys.

    Args:
        architecture: The network's options.
        image_shape: Channels, height, width.
        num_classes: Number of classes.
        seed: The run's seed.
        keys: Which initialisation, such as ``"bank", 3``.

    Returns:
        Parameters and buffers by name, on the CPU, detached and owned by the caller.

    Raises:
        ConfigError: If the options do not suit images of this shape.
    """
    with scoped_seed(seed, *keys):
        network = architecture.build(image_shape, num_classes)
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def build_template(architecture: Architecture, image_shape: ImageShape, num_classes: int) -> nn.Module:
    """A network to call through ``torch.func.functional_call``; its own values do not matter.

    Args:
        architecture: The network's options.
        image_shape: Channels, height, width.
        num_classes: Number of classes.

    Returns:
        The module, on the CPU and in training mode.

    Raises:
        ConfigError: If the options do not suit images of this shape.
    """
    # Building draws random numbers even for values that nobody reads.
    with scoped_seed(0, "template"):
        return architecture.build(image_shape, num_classes)


def _exported_path(cls: type) -> str:
    """Where to import a class from: its package where that exports it, else its module."""
    package = cls.__module__.rpartition(".")[0]
    exported = getattr(sys.modules.get(package), cls.__qualname__, None) is cls
    return f"{package}.{cls.__qualname__}" if exported else class_path(cls)
