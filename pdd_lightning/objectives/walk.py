"""Training on the synthetic set as a differentiable function of its images and its learning rate.

The walk of N plain SGD steps (Cazenavette et al., CVPR 2022, algorithm 1) is differentiated exactly, and so is one with
momentum mu and weight decay d. With g_i = grad l_i(theta_i, x_i), where x_i are the training images of the step,

    m_{i+1}     = mu m_i + g_i + d theta_i     m_0 = 0
    theta_{i+1} = theta_i - a m_{i+1}

Let v_i be the cotangent of theta_i. The one of m_{i+1} is -a s_i, with what later steps carry on of the momentum:

    s_i    = v_{i+1} + mu s_{i+1}              s_N = 0
    v_i    = v_{i+1} - a (H_i + d) s_i         H_i = d g_i / d theta_i
    dx_i   = -a (d g_i / d x_i)^T s_i
    da    -= <g_i + d theta_i, s_i>

so only the vectors theta_0 ... theta_{N-1} need be kept, and what each step needs is computed again when its turn
comes: memory does not grow with the activations of N steps, as that of an unrolled graph does. The products are made
by :mod:`pdd_lightning.compute.step_products`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.compute.memory import block
from pdd_lightning.compute.step_products import StepGraph, StepMath

StepData = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(images of the learned subset, step) -> (training images, labels) of that step; differentiable in the images."""


@dataclass(frozen=True)
class Walk:
    """N steps of SGD as a function of the learned images and the learning rate.

    Attributes:
        network: The network.
        start: Parameters theta_0, shape (P,).
        steps: Number of steps N.
        data: What each step trains on.
        store: Keep each step's graph instead of building it again: faster, and memory then grows with N times the
            size of the activations.
        math: Makes the gradients and their products; None makes one for this walk alone. Storing needs none.
        momentum: Of SGD, in [0, 1); its buffer begins at zero.
        weight_decay: L2 penalty added to the gradient.

    Example:
        >>> from torch import nn
        >>> network = FunctionalNetwork(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
        >>> images, labels = torch.ones(2, 1, 2, 2, requires_grad=True), torch.tensor([0, 1])
        >>> walk = Walk(network, torch.zeros(10), steps=3, data=lambda images, step: (images, labels))
        >>> (end,) = walk_ends(images, torch.tensor(0.1), [walk])
        >>> end.sum().backward()
        >>> end.shape, images.grad.shape
        (torch.Size([10]), torch.Size([2, 1, 2, 2]))
    """

    network: FunctionalNetwork
    start: Tensor
    steps: int
    data: StepData
    store: bool = False
    math: StepMath | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0


class _WalkFunction(torch.autograd.Function):
    """(images, alpha) -> theta_N of every walk, with the backward recursion of this module's docstring."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, alpha: Tensor, walks: Sequence[Walk]) -> tuple[Tensor, ...]:
        ctx.walks, ctx.images, ctx.alpha = walks, images.detach(), alpha.detach()
        network, steps, store, math = _common(walks)
        momentum, decay = walks[0].momentum, walks[0].weight_decay
        thetas = [walk.start.detach() for walk in walks]
        moved: list[Tensor] = []
        kept = block(0 if store and not decay else steps * len(walks), thetas[0])
        ctx.thetas, ctx.graphs = kept.view(-1 if len(kept) else 0, len(walks), len(thetas[0])), []
        for step in range(steps):
            shown = [(theta, *walk.data(ctx.images, step)) for theta, walk in zip(thetas, walks, strict=True)]
            if len(kept):
                for row, theta in zip(ctx.thetas[step], thetas, strict=True):
                    row.copy_(theta)
            if store:
                graphs = [StepGraph(network, *own) for own in shown]
                ctx.graphs.append(graphs)
                gradients = [graph.gradient for graph in graphs]
            else:
                gradients = math.gradients(shown)
            if decay:
                gradients = [
                    gradient.add(theta, alpha=decay) for theta, gradient in zip(thetas, gradients, strict=True)
                ]
            if momentum:
                # What a GPU has recorded is overwritten by the next step, so that the first one is copied too.
                before = moved or [torch.zeros_like(gradient) for gradient in gradients]
                moved = gradients = [g.add(m, alpha=momentum) for m, g in zip(before, gradients, strict=True)]
            thetas = [theta - ctx.alpha * gradient for theta, gradient in zip(thetas, gradients, strict=True)]
        return tuple(thetas if steps else (theta.clone() for theta in thetas))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, None]:
        walks: Sequence[Walk] = ctx.walks
        _, steps, store, math = _common(walks)
        momentum, decay = walks[0].momentum, walks[0].weight_decay
        carried: tuple[Tensor, ...] = ()
        images_gradient, alpha_gradient = torch.zeros_like(ctx.images), torch.zeros_like(ctx.alpha)
        leaf = ctx.images.requires_grad_()
        for step in reversed(range(steps)):
            with torch.enable_grad():
                shown = [walk.data(leaf, step) for walk in walks]
            vectors = cotangents
            if momentum and carried:
                vectors = tuple(v.add(s, alpha=momentum) for v, s in zip(cotangents, carried, strict=True))
            carried = vectors
            if store:
                pairs = zip(ctx.graphs[step], vectors, strict=True)
                found = [graph.products(vector) for graph, vector in pairs]
            else:
                rows = zip(ctx.thetas[step], shown, vectors, strict=True)
                found = math.products_of([(theta, x.detach(), y, vector) for theta, (x, y), vector in rows])
            for (x, _), (slope, _, across) in zip(shown, found, strict=True):
                alpha_gradient -= slope
                (back,) = torch.autograd.grad(x, leaf, across, allow_unused=True, materialize_grads=True)
                images_gradient.sub_(back * ctx.alpha)
            alongs = [along for _, along, _ in found]
            if decay:
                alpha_gradient -= decay * sum(t @ s for t, s in zip(ctx.thetas[step], vectors, strict=True))
                alongs = [along.add(s, alpha=decay) for along, s in zip(alongs, vectors, strict=True)]
            cotangents = tuple(v - ctx.alpha * along for v, along in zip(cotangents, alongs, strict=True))
        return images_gradient, alpha_gradient, None


def _common(walks: Sequence[Walk]) -> tuple[FunctionalNetwork, int, bool, StepMath]:
    first = walks[0]
    shared = {(id(w.network), w.steps, w.store, w.momentum, w.weight_decay) for w in walks}
    assert len(shared) == 1, "walks side by side differ in starts and data alone"
    return first.network, first.steps, first.store, first.math or StepMath(first.network)


def walk_ends(images: Tensor, alpha: Tensor, walks: Sequence[Walk]) -> tuple[Tensor, ...]:
    """Parameters after training on the synthetic images, differentiable in the images and the learning rate.

    Args:
        images: Images of the learned subset, shape (n, C, H, W).
        alpha: Learning rate, a scalar tensor.
        walks: Go step by step side by side. They differ in their starts and in what their steps train on.

    Returns:
        theta_N of each walk, shape (P,).
    """
    ends: tuple[Tensor, ...] = _WalkFunction.apply(images, alpha, walks)
    return ends
