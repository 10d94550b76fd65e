"""Lightning checkpoints that are whole or not there, and that say when they were changed."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from pdd_lightning.disk import read_checkpoint
from pdd_lightning.sealing import SEAL, seal_of
from pdd_lightning.store import atomic_write


class SealedCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file first, and never unpickles more than tensors and primitives."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint with its seal, as one file or not at all.

        Raises:
            ArtifactError: If the folder cannot be written; earlier checkpoints are then untouched.
        """
        buffer = io.BytesIO()
        torch.save({**checkpoint, SEAL: seal_of(checkpoint)}, buffer)
        atomic_write(Path(path), buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint on the CPU and check its seal.

        Raises:
            ArtifactError: If it is damaged, was changed, or holds anything but tensors and primitives.
        """
        return read_checkpoint(str(path))
