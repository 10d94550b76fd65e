"""Training on the synthetic set as a differentiable function of its images and its learning rate.

The walk of N plain SGD steps (Cazenavette et al., CVPR 2022, algorithm 1) is differentiated exactly. With
theta_{i+1} = theta_i - a g_i, g_i = grad l_i(theta_i, x_i), where x_i are the training images of the step, and the
cotangent v_{i+1} of theta_{i+1}, one step backward is

    v_i    = v_{i+1} - a H_i v_{i+1}          H_i = d g_i / d theta_i
    dx_i   = -a (d g_i / d x_i)^T v_{i+1}
    da    -= <g_i, v_{i+1}>

so only the vectors theta_0 ... theta_{N-1} need be kept, and what each step needs is computed again when its turn
comes: memory does not grow with the activations of N steps, as that of an unrolled graph does. The products are made
by :mod:`pdd_lightning.objectives.products`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pdd_lightning.functional import FunctionalNetwork
from pdd_lightning.memory import block
from pdd_lightning.objectives.products import StepGraph, StepMath

StepData = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(images of the learned subset, step) -> (training images, labels) of that step; differentiable in the images."""


@dataclass(frozen=True)
class Walk:
    """N steps of plain SGD as a function of the learned images and the learning rate.

    Attributes:
        network: The network.
        start: Parameters theta_0, shape (P,).
        steps: Number of steps N.
        data: What each step trains on.
        store: Keep each step's graph instead of building it again: faster, and memory then grows with N times the
            size of the activations.
        math: Makes the gradients and their products; None computes them as they come. Storing needs none.
    """

    network: FunctionalNetwork
    start: Tensor
    steps: int
    data: StepData
    store: bool = False
    math: StepMath | None = None


class _WalkFunction(torch.autograd.Function):
    """(images, alpha) -> theta_N, with the backward recursion of this module's docstring."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, alpha: Tensor, walk: Walk) -> Tensor:
        ctx.walk, ctx.images, ctx.alpha = walk, images.detach(), alpha.detach()
        theta, math = walk.start.detach(), walk.math or StepMath(walk.network)
        ctx.thetas, ctx.graphs = block(0 if walk.store else walk.steps, theta), []
        for step in range(walk.steps):
            x, labels = walk.data(ctx.images, step)
            if walk.store:
                graph = StepGraph(walk.network, theta, x, labels)
                ctx.graphs.append(graph)
                gradient = graph.gradient
            else:
                ctx.thetas[step] = theta
                gradient = math.gradient(theta, x, labels)
            theta = theta - ctx.alpha * gradient
        return theta if walk.steps else theta.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, None]:
        walk: Walk = ctx.walk
        (cotangent,) = cotangents
        images_gradient, alpha_gradient = torch.zeros_like(ctx.images), torch.zeros_like(ctx.alpha)
        math, leaf = walk.math or StepMath(walk.network), ctx.images.requires_grad_()
        for step in reversed(range(walk.steps)):
            with torch.enable_grad():
                x, labels = walk.data(leaf, step)
            if walk.store:
                slope, along, across = ctx.graphs[step].products(cotangent)
            else:
                slope, along, across = math.products(ctx.thetas[step], x.detach(), labels, cotangent)
            alpha_gradient -= slope
            (back,) = torch.autograd.grad(x, leaf, across, allow_unused=True, materialize_grads=True)
            images_gradient.sub_(back * ctx.alpha)
            cotangent = cotangent - ctx.alpha * along
        return images_gradient, alpha_gradient, None


def walk_end(images: Tensor, alpha: Tensor, walk: Walk) -> Tensor:
    """Parameters after training on the synthetic images, differentiable in the images and the learning rate.

    Args:
        images: Images of the learned subset, shape (n, C, H, W).
        alpha: Learning rate, a scalar tensor.
        walk: The rest of the walk.

    Returns:
        theta_N, shape (P,).
    """
    end: Tensor = _WalkFunction.apply(images, alpha, walk)
    return end
