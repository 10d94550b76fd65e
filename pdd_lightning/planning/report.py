"""Plans and comparisons as tables for the terminal."""

from collections.abc import Callable, Sequence

from rich.box import SIMPLE
from rich.table import Table

from pdd_lightning.planning.estimate import Amounts

_TITLES = {"start": "start, data", "preparation": "experts / preparation", "transition": "transition, writing"}


def duration(seconds: float) -> str:
    """Seconds as people say them, with the units that matter."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def plan_table(plan: Amounts, used: Amounts | None = None) -> Table:
    """The estimate, and beside it what the run has used so far.

    Args:
        plan: Before the run.
        used: Noted while it ran; None shows the estimate alone.
    """
    table = Table(title="Plan" if used is None else "Plan and use", box=SIMPLE, padding=(0, 1))
    table.add_column("part")
    table.add_column("work", overflow="fold")
    for column in ("time",) if used is None else ("plan", "used", "plan/used"):
        table.add_column(column, justify="right", no_wrap=True)
    spent = {(line.part, line.work): line.seconds for line in used.lines} if used else {}
    previous = None
    for line in plan.lines:
        if previous not in (None, line.part):
            table.add_section()
        first, previous = line.part != previous, line.part
        known = spent.get((line.part, line.work))
        title = _TITLES.get(line.work, line.work)
        table.add_row(line.part if first else "", title, *_cells(line.seconds, known, duration, used))
    table.add_section()
    seconds = None if used is None or not _complete(plan, used) else used.seconds
    table.add_row("all", "time", *_cells(plan.seconds, seconds, duration, used), style="bold")
    for where, title in (("host", "peak memory of a process"), ("device", "peak memory on the device")):
        if (peak := plan.peak(where)) is not None:
            known = None if used is None or seconds is None else used.peak(where)
            table.add_row("all", title, *_cells(peak, known, size, used), style="bold")
    disk = None if seconds is None or used is None else used.disk
    table.add_row("all", "disk", *_cells(plan.disk, disk, size, used), style="bold")
    return table


def _complete(plan: Amounts, used: Amounts) -> bool:
    """Whether every part of the plan has been done."""
    return {line.part for line in plan.lines} <= {line.part for line in used.lines}


def _cells(planned: float, known: float | None, show: Callable[[float], str], used: Amounts | None) -> Sequence[str]:
    if used is None:
        return [show(planned)]
    ratio = f"{planned / known:.2f}" if known else "-"
    return [show(planned), "-" if known is None else show(known), ratio]
