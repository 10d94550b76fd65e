"""The gradient of one training step, and its derivatives in a direction.

For the loss l(theta, x), its gradient g = grad_theta l, and a vector v, the walk needs <g, v>, H v (H = d g / d theta)
and (d g / d x)^T v. There are two exact ways:

- *Reverse over reverse*: build the graph of g and differentiate <g, v>. Fast as it comes.
- *Forward over reverse*: derivatives commute, so all three are derivatives along v, of l and of its gradient in
  (theta, x). A compiler can fuse it, and leaves out g itself, which nothing asks for; without a compiler its many small
  operations cost more than they save.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.func import grad, grad_and_value, jvp

from pdd_lightning.compute.compiling import Compiler
from pdd_lightning.compute.cuda_graphs import Recorded, is_known
from pdd_lightning.compute.functional import FunctionalNetwork


class Products(NamedTuple):
    """What one step backward needs of a step of training.

    Attributes:
        slope: <g, v>, a scalar.
        along: H v, shape (P,).
        across: (d g / d x)^T v, in the shape of x.
    """

    slope: Tensor
    along: Tensor
    across: Tensor


class StepGraph:
    """A step whose graph is kept until its products are asked for: reverse over reverse.

    Args:
        network: The network.
        theta: Parameters, shape (P,).
        x: Training images, shape (N, C, H, W).
        labels: Shape (N,).
    """

    def __init__(self, network: FunctionalNetwork, theta: Tensor, x: Tensor, labels: Tensor) -> None:
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            parameters = {n: p.detach().requires_grad_() for n, p in network.layout.unflatten(theta).items()}
            loss = network.loss(parameters, self._x, labels)
            self._leaves = list(parameters.values())
            self._parts = torch.autograd.grad(loss, self._leaves, create_graph=True)
        self._layout = network.layout

    @property
    def gradient(self) -> Tensor:
        """g, shape (P,)."""
        return torch.cat([part.detach().reshape(-1) for part in self._parts])

    def products(self, vector: Tensor) -> Products:
        """The products with a vector of shape (P,), which use the graph up."""
        directions = list(self._layout.unflatten(vector).values())
        *along, across = torch.autograd.grad(
            self._parts, [*self._leaves, self._x], grad_outputs=directions, allow_unused=True, materialize_grads=True
        )
        return Products(self.gradient @ vector, torch.cat([part.reshape(-1) for part in along]), across)


class StepMath:
    """Makes gradients and products as they are asked for.

    Args:
        network: The network.
    """

    def __init__(self, network: FunctionalNetwork) -> None:
        self.network = network
        known = is_known(network.template)
        self._gradients = Recorded(lambda *step: (self.gradient(*step),), known)
        self._products = Recorded(self.products, known)

    def release(self) -> None:
        """Let go of what was recorded."""
        self._gradients.release()
        self._products.release()

    def gradients(self, steps: Sequence[tuple[Tensor, Tensor, Tensor]]) -> list[Tensor]:
        """The gradients of several steps, as (theta, x, labels); see :meth:`gradient`. Recorded on a GPU."""
        return [gradient for (gradient,) in self._gradients(steps)]

    def products_of(self, steps: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> list[Products]:
        """The products of several steps, as (theta, x, labels, vector); see :meth:`products`. Recorded on a GPU."""
        return [Products(*found) for found in self._products(steps)]

    def gradient(self, theta: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        """The gradient.

        Args:
            theta: Where, shape (P,).
            x: Training images, shape (N, C, H, W).
            labels: Shape (N,).

        Returns:
            Shape (P,), detached.
        """
        # With its graph, which is let go at once: without, some layers give other last digits, and a walk would depend
        # on whether it keeps graphs.
        return StepGraph(self.network, theta, x, labels).gradient

    def products(self, theta: Tensor, x: Tensor, labels: Tensor, vector: Tensor) -> Products:
        """The products of the step at theta with a vector of shape (P,); see :meth:`gradient`."""
        return StepGraph(self.network, theta, x, labels).products(vector)


class CompiledStepMath(StepMath):
    """The same by forward over reverse, compiled on first use.

    Where it cannot be compiled, for want of a C++ compiler or for what a network of the user's own does, a warning says
    so and everything is computed as it comes.

    Args:
        network: The network.
    """

    def __init__(self, network: FunctionalNetwork) -> None:
        super().__init__(network)
        # Networks of their own: what a forward pass may keep while it is traced has no values.
        reverse, forward = (partial(way, deepcopy(network)) for way in (_reverse, _forward_over_reverse))
        compiler = Compiler("objective.compile")
        self._reverse = compiler.compiled(reverse, otherwise=super().gradient)
        self._forward = compiler.compiled(forward, otherwise=super().products)

    def gradient(self, theta: Tensor, x: Tensor, labels: Tensor) -> Tensor:
        """See :meth:`StepMath.gradient`."""
        gradient: Tensor = self._reverse(theta.clone(), x, labels)  # theta may be a row of a matrix
        return gradient

    def products(self, theta: Tensor, x: Tensor, labels: Tensor, vector: Tensor) -> Products:
        """See :meth:`StepMath.products`."""
        # As a row of a matrix, forward mode would have its tangent be one too.
        return Products(*self._forward(theta.clone(), x, labels, vector))


def _reverse(network: FunctionalNetwork, theta: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    """The gradient, shape (P,)."""

    def loss(theta: Tensor) -> Tensor:
        return network.loss(network.layout.unflatten(theta), x, labels)

    gradient: Tensor = grad(loss)(theta)
    return gradient


def _forward_over_reverse(
    network: FunctionalNetwork, theta: Tensor, x: Tensor, labels: Tensor, vector: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The products with a vector, in the order of :class:`Products`."""

    def loss(theta: Tensor, x: Tensor) -> Tensor:
        return network.loss(network.layout.unflatten(theta), x, labels)

    made: Any = jvp(grad_and_value(loss, (0, 1)), (theta, x), (vector, torch.zeros_like(x)))
    _, ((along, across), slope) = made
    return slope, along, across


def graph_bytes(network: FunctionalNetwork, theta: Tensor, x: Tensor, labels: Tensor) -> int:
    """Bytes that the graph of a step holds on to, beside its inputs.

    Args:
        network: The network.
        theta: Parameters, shape (P,).
        x: Training images, shape (N, C, H, W).
        labels: Shape (N,).
    """
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        graph = StepGraph(network, theta, x, labels)
    inputs = [tensor.untyped_storage().data_ptr() for tensor in (theta, x, labels)]
    del graph
    return sum(size for pointer, size in storages.items() if pointer not in inputs)
