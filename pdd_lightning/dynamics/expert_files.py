"""Snapshots of an expert on disk: only those that are read, in float32 or in half the space."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

Storage = Literal["float32", "bfloat16"]


def rows_read(first: int, last: int, ahead: int) -> list[int]:
    """The epochs whose snapshots a match may read.

    Args:
        first: Earliest epoch at which it starts.
        last: Latest epoch at which it starts, inclusive.
        ahead: Epochs from its start to its target.
    """
    starts = range(first, last + 1)
    return sorted({*starts, *(epoch + ahead for epoch in starts)})


def pack_rows(rows: Sequence[Tensor], storage: Storage) -> dict[str, Tensor]:
    """Snapshots as named tensors.

    In bfloat16 the first snapshot is kept in float32, and of each later one what it adds to the one before, as that is
    read back. Errors then do not add up: a snapshot is off by at most 0.4 % of the last addition. Snapshots that were
    rounded themselves would be farther from the expert than it goes in an epoch.

    Args:
        rows: Each of shape (P,), in the order of the epochs.
        storage: Which form.
    """
    if storage == "float32":
        return {"rows": torch.stack(list(rows))}
    read, steps = rows[0], []
    for row in rows[1:]:
        steps.append((row - read).bfloat16())
        read = read + steps[-1].float()
    return {"first": rows[0], "steps": torch.stack(steps)}


def read_row(file: Any, position: int, storage: Storage) -> Tensor:
    """One snapshot from an open safetensors file, of which only the pages that are needed are read.

    Args:
        file: What `safe_open` gave.
        position: Of the snapshot among those that are stored.
        storage: In which form they are.

    Returns:
        Shape (P,), float32.
    """
    if storage == "float32":
        row: Tensor = file.get_slice("rows")[position]
        return row
    read: Tensor = file.get_tensor("first")
    steps = file.get_slice("steps")
    for index in range(position):
        read = read + steps[index].float()
    return read


def stored_bytes(rows: int, parameters: int, storage: Storage) -> int:
    """Bytes that the snapshots of an expert take on disk.

    Args:
        rows: Number of snapshots.
        parameters: Number of elements P of each.
        storage: Which form.
    """
    later = 2 if storage == "bfloat16" else 4
    return (4 + later * (rows - 1)) * parameters
