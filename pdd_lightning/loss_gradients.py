"""Losses of minibatches and their gradients, as functions of a network's parameters."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn import functional as F

from pdd_lightning.cutmix import Mix
from pdd_lightning.devices import sent
from pdd_lightning.functional import Layout
from pdd_lightning.precision import Precision, autocast
from pdd_lightning.recorded import Recorded

COMPILED_FROM = 20_000
"""Steps of networks from which on compiling, which takes about 20 seconds, pays on a GPU (docs/performance.md)."""

Lane = tuple[Tensor, Tensor, Tensor, Mix | None]
"""Parameters (P,), images (B, C, H, W), labels (B,), and how the images were mixed."""


def is_recordable(network: nn.Module, device: torch.device) -> bool:
    """Whether steps of a network are recorded: on a GPU, if its Python code is known to do the same every time.

    That is so for modules of PyTorch and of this package. A module of the user's own may draw numbers in Python, and
    batch norm keeps statistics; hooks want to be called.
    """
    return (
        device.type == "cuda"
        and not any(True for _ in network.buffers())
        and all(
            type(module).__module__.partition(".")[0] in ("torch", "torchvision", "pdd_lightning")
            and not (module._forward_hooks or module._forward_pre_hooks)
            for module in network.modules()
        )
    )


class LossGradients:
    """Mean losses of minibatches and their gradients, for networks of one kind side by side.

    Args:
        network: One of them, without buffers; its values do not matter.
        precision: In which convolutions and products are computed.
        compile: Let PyTorch compile it. Where that fails, a warning says so and it is computed as it comes.
    """

    def __init__(self, network: nn.Module, precision: Precision, compile: bool = False) -> None:
        plain = partial(_loss_and_gradient, network, Layout.of(network), precision)
        self._compute = Recorded(_compiled(plain) if compile else plain)

    def __call__(self, lanes: Sequence[Lane]) -> list[tuple[Tensor, Tensor]]:
        """Each network's loss, a scalar, and its gradient, shape (P,)."""
        return [(loss, gradient) for loss, gradient in self._compute([_plain(*lane) for lane in lanes])]


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


def _compiled(plain: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    compiled: Callable[..., tuple[Tensor, Tensor]] | None = torch.compile(plain, dynamic=False)

    def compute(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal compiled
        if compiled is not None:
            try:
                with torch.no_grad():
                    return compiled(*tensors)
            except Exception as error:  # compilers fail in many ways
                compiled = None
                warn_uncompiled("model.compile_networks", error)
        return plain(*tensors)

    return compute


def warn_uncompiled(option: str, error: Exception, stacklevel: int = 4) -> None:
    """Say that a network is computed as it comes.

    Args:
        option: That asked for a compiler.
        error: Of the compiler. One that has nothing to do with compiling comes again without.
        stacklevel: See :func:`warnings.warn`.
    """
    first = str(error).strip().partition("\n")[0]
    warnings.warn(
        f"{option}=true: this network cannot be compiled here ({type(error).__name__}: {first}); going on "
        "without. Install a C++ compiler such as g++, or set it to false",
        stacklevel=stacklevel,
    )
