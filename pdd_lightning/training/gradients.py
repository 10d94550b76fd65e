"""Losses of minibatches and their gradients, as functions of a network's parameters."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn import functional as F

from pdd_lightning.compute.compiling import Compiler
from pdd_lightning.compute.cuda_graphs import Function, Recorded, is_known, records
from pdd_lightning.compute.functional import Layout
from pdd_lightning.compute.lowering import pays_to_lower
from pdd_lightning.training.cutmix import Mix
from pdd_lightning.training.recipe import Precision, autocast
from pdd_lightning.types import sent

Lane = tuple[Tensor, Tensor, Tensor, Mix | None]
"""Parameters (P,), images (B, C, H, W), labels (B,), and how the images were mixed."""


def is_recordable(network: nn.Module, device: torch.device) -> bool:
    """Whether training steps of a network are recorded: on a GPU, if it is known to do the same every time."""
    return records(device) and is_function(network)


def is_function(network: nn.Module) -> bool:
    """Whether a network's loss is a function of its parameters and of the images, and of nothing else.

    Batch norm keeps statistics, and parameters that are kept as they are have no gradient; such networks compute as
    they come.
    """
    return (
        is_known(network)
        and not any(True for _ in network.buffers())
        and all(parameter.requires_grad and not parameter._backward_hooks for parameter in network.parameters())
    )


class LossGradients:
    """Mean losses of minibatches and their gradients, for networks of one kind side by side.

    Args:
        network: One of them, without buffers; its values do not matter.
        precision: In which convolutions and products are computed.
        compile: Let PyTorch compile it. Where that fails, a warning says so and it is computed as it comes.

    Example:
        >>> gradients = LossGradients(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "float32")
        >>> lane = (torch.zeros(10), torch.ones(6, 1, 2, 2), torch.arange(6) % 2, None)
        >>> [(loss, gradient)] = gradients([lane])
        >>> loss, gradient.shape  # two classes, told apart by chance
        (tensor(0.6931), torch.Size([10]))
    """

    def __init__(self, network: nn.Module, precision: Precision, compile: bool = False) -> None:
        plain: Function = partial(_loss_and_gradient, network, Layout.of(network), precision)
        if compile:
            plain = Compiler("model.compile_networks").compiled(plain, lower=pays_to_lower(network))
        self._compute = Recorded(plain)

    def __call__(self, lanes: Sequence[Lane]) -> list[tuple[Tensor, Tensor]]:
        """Each network's loss, a scalar, and its gradient, shape (P,)."""
        return [(loss, gradient) for loss, gradient in self._compute([_plain(*lane) for lane in lanes])]


Recordings = dict[tuple[Precision, bool], LossGradients]
"""By precision, and whether they are compiled."""


def _plain(theta: Tensor, images: Tensor, labels: Tensor, mix: Mix | None) -> tuple[Tensor, ...]:
    """Tensors only: labels of what CutMix brought in, and the share of the images' own."""
    partners = labels if mix is None else labels[sent(mix.order, labels.device)]
    share = torch.full((), 1.0 if mix is None else mix.share, dtype=theta.dtype, device=theta.device)
    return theta, images, labels, partners, share


def _loss_and_gradient(
    network: nn.Module,
    layout: Layout,
    precision: Precision,
    theta: Tensor,
    images: Tensor,
    labels: Tensor,
    partners: Tensor,
    share: Tensor,
) -> tuple[Tensor, Tensor]:
    def loss(theta: Tensor) -> Tensor:
        with autocast(precision, images.device):
            logits = functional_call(network, layout.unflatten(theta), (images,))
        logits = logits.to(theta.dtype)
        return share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, partners)

    gradient, value = grad_and_value(loss)(theta)
    return value, gradient
