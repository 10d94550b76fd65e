"""What a command looks for on the disk before it starts: checkpoints, and folders that can be written."""

import os
from pathlib import Path
from typing import Any

import torch

from pdd_lightning.errors import ArtifactError, ConfigError


def latest_checkpoint(folder: Path) -> str | None:
    """The checkpoint with most steps, if there is one."""
    found = {int(path.stem.partition("=")[2]): path for path in folder.glob("step=*.ckpt")}
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
            f"{path} is damaged or not a checkpoint ({type(error).__name__}); delete it to start the stage again"
        ) from error
    return checkpoint


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
