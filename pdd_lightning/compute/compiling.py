"""When PyTorch's compiler is used, and what is said where it cannot be."""

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

COMPILED_FROM = 20_000
"""Steps of networks from which on compiling, which takes about 20 seconds, pays on a GPU (docs/performance.md)."""

WORTH = 3e13
"""Operations of networks from which on it pays on a CPU, a quarter of an hour of one core (docs/performance.md)."""

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
