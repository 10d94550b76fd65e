"""Digests of settings, tensors and files: the same in every process and on every machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor


def fingerprint(value: object) -> str:
    """Digest of anything JSON can hold, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def differing_keys(old: Mapping[str, object], new: Mapping[str, object], prefix: str = "") -> list[str]:
    """Dotted names of what differs between two nested settings, each with both values."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} then, {b!r} now")
    return lines


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


SEAL: Final = "pdd_seal"
"""Key of a checkpoint's digest in the checkpoint."""


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Digest of what a safetensors file holds: the format has no checksum, and a flipped bit would go unnoticed.

    Args:
        tensors: On the CPU, contiguous.
        metadata: The digest itself may be among them.
    """
    hasher = hashlib.blake2b(digest_size=16)
    told = {key: value for key, value in metadata.items() if key != "digest"}
    hasher.update(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hasher.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def seal_of(checkpoint: Mapping[str, Any]) -> str:
    """Digest of a checkpoint's contents: torch's file format has checksums, but does not look at them.

    Args:
        checkpoint: Tensors and primitives in nested dicts and lists; its own seal is left out.
    """
    hasher = hashlib.blake2b(digest_size=16)
    _feed(hasher, {key: value for key, value in checkpoint.items() if key != SEAL})
    return hasher.hexdigest()


def _feed(hasher: "hashlib.blake2b", value: object) -> None:
    if isinstance(value, Tensor):
        hasher.update(f"tensor {value.dtype} {list(value.shape)}\n".encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        hasher.update(f"dict {len(value)}\n".encode())
        for key, part in value.items():
            hasher.update(f"{key!r}\n".encode())
            _feed(hasher, part)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        hasher.update(f"list {len(value)}\n".encode())
        for part in value:
            _feed(hasher, part)
    else:
        hasher.update(f"{value!r}\n".encode())
