"""Digests inside files: neither safetensors nor torch's checkpoints notice a flipped bit by themselves."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

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


def sorted_header(data: bytes) -> bytes:
    """A safetensors file whose header is in order: safetensors leaves the order of metadata to chance.

    The digest of a stage's files then depends on nothing but their content, so a stage that was made again just as
    it was still suits the stages after it.
    """
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:body]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors are aligned to 8 bytes
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(data)[body:]))


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
