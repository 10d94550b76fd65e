"""Progress of long loops: bars on a terminal, a plain line now and then in a log file."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from importlib.util import find_spec
from types import TracebackType
from typing import Final, Self, TypeVar

from rich import progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

LINE_INTERVAL: Final = 10.0
"""Seconds between two lines in a log."""

SILENT_BELOW: Final = 3.0
"""Seconds that work must take to be worth a line in a log."""

Item = TypeVar("Item")


class Task:
    """A counted piece of work, made by `Progress.task`.

    Attributes:
        description: What is being done.
        total: Number of steps, None if unknown.
        done: Number of steps so far.

    Example:
        >>> with Progress(enabled=False) as progress, progress.task("experts", total=3) as task:
        ...     task.advance()
        ...     print(task)
        experts 1/3
    """

    def __init__(self, description: str, total: int | None, started: float, report: Callable[["Task"], None]) -> None:
        self.description = description
        self.total = total
        self.done = 0
        self.started = started
        self._report = report

    def advance(self, steps: int = 1) -> None:
        """Count steps as done and show it."""
        self.done += steps
        self._report(self)

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.description} {self.done}" if self.done else self.description
        return f"{self.description} {self.done}/{self.total}"


class Progress:
    """Shows nested work while the `with` block lasts.

    On a terminal each task is a bar with its count, rate and remaining time; the bars of inner tasks go when
    the task ends. Elsewhere there is a plain line about all open tasks at most every `LINE_INTERVAL` seconds,
    and one when an outermost task ends that took at least `SILENT_BELOW` seconds.

    Inside the block of another `Progress` it shows its tasks there: a terminal has room for one display.

    Args:
        enabled: False shows nothing; give it on all ranks but the first.
        console: Where to show it; standard error by default, which leaves standard output to results.
        clock: Seconds from any origin, never going back.

    Example:
        >>> with Progress() as progress:
        ...     squares = [number**2 for number in progress.track(range(4), description="squares")]
        >>> squares
        [0, 1, 4, 9]
    """

    _active: "Progress | None" = None
    _muted = False

    def __init__(
        self,
        *,
        enabled: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enabled = enabled and not Progress._muted
        self._console = Console(stderr=True) if console is None else console
        self._clock = clock
        self._host = self
        self._bars: bars.Progress | None = None
        self._ids: dict[Task, bars.TaskID] = {}
        self._open: list[Task] = []
        self._last_line = float("-inf")

    def __enter__(self) -> Self:
        if not self._enabled:
            return self
        if Progress._active is not None:
            self._host = Progress._active
            return self
        Progress._active = self
        if _can_redraw(self._console):
            self._bars = _make_bars(self._console)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if Progress._active is self:
            Progress._active = None
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._host = self

    @contextmanager
    def task(self, description: str, total: int | None = None, *, announce: bool = False) -> Iterator[Task]:
        """Count a piece of work whose steps are not the items of one iterable.

        Args:
            description: What is being done.
            total: Number of steps, None if unknown.
            announce: Whether a log gets a line before the first step, which may take long.
        """
        host = self._host
        shown = self._enabled and Progress._active is host
        task = Task(description, total, host._clock(), host._advanced if shown else _ignore)
        if not shown:
            yield task
            return
        host._open.append(task)
        if host._bars is not None:
            host._ids[task] = host._bars.add_task(description, total=total)
        elif announce:
            host._print(host._shown(), task.started)
        try:
            yield task
            host._finished(task)  # not after an error or a break, where "finished" would be false
        finally:
            inner = host._open[0] is not task
            host._open.remove(task)
            bar = host._ids.pop(task, None)
            if host._bars is not None and bar is not None and inner:
                host._bars.remove_task(bar)

    def track(self, iterable: Iterable[Item], *, description: str, total: int | None = None) -> Iterator[Item]:
        """Yield the items and count them.

        Args:
            iterable: What to loop over.
            description: What is being done.
            total: Number of items; `len(iterable)` by default where that exists.
        """
        with self.task(description, _length(iterable) if total is None else total) as task:
            for item in iterable:
                yield item
                task.advance()

    def _advanced(self, task: Task) -> None:
        if self._bars is not None:
            self._bars.update(self._ids[task], completed=task.done, description=task.description)
            return
        now = self._clock()
        # Measured from the outermost start too: short work after a long pause is not worth a line.
        if now - max(self._last_line, self._open[0].started) < LINE_INTERVAL:
            return
        pieces = [self._shown()]
        elapsed = now - task.started
        if elapsed > 0:
            pieces.append(_rate(task.done / elapsed))
        if task.total is not None and task.done > 0:
            remaining = elapsed * max(task.total - task.done, 0) / task.done
            pieces.append(f"{duration(remaining)} left")
        self._print(", ".join(pieces), now)

    def _finished(self, task: Task) -> None:
        now = self._clock()
        elapsed = now - task.started
        if self._bars is None and self._open[0] is task and elapsed >= SILENT_BELOW:
            self._print(f"{task} in {duration(elapsed)}, {_rate(task.done / elapsed)}", now)

    def _shown(self) -> str:
        return " | ".join(str(each) for each in self._open)

    def _print(self, line: str, now: float) -> None:
        # soft_wrap: rich would break lines at 80 columns where there is no terminal to ask.
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._last_line = now


def track(
    iterable: Iterable[Item], *, description: str, total: int | None = None, enabled: bool = True
) -> Iterator[Item]:
    """Yield the items and show how far the loop is; calls may be nested.

    Args:
        iterable: What to loop over.
        description: What is being done.
        total: Number of items; `len(iterable)` by default where that exists.
        enabled: False shows nothing; give it on all ranks but the first.
    """
    with Progress(enabled=enabled) as progress:
        yield from progress.track(iterable, description=description, total=total)


def mute() -> None:
    """Show nothing from here on: this process works for another one, which shows what both do."""
    Progress._muted, Progress._active = True, None


@contextmanager
def announced(description: str) -> Iterator[None]:
    """Show a piece of work that has no steps, from its beginning.

    Args:
        description: What is being done.
    """
    with Progress() as progress, progress.task(description, announce=True):
        yield


class _RateColumn(bars.ProgressColumn):
    """Steps per second."""

    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _rate(speed), style="progress.data.speed")


def _can_redraw(console: Console) -> bool:
    """Whether bars can move there: a notebook draws over what it shows only by widgets."""
    return console.is_interactive and (not console.is_jupyter or find_spec("ipywidgets") is not None)


def _make_bars(console: Console) -> bars.Progress:
    def whole() -> Column:
        return Column(no_wrap=True)

    return bars.Progress(
        # On a narrow terminal a long description takes a second line, and no number is cut off.
        bars.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False)),
        bars.BarColumn(40 if console.width >= 120 else 10, table_column=whole()),
        bars.MofNCompleteColumn(table_column=whole()),
        _RateColumn(table_column=whole()),
        bars.TimeRemainingColumn(elapsed_when_finished=True, table_column=whole()),
        console=console,
        # Prints must scroll above the bars, but not leave a file that standard output was sent to.
        redirect_stdout=sys.stdout.isatty(),
    )


def _ignore(task: Task) -> None:
    """Report nothing."""


def _length(iterable: Iterable[object]) -> int | None:
    try:
        return len(iterable) if isinstance(iterable, Sized) else None
    except TypeError:  # a DataLoader has __len__ even where its data set has none
        return None


def duration(seconds: float) -> str:
    """Seconds as people say them, with the units that matter."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f} it/s" if per_second >= 100 else f"{per_second:.3g} it/s"
