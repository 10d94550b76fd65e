"""What a stage really took, in its `usage.json`.

Such files are no artifacts: nothing depends on them, no fingerprint covers them, and a run goes on if they cannot be
written.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pdd_lightning.compute.peaks import peak_memory
from pdd_lightning.errors import ArtifactError
from pdd_lightning.process.clock import since_start
from pdd_lightning.process.ranks import sharing
from pdd_lightning.stage.module import StageModule
from pdd_lightning.store.files import folder_bytes, read_json, write_json
from pdd_lightning.types import Json

START, PREPARATION, DISTILLATION, TRANSITION = WORKS = ("start", "preparation", "distillation", "transition")
"""The works of a stage, in order: process and data; experts; the steps; start states of the next stage, and files."""


class StageUsage(Callback):
    """Notes a stage's seconds of each work, peak memory and bytes of experts; one that is continued adds to them.

    It is noted at every checkpoint, after an interruption and at the end; what a process that is killed did since its
    last checkpoint is lost from the notes too. Put it after the callback that makes the transition.

    Example:
        >>> from pdd_lightning.stage.callback import StageCallback
        >>> trainer = Trainer(callbacks=[StageCallback(), StageUsage()], accelerator="cpu", logger=False)
    """

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(WORKS, 0.0)
        self._work, self._since = START, 0.0
        self._earlier: Json = {}
        self._experts_before = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The process has started and the data are read."""
        assert isinstance(pl_module, StageModule)
        self._earlier = read_usage(pl_module.folder.usage)
        self._experts_before = _experts(pl_module)
        self._seconds[START] = since_start()
        self._work, self._since = PREPARATION, time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The dynamics is prepared."""
        self._turn_to(DISTILLATION)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The steps are done."""
        self._turn_to(TRANSITION)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The stage is written."""
        self._note(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The work so far counts too."""
        if self._since:
            self._note(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What the checkpoint keeps is noted with it."""
        self._note(trainer, pl_module)

    def _turn_to(self, work: str) -> None:
        now = time.perf_counter()
        self._seconds[self._work] += now - self._since
        self._work, self._since = work, now

    def _note(self, trainer: Trainer, module: LightningModule) -> None:
        self._turn_to(self._work)
        if not trainer.is_global_zero or not isinstance(module, StageModule):
            return
        earlier = self._earlier
        experts = max(0, _experts(module) - self._experts_before)
        value: Json = {
            "sharing": sharing(),
            "processes": number_in(earlier, "processes") + 1,
            "seconds": {work: round(s + number_in(earlier, "seconds", work), 3) for work, s in self._seconds.items()},
            "bytes": {"experts": experts + int(number_in(earlier, "bytes", "experts"))},
        }
        # Not the module's device: at the end it is back on the host.
        write_usage(module.folder.usage, value, earlier, trainer.strategy.root_device)


def _experts(module: StageModule) -> int:
    """Bytes of the experts of a stage; those of other stages may be made at the same time."""
    return sum(map(folder_bytes, module.options.experts_folder.glob(f"stage_{module.stage:02d}-*")))


def read_usage(path: Path) -> Json:
    """What was noted, or nothing."""
    try:
        return read_json(path)
    except ArtifactError:
        return {}


def write_usage(path: Path, value: Json, earlier: Json, device: torch.device) -> None:
    """Write a note with the largest peaks so far; a run does not fail for one."""
    found = {name: (peak, number_in(earlier, "peak_memory", name)) for name, peak in peak_memory(device).items()}
    peaks = {name: None if peak is None else max(peak, int(before)) for name, (peak, before) in found.items()}
    with suppress(ArtifactError):
        write_json(path, {**value, "peak_memory": peaks})


def number_in(value: object, *keys: str) -> float:
    """A number in nested notes, 0 where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, (int, float)) else 0
