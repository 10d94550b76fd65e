"""A hash of tensors and settings that is the same in every process and on every machine."""

import hashlib
import json

import numpy as np
from torch import Tensor


def digest(*parts: object) -> str:
    """Hash tensors by their contents and anything else by its JSON text.

    Args:
        parts: Tensors of any shape on any device, or values that JSON can hold. Order matters.

    Returns:
        32 hexadecimal digits.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Tensor):
            array = np.ascontiguousarray(part.detach().cpu().numpy())
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            header, body = f"{array.dtype.str} {list(array.shape)}", array.reshape(-1).view(np.uint8).data
        else:
            body = memoryview(json.dumps(part, sort_keys=True).encode())
            header = f"json {len(body)}"
        # The header fixes how many bytes follow, so no two lists of parts share a byte stream.
        hasher.update(f"{header}\n".encode())
        hasher.update(body)
    return hasher.hexdigest()
