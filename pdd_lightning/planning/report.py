"""Plans and comparisons as tables for the terminal."""

from collections.abc import Callable

from rich.box import SIMPLE
from rich.table import Table

from pdd_lightning.planning.estimate import Amounts

_TITLES = {"start": "start, data", "preparation": "experts / preparation", "transition": "transition, writing"}
_MEMORY = {"host": "peak memory", "device": "peak memory, device"}
_ALL = "all"


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


def plan_table(plan: Amounts, used: Amounts | None = None) -> Table:
    """The estimate, and beside it what the run has used so far.

    Args:
        plan: Before the run.
        used: Noted while it ran; None shows the estimate alone.
    """
    table = Table(title="Plan" if used is None else "Plan and use", box=SIMPLE, padding=(0, 1))
    table.add_column("part")
    table.add_column("work", overflow="fold")
    for column in ("plan",) if used is None else ("plan", "used", "plan/used"):
        table.add_column(column, justify="right", no_wrap=True)

    def row(part: str, title: str, planned: float, known: float | None, show: Callable[[float], str]) -> None:
        cells = [show(planned)]
        if used is not None:
            ratio = f"{planned / known:.2f}" if known else "-"
            cells += ["-" if known is None else show(known), ratio]
        table.add_row(part, title, *cells, style="bold" if part == _ALL else None)

    spent = {(line.part, line.work): line.seconds for line in used.lines} if used else {}
    parts = dict.fromkeys(line.part for line in plan.lines)
    for part in parts:
        lines = [line for line in plan.lines if line.part == part]
        for number, line in enumerate(lines):
            known = spent.get((part, line.work))
            row("" if number else part, _TITLES.get(line.work, line.work), line.seconds, known, duration)
        for where, title in _MEMORY.items():
            if (peak := plan.memory.get(part, {}).get(where)) is not None:
                row("", title, peak, used.memory.get(part, {}).get(where) if used else None, size)
        row("", "disk", plan.disk.get(part, 0), used.disk.get(part) if used else None, size)
        table.add_section()
    whole = used if used is not None and parts.keys() <= {line.part for line in used.lines} else None
    row(_ALL, "time", plan.seconds, whole.seconds if whole else None, duration)
    for where, title in _MEMORY.items():
        if (largest := plan.peak(where)) is not None:
            row("", title, largest, whole.peak(where) if whole else None, size)
    row("", "disk", plan.stored, whole.stored if whole else None, size)
    return table
