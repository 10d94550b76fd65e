"""Networks as pure functions of their state, and states as flat vectors."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks.base import features_of, layers_of
from pdd_lightning.types import State


@dataclass(frozen=True)
class Layout:
    """Where each named parameter lies in the flat vector of all of them.

    Attributes:
        names: Parameter names in the network's own order.
        shapes: Their shapes.

    Example:
        >>> layout = Layout.of(nn.Linear(3, 2))
        >>> layout.size, {name: part.shape for name, part in layout.unflatten(torch.zeros(8)).items()}
        (8, {'weight': torch.Size([2, 3]), 'bias': torch.Size([2])})
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, network: nn.Module) -> Self:
        """The layout of a network's parameters; buffers are not part of it."""
        named = list(network.named_parameters())
        return cls(tuple(name for name, _ in named), tuple(tuple(p.shape) for _, p in named))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return tuple(torch.Size(shape).numel() for shape in self.shapes)

    @property
    def size(self) -> int:
        """Number of elements P of the flat vector."""
        return sum(self.sizes)

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """Copy the named parameters into one vector, by name.

        Args:
            state: Named tensors; names that are not parameters (buffers) are left out.

        Returns:
            A new vector of shape (P,), never an alias of the state.
        """
        return torch.cat([state[name].reshape(-1) for name in self.names])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Name the parts of a vector, as views of it.

        Args:
            vector: Shape (P,).
        """
        parts = torch.split(vector, list(self.sizes))
        return {n: part.view(s) for n, s, part in zip(self.names, self.shapes, parts, strict=True)}

    def to_json(self) -> dict[str, list[int]]:
        """Names and shapes, in order."""
        return {name: list(shape) for name, shape in zip(self.names, self.shapes, strict=True)}


class FunctionalNetwork:
    """A network called with explicit parameters, for objectives that differentiate through training.

    Batch normalisation uses the statistics of its batch and keeps none: running statistics take no part in a
    training step, and writing them would make the function impure.

    Args:
        template: A network of the right shape; its values never matter. It is changed as said above.
        device: Where the template's constant buffers live.

    Raises:
        ConfigError: If the network is not a function of its state and input.

    Example:
        >>> network = FunctionalNetwork(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
        >>> network(network.layout.unflatten(torch.zeros(10)), torch.ones(3, 1, 2, 2)).shape
        torch.Size([3, 2])
    """

    def __init__(self, template: nn.Module, device: torch.device | str = "cpu") -> None:
        self.template = template.to(device).train().requires_grad_(False)
        self.layout = Layout.of(template)
        for module in template.modules():
            if isinstance(module, _DropoutNd):
                raise ConfigError(
                    f"model.network builds a {type(module).__name__}, which draws from the global generator: matching "
                    "differentiates through training and needs every step to be repeatable; leave it out"
                )
            if isinstance(module, _BatchNorm):
                module.running_mean = module.running_var = module.num_batches_tracked = None
                module.track_running_stats = False

    def __call__(self, parameters: dict[str, Tensor], images: Tensor) -> Tensor:
        """Logits.

        Args:
            parameters: Named parameters.
            images: Shape (N, C, H, W).

        Returns:
            Shape (N, classes).
        """
        logits: Tensor = functional_call(self.template, parameters, (images,))
        return logits

    def embed(self, parameters: dict[str, Tensor], images: Tensor) -> Tensor:
        """Features that the linear head reads.

        Args:
            parameters: Named parameters; those of the head take no part.
            images: Shape (N, C, H, W).

        Returns:
            Shape (N, F).

        Raises:
            ConfigError: If the network is not a `Classifier`, with features and a head.
        """
        extractor = features_of(self.template)
        prefix = "features."
        mine = {name[len(prefix) :]: value for name, value in parameters.items() if name.startswith(prefix)}
        features: Tensor = functional_call(extractor, mine, (images,))
        return features

    def embed_layers(self, parameters: dict[str, Tensor], images: Tensor) -> list[Tensor]:
        """The outputs of the layers that the network names, and the features that the linear head reads.

        Args:
            parameters: Named parameters; those of the head take no part.
            images: Shape (N, C, H, W).

        Returns:
            One tensor (N, ...) for each of the `Classifier`'s layers, and the features (N, F).

        Raises:
            ConfigError: If the network is not a `Classifier`, or names no layers.
        """
        outputs: list[Tensor] = []
        with ExitStack() as hooks:
            for layer in layers_of(self.template):
                handle = layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
                hooks.callback(handle.remove)
            features = self.embed(parameters, images)
        return [*outputs, features]

    def loss(self, parameters: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, a scalar."""
        return F.cross_entropy(self(parameters, images), labels)


def detached(state: Mapping[str, Tensor]) -> State:
    """A state that shares no memory with the network it came from."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}
