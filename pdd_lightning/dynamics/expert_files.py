"""Snapshots of an expert on disk: only those that are read, in float32 or in half the space."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.digests import differing_keys
from pdd_lightning.store.files import read_tensors, require_format
from pdd_lightning.types import Json

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


def holds_expert(path: Path, settings: Json, epochs: list[int], name: str | None = None) -> bool:
    """Whether a file holds an expert of these settings with the snapshots of these epochs.

    A lesser or damaged one is made again: experts can always be rebuilt. One made under other settings did not
    come from here, and is refused.

    Args:
        path: The file.
        settings: What the expert's numbers depend on.
        epochs: Of the snapshots.
        name: Of the expert; with it the contents are checked against their digest too.

    Raises:
        ArtifactError: If it was made under other settings.
    """
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = json.loads(metadata.get("epochs", "[]"))
            # Rows in bfloat16 are sums over those before, so that others before them make them others.
            enough = stored == epochs if settings["storage"] == "bfloat16" else {*epochs} <= {*stored}
    except (SafetensorError, OSError, ValueError, TypeError):
        return False
    try:
        found = json.loads(metadata["settings"])
    except (KeyError, ValueError):
        found = {}
    require_format(path, metadata.get("format"))
    if found != settings:
        raise ArtifactError(
            f"{path} was made for another network, data set or training: {'; '.join(differing_keys(found, settings))}. "
            f"Delete {path.parent} to train these experts again, or point --experts_dir elsewhere"
        )
    if name is not None and enough:
        try:
            read_tensors(path)
        except ArtifactError:
            return False
        return bool(metadata.get("member", name) == name)
    return enough
