"""Small tensors on their way to where the work is done."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor on a device, without waiting until a GPU has finished what it does.

    Args:
        tensor: Not changed; on the CPU it may be let go or overwritten at once, for the copy has left it.
        device: Where it is needed.
        dtype: The floating-point type in which it is needed.
    """
    # The other way, from a GPU, values would be read before they have come.
    return tensor.to(device, dtype, non_blocking=torch.device(device).type == "cuda")
