"""Gradient matching: one class at a time, the synthetic images give the gradient that real images give.

Sources: Zhao et al., "Dataset Condensation with Gradient Matching", ICLR 2021, equation 5 and the distance in its
appendix; Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021, equation 4; Kim et
al., ICML 2022, section 4.3.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import grad, grad_and_value

from pdd_lightning.compute.attached import attach, with_gradients
from pdd_lightning.compute.compiling import Compiler
from pdd_lightning.compute.cuda_graphs import Recorded, is_known
from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.dynamics.context import StageContext
from pdd_lightning.errors import ConfigError
from pdd_lightning.objectives.base import SideBySide, SyntheticSide, Work
from pdd_lightning.rng import generator
from pdd_lightning.training.augmentation import Augmentation
from pdd_lightning.types import sent

Distance = Literal["layerwise", "mse", "l1", "l1-mean", "cosine"]
Layers = Literal["weights", "convolutions", "all"]

# A weight of a linear layer is a matrix and one of a convolution has four dimensions; biases and norms have one.
_DIMENSIONS: dict[Layers, int] = {"all": 0, "weights": 2, "convolutions": 4}

_SMALL = 1e-6
"""Added to norms, as in the published distance: a unit without gradient has no direction."""


class GradientMatching(SideBySide):
    """Distance between the gradients of a class of real and of synthetic images.

    Batch norm takes the statistics of each class's own images, as in IDC; the code of DC freezes those of a real batch
    of all classes instead. Instance norm, as published, knows no such difference.

    Args:
        distance: "layerwise" is one minus the cosine of each output unit's gradient, added up (DC, DSA); "mse" the
            squared and "l1" the absolute difference, added up (IDC uses either); "l1-mean" averages over each output
            unit's inputs; "cosine" compares all gradients as one vector.
        layers: "weights" leaves out biases and the norms' parameters (DC, DSA); "convolutions" leaves out the
            classifier too (IDC); "all" compares everything.
        real_batch_size: Real images per class and step; a class with fewer shows all it has.
        syn_batch_size: At most this many synthetic images per class and step; null takes all.
        augmentation: Drawn once for each class and step, and applied to the real and the synthetic images alike
            (siamese); null means the method's.
        compile: Let PyTorch compile the matching of a class, which pays for long stages on a CPU; the first class of a
            stage takes one to three minutes, and numbers change as rounding does.

    Raises:
        ConfigError: If an option is unknown or not positive.

    Example:
        >>> objective = GradientMatching(distance="mse", layers="convolutions", real_batch_size=64)
        >>> mine, target = [torch.tensor([[1.0, 2.0]])], [torch.tensor([[1.0, 0.0]])]
        >>> gradient_distance(mine, target, objective.distance)
        tensor(4.)
    """

    unrecorded = ("compile",)  # the same numbers, but for the rounding of a compiler

    def __init__(
        self,
        distance: Distance = "layerwise",
        layers: Layers = "weights",
        real_batch_size: int = 256,
        syn_batch_size: int | None = None,
        augmentation: Augmentation | None = None,
        compile: bool = False,
    ) -> None:
        for name, value in {"real_batch_size": real_batch_size, "syn_batch_size": syn_batch_size}.items():
            if value is not None and value < 1:
                raise ConfigError(f"objective.{name} must be at least 1, got {value}")
        for name, word, words in (
            ("distance", distance, get_args(Distance)),
            ("layers", layers, get_args(Layers)),
        ):
            if word not in words:
                raise ConfigError(f"objective.{name}={word!r}: choose from {', '.join(words)}")
        self.distance, self.layers = distance, layers
        self.real_batch_size, self.syn_batch_size = real_batch_size, syn_batch_size
        self.augmentation, self.compile = augmentation, compile
        self._matching: tuple[FunctionalNetwork, Recorded] | None = None

    def check(self, network: nn.Module) -> None:
        """See :meth:`Objective.check`: it needs a parameter to compare."""
        if not any(parameter.ndim >= _DIMENSIONS[self.layers] for parameter in network.parameters()):
            raise ConfigError(
                f"objective.layers={self.layers!r}: model.network builds a {type(network).__name__} that has none; "
                "choose 'all'"
            )

    def parts(self, context: StageContext) -> int:
        """One for each class."""
        return context.num_classes

    def release(self) -> None:
        """See :meth:`Objective.release`: what a GPU has recorded, and a compiler made."""
        self._matching = None

    def loss_of(self, synthetic: SyntheticSide, works: Sequence[Work], context: StageContext) -> Tensor:
        """See :meth:`SideBySide.loss_of`; a part is a class."""
        if self._matching is None or self._matching[0] is not context.network:
            known = is_known(context.network.template)
            match: Callable[..., Any] = partial(self._matched, context.network)
            if self.compile:
                written_out = partial(self._written_out, context.network)
                match = Compiler("objective.compile").compiled(written_out, otherwise=match)
            self._matching = context.network, Recorded(match, known)
        sides = [self._sides(synthetic, context, work) for work in works]
        found = self._matching[1](
            [
                (work.point.start, real, images.detach(), torch.full((), work.part, device=images.device))
                for work, (real, images) in zip(works, sides, strict=True)
            ]
        )
        losses = [
            with_gradients(distance, [(images, across)])
            for (_, images), (distance, across) in zip(sides, found, strict=True)
        ]
        return attach(torch.stack(losses).sum(), synthetic.images)

    def _sides(self, synthetic: SyntheticSide, context: StageContext, work: Work) -> tuple[Tensor, Tensor]:
        """Augmented real and synthetic images of a class."""
        keys = ("match", work.step, work.index, work.part)
        augmentation = context.augmentation if self.augmentation is None else self.augmentation
        draw = generator(context.seed, *context.keys(*keys))
        # A draw for one image is one that any number of images share.
        parameters = augmentation.draw(1, context.image_shape, draw)
        real = context.real_images(work.part, self.real_batch_size, *keys)
        images = synthetic.of_class(work.part)
        if self.syn_batch_size is not None and len(images) > self.syn_batch_size:
            chosen = torch.randperm(len(images), generator=draw)[: self.syn_batch_size]
            images = images[sent(chosen, images.device)]
        return augmentation.apply(real, parameters), augmentation.apply(images, parameters)

    def _matched(
        self, network: FunctionalNetwork, theta: Tensor, real: Tensor, images: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The distance, and its gradient in the synthetic images."""
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            target = self._gradient(network, theta, real, label, differentiable=False)
            mine = self._gradient(network, theta, images, label, differentiable=True)
            distance = gradient_distance(mine, target, self.distance)
        (across,) = torch.autograd.grad(distance, images)
        return distance.detach(), across

    def _gradient(
        self, network: FunctionalNetwork, theta: Tensor, images: Tensor, label: Tensor, *, differentiable: bool
    ) -> Sequence[Tensor]:
        """Gradients of the layers that count."""
        parameters = network.layout.unflatten(theta.detach().clone())
        least = _DIMENSIONS[self.layers]
        counted = {name: value.requires_grad_() for name, value in parameters.items() if value.ndim >= least}
        loss = network.loss({**parameters, **counted}, images, label.expand(len(images)))
        return torch.autograd.grad(loss, list(counted.values()), create_graph=differentiable)

    def _written_out(
        self, network: FunctionalNetwork, theta: Tensor, real: Tensor, images: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same for a compiler, which can leave out what nobody reads; as it comes it is slower."""
        parameters, least = network.layout.unflatten(theta), _DIMENSIONS[self.layers]
        counted = {name: value for name, value in parameters.items() if value.ndim >= least}

        def gradient(images: Tensor) -> list[Tensor]:
            """Of the layers that count."""

            def loss(counted: dict[str, Tensor]) -> Tensor:
                return network.loss({**parameters, **counted}, images, label.expand(len(images)))

            return list(grad(loss)(counted).values())

        target = gradient(real)

        def distance(images: Tensor) -> Tensor:
            return gradient_distance(gradient(images), target, self.distance)

        across, value = grad_and_value(distance)(images)
        return value, across


def gradient_distance(mine: Sequence[Tensor], target: Sequence[Tensor], distance: Distance) -> Tensor:
    """The distance between two lists of gradients.

    Args:
        mine: One tensor for each layer, the first dimension being the output units.
        target: The same shapes.
        distance: See :class:`GradientMatching`.

    Returns:
        A scalar.
    """
    if distance == "cosine":
        flat = [torch.cat([layer.reshape(-1) for layer in side]) for side in (mine, target)]
        return _per_unit_cosine(flat[0][None], flat[1][None])
    return torch.stack([_LAYER[distance](a, b) for a, b in zip(mine, target, strict=True)]).sum()


def _per_unit_cosine(mine: Tensor, target: Tensor) -> Tensor:
    a, b = mine.flatten(1), target.flatten(1)
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    cosines: Tensor = (a * b).sum(1) / (norms + _SMALL)
    return (1 - cosines).sum()


def _layerwise(mine: Tensor, target: Tensor) -> Tensor:
    # A bias has one number for each unit, which has no direction: it is compared as one vector.
    return _per_unit_cosine(mine[None], target[None]) if mine.ndim == 1 else _per_unit_cosine(mine, target)


_LAYER: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "layerwise": _layerwise,
    "mse": lambda a, b: (a - b).square().sum(),
    "l1": lambda a, b: (a - b).abs().sum(),
    "l1-mean": lambda a, b: (a - b).abs().reshape(len(a), -1).mean(1).sum(),
}
