"""When PyTorch's compiler is used, and what is said where it cannot be."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pdd_lightning.compute.lowering import lowered

COMPILED_FROM = 20_000
"""Steps of networks from which on compiling, which takes about 20 seconds, pays on a GPU (docs/performance.md)."""

WORTH = 3e13
"""Operations of networks from which on it pays on a CPU, a quarter of an hour of one core (docs/performance.md)."""

_COMPILED = 100
"""Shapes and kinds of networks that a process compiles at most."""

TRAINED = 3
"""A training step takes about three times the operations of a network's answers."""


def pays_to_compile(wanted: bool | None, device: torch.device, steps: int, operations: float) -> bool:
    """Whether to compile the steps of networks of one kind: unless that is unwanted, where they are many.

    Args:
        wanted: The option; None asks for it on a CPU alone.
        device: Where they are trained.
        steps: Optimiser steps of all networks.
        operations: Floating-point operations of all these steps. Not seconds: what is computed must not depend on how
            busy a machine is.
    """
    if device.type == "cpu":
        return wanted is not False and operations >= WORTH
    return wanted is True and steps >= COMPILED_FROM


def training_operations(network: nn.Module, image_shape: Sequence[int], images: int) -> float:
    """Floating-point operations of training a network, in products of matrices and convolutions.

    Args:
        network: The network, on the CPU; it answers once.
        image_shape: Channels, height and width.
        images: How many images it is shown, those of all steps counted.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, *image_shape))
    return float(TRAINED * images * counter.get_total_flops())


def warn_uncompiled(option: str, error: Exception) -> None:
    """Say that a network is computed as it comes.

    Args:
        option: That asked for a compiler.
        error: Of the compiler. One that has nothing to do with compiling comes again without.
    """
    first = str(error).strip().partition("\n")[0]
    warnings.warn(
        f"{option}: this network cannot be compiled here ({type(error).__name__}: {first}); going on "
        "without. Install a C++ compiler such as g++, or set it to false",
        stacklevel=4,
    )


class Compiler:
    """Compiles functions of tensors for each shape on their first use.

    Where that fails, for want of a C++ compiler or for what a network of the user's own does, a warning says so and
    everything is computed as it comes from then on.

    Args:
        option: That asked for a compiler, for the warning.

    Example:
        >>> compiler = Compiler("model.compile_networks")
        >>> compiler.usable = False  # as if it had failed
        >>> compiler.compiled(lambda x: x.square())(torch.tensor(3.0))
        tensor(9.)
    """

    def __init__(self, option: str) -> None:
        self.option, self.usable = option, True

    def compiled(
        self, function: Callable[..., Any], lower: bool = True, otherwise: Callable[..., Any] | None = None
    ) -> Callable[..., Any]:
        """A function that computes the same but for rounding, and of which nothing is differentiable.

        Args:
            function: Takes tensors of one device, and returns tensors.
            lower: Give the compiler :func:`lowered` operations, derivatives written out.
            otherwise: What to compute in its place where it cannot be compiled; None stands for the function itself.
        """
        made: dict[tuple[object, ...], Callable[..., Any]] = {}

        def compute(*tensors: Tensor) -> Any:
            if self.usable:
                key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
                try:
                    # Dynamo counts what all functions that are called in one way are compiled for.
                    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=_COMPILED):
                        if key not in made:
                            plain = lowered(function, *tensors) if lower else function
                            made[key] = torch.compile(plain, dynamic=False)
                        return made[key](*tensors)
                except torch.OutOfMemoryError:
                    raise
                except Exception as error:  # compilers fail in many ways
                    self.usable = False
                    warn_uncompiled(self.option, error)
            return (otherwise or function)(*tensors)

        return compute
