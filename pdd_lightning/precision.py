"""The precision in which networks are trained."""

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which losses are computed: convolutions and products in bfloat16, or everything as it is.

    Parameters, gradients and optimisers stay in float32.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
