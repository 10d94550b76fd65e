"""What every network has in common: options without a data shape, and states made from derived seeds."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from pdd_lightning.described import Described
from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import Key, scoped_seed
from pdd_lightning.types import ImageShape, State


class Architecture(Described, ABC):
    """The options of a network, without the shape of the data.

    Subclass it to bring your own network; in a configuration it is chosen by ``class_path``. Subclasses are
    best frozen dataclasses: they compare and hash by value, and their fields are their options. This class
    itself must not become one, or the command line would stop accepting subclasses in its place.

    Example:
        >>> import math
        >>> class Linear(Architecture):
        ...     def build(self, image_shape, num_classes):
        ...         return Classifier(nn.Flatten(), nn.Linear(math.prod(image_shape), num_classes))
        >>> Linear().build((1, 8, 8), num_classes=10).head
        Linear(in_features=64, out_features=10, bias=True)
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


class Classifier(nn.Module):
    """Features followed by a linear head.

    Args:
        features: From images (N, C, H, W) to flat features (N, F).
        head: From features (N, F) to logits (N, number of classes).
        layers: Names of modules within `features`, in the order in which they are computed: their outputs are what an
            objective that aligns layers compares, beside the features themselves.

    Example:
        >>> import torch
        >>> network = Classifier(nn.Flatten(), nn.Linear(64, 10))
        >>> images = torch.zeros(5, 1, 8, 8)
        >>> network.embed(images).shape, network(images).shape
        (torch.Size([5, 64]), torch.Size([5, 10]))
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


def features_of(network: nn.Module) -> nn.Module:
    """The part of a network that computes what its linear head reads.

    Raises:
        ConfigError: If the network is not a `Classifier`, with features and a head.
    """
    if not isinstance(network, Classifier):
        raise ConfigError(
            f"model.network builds a {type(network).__name__}, whose features are unknown: build a "
            "pdd_lightning.networks.Classifier to use an objective that compares features"
        )
    return network.features


def layers_of(network: nn.Module) -> list[nn.Module]:
    """The modules whose outputs an objective that aligns layers compares.

    Raises:
        ConfigError: If the network is not a `Classifier`, or names no layers.
    """
    features = features_of(network)
    assert isinstance(network, Classifier)
    if not network.layers:
        raise ConfigError(
            "model.network builds a Classifier that names no layers: give it the names of the modules in its features "
            "that are to be compared, such as Classifier(features, head, layers=['block1', 'block2'])"
        )
    return [features.get_submodule(name) for name in network.layers]


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
