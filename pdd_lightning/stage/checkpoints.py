"""Lightning checkpoints of a stage: when they are saved, whole or not at all, and read with their contents checked."""

import io
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.process.signals import Interrupted, deferred, pending
from pdd_lightning.store.digests import SEAL, seal_of
from pdd_lightning.store.files import atomic_write


def check_schedule(steps: int, minutes: float) -> None:
    """Refuse a schedule of checkpoints that is not positive.

    Args:
        steps: Optimiser steps between two checkpoints.
        minutes: Minutes between two checkpoints.

    Raises:
        ConfigError: Naming the option.
    """
    if steps < 1:
        raise ConfigError(f"--checkpoint_every must be at least 1, got {steps}")
    if not minutes > 0:
        raise ConfigError(f"--checkpoint_minutes must be positive, got {minutes}")


class StageCheckpoint(Checkpoint):
    """Saves every so many steps, every so many minutes, and when a signal asks the process to stop.

    All processes save at the same step: they agree on it after every step.

    Args:
        folder: Where to save.
        steps: Optimiser steps between two checkpoints.
        minutes: Minutes between two checkpoints.
        clock: Seconds from any origin, never going back.

    Raises:
        ConfigError: If the schedule is not positive.

    Example:
        >>> checkpoints = StageCheckpoint(Path("checkpoints/mine/stage_01/checkpoints"), steps=100, minutes=10)
        >>> latest_checkpoint(checkpoints.folder) is None  # before the first one
        True
    """

    def __init__(self, folder: Path, steps: int, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        check_schedule(steps, minutes)
        self.folder, self.steps, self.seconds, self._clock = folder, steps, 60 * minutes, clock
        self._saved_at, self._saved_step = 0.0, -1
        self._stack = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on a signal waits for the end of the step."""
        self._stack.enter_context(deferred())
        self._saved_at, self._saved_step = self._clock(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where the schedule or a signal says so.

        Raises:
            Interrupted: After a signal, when everything is saved.
        """
        stop, due = self._agreed(trainer, pending() is not None, self._clock() - self._saved_at >= self.seconds)
        if stop or due or trainer.global_step % self.steps == 0:
            self._save(trainer)
        if stop:
            raise Interrupted(pending() or "a signal to another process of this run")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step: what follows may be interrupted too."""
        self._save(trainer)
        self._stack.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let signals through again."""
        self._stack.close()

    def _agreed(self, trainer: Trainer, *asked: bool) -> list[bool]:
        """What any of the processes asks for, on all of them."""
        if trainer.world_size == 1:
            return list(asked)
        flags = torch.tensor([float(each) for each in asked], device=trainer.strategy.root_device)
        reduced = trainer.strategy.reduce(flags, reduce_op="max")
        assert isinstance(reduced, torch.Tensor)
        return [bool(flag) for flag in reduced.tolist()]

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step == self._saved_step:
            return
        trainer.save_checkpoint(checkpoint_path(self.folder, trainer.global_step), weights_only=False)
        self._saved_at, self._saved_step = self._clock(), trainer.global_step
        if trainer.is_global_zero:
            for path in checkpoints_in(self.folder)[:-KEPT]:
                path.unlink(missing_ok=True)


KEPT = 2
"""Newest checkpoints of a stage that stay: the one before the last is there in case the last is damaged."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after so many steps lies."""
    return folder / f"step={step}.ckpt"


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, by their steps; files of other names are none of ours."""
    found = {path: re.fullmatch(r"step=(\d{1,15})\.ckpt", path.name) for path in folder.glob("step=*.ckpt")}
    return [path for _, path in sorted((int(name[1]), path) for path, name in found.items() if name)]


def latest_checkpoint(folder: Path) -> str | None:
    """The checkpoint with most steps, if there is one."""
    found = checkpoints_in(folder)
    return str(found[-1]) if found else None


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


class SealedCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file first, and never unpickles more than tensors and primitives.

    Example:
        >>> trainer = Trainer(plugins=[SealedCheckpointIO()], accelerator="cpu", logger=False)
    """

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
