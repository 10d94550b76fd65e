"""What an evaluation really took, in its `usage.json`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pdd_lightning.evaluation.protocol import SELECTION
from pdd_lightning.process.clock import since_start
from pdd_lightning.stage.usage import number_in, read_usage, write_usage
from pdd_lightning.types import Json


class EvaluationUsage:
    """Notes seconds of every job that was trained, and peak memory; an evaluation that is continued adds to that.

    One under other settings keeps what earlier ones noted of jobs that it does not train.

    Args:
        path: Where it notes.
        identity: Fingerprint of its settings.
        device: Where it trains.
        main: Whether this process writes.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     usage = EvaluationUsage(Path(folder, "usage.json"), "fingerprint", torch.device("cpu"))
        ...     with usage.job("full union, ConvNet"):
        ...         pass  # trained here
        ...     list(read_usage(Path(folder, "usage.json"))["jobs"])
        ['full union, ConvNet']
    """

    def __init__(self, path: Path, identity: str, device: torch.device, main: bool = True) -> None:
        self._path, self._identity, self._device, self._main = path, identity, device, main
        self._earlier = read_usage(self._path)
        self._continued = self._earlier.get("identity") == identity
        self._start = since_start() + (number_in(self._earlier, "start") if self._continued else 0.0)
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
            value: Json = {"identity": self._identity, "start": round(self._start, 3), "jobs": self._jobs}
            write_usage(self._path, value, self._earlier, self._device)
