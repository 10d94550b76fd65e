"""Values whose gradients are known already."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Attach(torch.autograd.Function):
    """A value whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(outer[0] * gradient for gradient in ctx.gradients)


def attach(value: Tensor, *inputs: Tensor) -> Tensor:
    """Differentiate a part of a loss at once and let its graph go, so that the parts' graphs never add up.

    Args:
        value: A scalar that depends on the inputs.
        inputs: Tensors that require grad; those that the value does not depend on take no part.

    Returns:
        The same value, whose gradients in the inputs are the same.
    """
    found = torch.autograd.grad(value, inputs, allow_unused=True)
    pairs = [(given, gradient) for given, gradient in zip(inputs, found, strict=True) if gradient is not None]
    return with_gradients(value.detach(), pairs)


def with_gradients(value: Tensor, pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """A value whose gradients are known already.

    Args:
        value: A detached scalar.
        pairs: Tensors that require grad, and the gradient in each.

    Returns:
        The same value, differentiable (once) in the tensors.
    """
    inputs, gradients = zip(*pairs, strict=True)
    attached: Tensor = _Attach.apply(value, gradients, *inputs)
    return attached
