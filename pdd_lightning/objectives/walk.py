"""Training on the synthetic set as a differentiable function of its images and its learning rate.

The walk of N plain SGD steps (Cazenavette et al., CVPR 2022, algorithm 1) is differentiated exactly. With
theta_{i+1} = theta_i - a g_i, g_i = grad l_i(theta_i, X), and the cotangent v_{i+1} of theta_{i+1}, one step
backward is

    v_i    = v_{i+1} - a H_i v_{i+1}          H_i = d g_i / d theta_i
    dX    -= a (d g_i / d X)^T v_{i+1}
    da    -= <g_i, v_{i+1}>

so only the vectors theta_0 ... theta_{N-1} need be kept, and each step's small graph is built again when its turn
comes: memory does not grow with the activations of N steps, as that of an unrolled graph does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pdd_lightning.functional import FunctionalNetwork

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
    """

    network: FunctionalNetwork
    start: Tensor
    steps: int
    data: StepData
    store: bool = False

    def gradient(
        self, theta: Tensor, images: Tensor, step: int, *, differentiable: bool
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """The loss gradient at a step.

        Args:
            theta: Shape (P,).
            images: Images of the learned subset.
            step: Which step.
            differentiable: Whether to build the graph of the gradient itself.

        Returns:
            The parameters as leaves, and the gradient of each.
        """
        with torch.enable_grad():
            parameters = {n: p.detach().requires_grad_() for n, p in self.network.layout.unflatten(theta).items()}
            loss = self.network.loss(parameters, *self.data(images, step))
            leaves = list(parameters.values())
            return leaves, torch.autograd.grad(loss, leaves, create_graph=differentiable)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])


class _WalkFunction(torch.autograd.Function):
    """(images, alpha) -> theta_N, with the backward recursion of this module's docstring."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, alpha: Tensor, walk: Walk) -> Tensor:
        images = images.detach().requires_grad_()
        theta, rate = walk.start.detach(), alpha.detach()
        ctx.walk, ctx.images, ctx.alpha = walk, images, rate
        ctx.thetas, ctx.graphs = [], []
        for step in range(walk.steps):
            ctx.thetas.append(theta)
            step_images = images if walk.store else images.detach()
            leaves, gradient = walk.gradient(theta, step_images, step, differentiable=walk.store)
            if walk.store:
                ctx.graphs.append((leaves, gradient))
            theta = theta - rate * _flat(gradient)
        return theta if walk.steps else theta.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, None]:
        walk: Walk = ctx.walk
        (cotangent,) = cotangents
        images_gradient = torch.zeros_like(ctx.images)
        alpha_gradient = torch.zeros_like(ctx.alpha)
        for step in reversed(range(walk.steps)):
            if walk.store:
                leaves, gradient = ctx.graphs[step]
            else:
                leaves, gradient = walk.gradient(ctx.thetas[step], ctx.images, step, differentiable=True)
            parts = list(walk.network.layout.unflatten(cotangent).values())
            alpha_gradient -= _flat(gradient) @ cotangent
            products = torch.autograd.grad(
                gradient, [*leaves, ctx.images], grad_outputs=parts, allow_unused=True, materialize_grads=True
            )
            images_gradient.sub_(products[-1] * ctx.alpha)
            cotangent = cotangent - ctx.alpha * _flat(products[:-1])
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
