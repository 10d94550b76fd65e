"""What a run really took: a callback for stages and a note-book for the evaluation, both kept in the run's folder.

The files are no artifacts: nothing depends on them, no fingerprint covers them, and a run goes on if they cannot be
written.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pdd_lightning.errors import ArtifactError
from pdd_lightning.evaluation.protocol import SELECTION
from pdd_lightning.planning.readings import folder_bytes, peak_memory, since_start
from pdd_lightning.stage.module import StageModule
from pdd_lightning.store.files import read_json, write_json
from pdd_lightning.types import Json

FILE = "usage.json"
"""In the folder of a stage and in that of the evaluation."""

START, PREPARATION, DISTILLATION, TRANSITION = WORKS = ("start", "preparation", "distillation", "transition")
"""The works of a stage, in order: process and data; experts; the steps; start states of the next stage, and files."""


class StageUsage(Callback):
    """Writes `usage.json` of a stage: seconds of each work, peak memory, bytes.

    A stage that is continued adds to what is noted already. It is noted at every checkpoint, after an interruption
    and at the end; what a process that is killed did since its last checkpoint is lost from the notes too. Put it after
    the callback that makes the transition.
    """

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(WORKS, 0.0)
        self._work, self._since = START, 0.0
        self._earlier: Json = {}
        self._experts_before = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The process has started and the data are read."""
        module = pl_module
        assert isinstance(module, StageModule)
        self._earlier = read_usage(module.folder.directory / FILE)
        self._experts_before = folder_bytes(module.options.experts_folder)
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
        experts = folder_bytes(module.options.experts_folder) - self._experts_before
        note_usage(
            module.folder.directory / FILE,
            {
                "processes": _number(earlier, "processes") + 1,
                "seconds": {
                    work: round(value + _number(earlier, "seconds", work), 3) for work, value in self._seconds.items()
                },
                # Not the module's device: at the end it is back on the host.
                "peak_memory": _peaks(earlier, trainer.strategy.root_device),
                "bytes": {
                    "stage": folder_bytes(module.folder.directory),
                    "experts": max(0, experts) + int(_number(earlier, "bytes", "experts")),
                },
            },
        )


class EvaluationUsage:
    """Writes `usage.json` of an evaluation: seconds of every job that was trained, peak memory.

    An evaluation that is continued adds to what is noted already. One under other settings keeps what earlier ones
    noted of jobs that it does not train.

    Args:
        folder: Of the evaluation.
        identity: Fingerprint of its settings.
        device: Where it trains.
        main: Whether this process writes.
    """

    def __init__(self, folder: Path, identity: str, device: torch.device, main: bool = True) -> None:
        self._path, self._identity, self._device, self._main = folder / FILE, identity, device, main
        self._earlier = read_usage(self._path)
        self._continued = self._earlier.get("identity") == identity
        self._start = since_start() + (_number(self._earlier, "start") if self._continued else 0.0)
        found = self._earlier.get("jobs")
        self._jobs: dict[str, float] = dict(found) if isinstance(found, dict) else {}
        self._mine: set[str] = set()

    @contextmanager
    def job(self, label: str) -> Iterator[None]:
        """Note how long the block takes, under this label; one that fails is not noted."""
        began = time.perf_counter()
        yield
        # What selections trained is found again, whatever the settings of the evaluation.
        adds = self._continued or label in self._mine or label == SELECTION
        before = self._jobs.get(label, 0.0) if adds else 0.0
        self._jobs[label] = round(time.perf_counter() - began + before, 3)
        self._mine.add(label)
        if self._main:
            value: Json = {
                "identity": self._identity,
                "start": round(self._start, 3),
                "jobs": self._jobs,
                "peak_memory": _peaks(self._earlier, self._device),
            }
            note_usage(self._path, value)


def read_usage(path: Path) -> Json:
    """What was noted, or nothing."""
    try:
        return read_json(path)
    except ArtifactError:
        return {}


def note_usage(path: Path, value: Json) -> None:
    """Write a note; a run does not fail for one."""
    with suppress(ArtifactError):
        write_json(path, value)


def _number(value: object, *keys: str) -> float:
    """A number in nested notes, 0 where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, (int, float)) else 0


def _peaks(earlier: Json, device: torch.device) -> Json:
    return {
        name: None if peak is None else max(peak, int(_number(earlier, "peak_memory", name)))
        for name, peak in peak_memory(device).items()
    }
