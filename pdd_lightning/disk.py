"""What a command looks for on the disk before it starts: checkpoints, and folders that can be written."""

import os
import re
import time
from pathlib import Path
from typing import Any

import torch

from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.sealing import SEAL, seal_of

KEPT = 2
"""Newest checkpoints of a stage that stay: the one before the last is there in case the last is damaged."""


def step_of(path: Path) -> int | None:
    """The step that the name of a checkpoint says; None if it is not one of ours."""
    found = re.fullmatch(r"step=(\d{1,15})\.ckpt", path.name)
    return int(found[1]) if found else None


def latest_checkpoint(folder: Path) -> str | None:
    """The checkpoint with most steps, if there is one."""
    found = {step: path for path in folder.glob("step=*.ckpt") if (step := step_of(path)) is not None}
    return str(found[max(found)]) if found else None


def read_checkpoint(path: str) -> dict[str, Any]:
    """Lightning's checkpoint, tensors and primitives only.

    Raises:
        ArtifactError: If it is damaged or holds anything else.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises many kinds, and its text proposes to read the file without any caution.
        raise ArtifactError(
            f"{path} is damaged or not a checkpoint ({type(error).__name__}); delete it to continue from the "
            "checkpoint before it, or to start the stage again where there is none"
        ) from error
    if not isinstance(checkpoint, dict) or checkpoint.get(SEAL) != seal_of(checkpoint):
        raise ArtifactError(
            f"{path} is damaged (its contents do not match their digest); delete it to continue from the checkpoint "
            "before it, or to start the stage again where there is none"
        )
    return checkpoint


def remove_unfinished(folder: Path, shared: Path) -> None:
    """Remove what a process left that was killed while it wrote: temporary files of ours, which nothing reads.

    Args:
        folder: Of the run, in which nobody else works.
        shared: A folder in it that other runs may write to: there a temporary file must be an hour old.
    """
    for path in folder.rglob(".*.tmp"):
        if not re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", path.name) or not path.is_file():
            continue
        if shared not in path.parents or time.time() - path.stat().st_mtime > 3600:
            path.unlink(missing_ok=True)


def require_writable(folder: Path, option: str) -> None:
    """Check that a folder can be written or made, without making it: others may still refuse.

    Raises:
        ConfigError: If that is not possible.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        reason = f"{existing} is not a folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        reason = f"no permission to write in {existing}"
    else:
        return
    raise ConfigError(f"{option}: cannot write to {folder} ({reason}); choose another folder or mend its permissions")
