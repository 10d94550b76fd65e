"""What a person sees while a stage is fitted: a progress bar, and pictures in its logs."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pdd_lightning.errors import ConfigError
from pdd_lightning.progress import Progress, Task
from pdd_lightning.stage.logs import picture
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import header
from pdd_lightning.stage.pictures import grid_tensor

log = logging.getLogger(__name__)


class ImageMonitor(Callback):
    """Sends a picture of the stage's images to the trainer's loggers as they develop, up to the last step.

    Args:
        every: Steps between two pictures; None makes it a hundred, or so many that a stage has about twenty.

    Example:
        >>> quiet = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
        >>> trainer = Trainer(max_steps=100, callbacks=[ImageMonitor(every=50)], **quiet)  # at steps 0, 50 and 100
        >>> ImageMonitor(every=0)
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.ConfigError: ImageMonitor.every must be at least 1, got 0
    """

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise ConfigError(f"ImageMonitor.every must be at least 1, got {every}")
        self.every = every
        self._sent = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The images before the first step."""
        self._send(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The images now and then."""
        if isinstance(pl_module, StageModule):
            every = self.every or max(100, pl_module.iterations // 20)
            if trainer.global_step % every == 0:
                self._send(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The images after the last step."""
        self._send(trainer, pl_module)

    @torch.no_grad()
    def _send(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.loggers or not trainer.is_global_zero or not isinstance(pl_module, StageModule):
            return
        if trainer.global_step == self._sent:
            return
        self._sent = trainer.global_step
        subset, data = pl_module.subset(), pl_module.data
        pixels, labels = data.preprocessing.invert(subset.data.images), subset.data.labels
        try:
            stages, above = torch.full_like(labels, subset.stage), header(pl_module.options)
            grid = grid_tensor(pixels, labels, stages, data.class_names, above)
        except Exception as error:  # a font, the drawing library: neither is worth the work of a stage
            log.warning("the picture of step %s could not be made: %s", trainer.global_step, error)
            return
        picture(trainer.loggers, "synthetic images", grid, trainer.global_step)


class StepCount(Callback):
    """Tells of every step of a fit.

    Args:
        advance: What is told.

    Example:
        >>> with Progress(enabled=False) as progress, progress.task("steps", total=100) as task:
        ...     trainer = Trainer(max_steps=100, callbacks=[StepCount(task.advance)], accelerator="cpu", logger=False)
    """

    def __init__(self, advance: Callable[[int], object]) -> None:
        self.advance = advance

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step is done."""
        self.advance(1)


class StepProgress(Callback):
    """One bar for a fit, or one plain line now and then where there is no terminal.

    Args:
        description: What is being fitted.
        total: Optimiser steps.
        metric: Name of a logged value to show beside it.

    Example:
        >>> bar = StepProgress("stage 1", total=100, metric="loss")
        >>> trainer = Trainer(max_steps=100, callbacks=[bar], accelerator="cpu", logger=False)
    """

    def __init__(self, description: str, total: int, metric: str | None = None) -> None:
        self.description, self.total, self.metric = description, total, metric
        self._stack = ExitStack()
        self._task: Task | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        progress = self._stack.enter_context(Progress(enabled=trainer.is_global_zero))
        self._task = self._stack.enter_context(progress.task(self.description, self.total))
        if trainer.global_step:
            self._task.advance(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._task is None:
            return
        value = trainer.callback_metrics.get(self.metric) if self.metric else None
        if value is not None:
            self._task.description = f"{self.description}, {self.metric} {float(value):.3f}"
        self._task.advance()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message after it is legible."""
        self._close()

    def _close(self) -> None:
        self._task = None
        self._stack.close()
