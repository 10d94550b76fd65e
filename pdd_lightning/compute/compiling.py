"""When PyTorch's compiler is used, and what is said where it cannot be."""

import warnings

COMPILED_FROM = 20_000
"""Steps of networks from which on compiling, which takes about 20 seconds, pays on a GPU (docs/performance.md)."""


def pays_to_compile(wanted: bool, steps: int) -> bool:
    """Whether to compile the steps of networks of one kind: if that is wanted, and they are many.

    Args:
        wanted: The option.
        steps: Optimiser steps of all networks.
    """
    return wanted and steps >= COMPILED_FROM


def warn_uncompiled(option: str, error: Exception) -> None:
    """Say that a network is computed as it comes.

    Args:
        option: That asked for a compiler.
        error: Of the compiler. One that has nothing to do with compiling comes again without.
    """
    first = str(error).strip().partition("\n")[0]
    warnings.warn(
        f"{option}=true: this network cannot be compiled here ({type(error).__name__}: {first}); going on "
        "without. Install a C++ compiler such as g++, or set it to false",
        stacklevel=4,
    )
