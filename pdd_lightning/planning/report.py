"""A plan, and what a run noted of itself, side by side."""

from collections.abc import Callable

from rich.box import SIMPLE
from rich.table import Table

from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.planning.estimate import Amounts, Line, side_by_side
from pdd_lightning.progress import duration, size
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import one_stage_options
from pdd_lightning.stage.usage import WORKS, number_in, read_usage
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import folder_bytes
from pdd_lightning.types import ONE_STAGES, stage_title

EVALUATION = "evaluation"
"""What the last part of a run is called in a plan."""

_TITLES = {"start": "start, data", "preparation": "experts / preparation", "transition": "transition, writing"}
MEMORY = {"host": "peak memory", "device": "peak memory, device"}


def identity(module: StageModule, data: str, evaluation: Evaluation) -> str:
    """Fingerprint of everything that a plan was made for: the run, its data's fingerprint, and how it is scored."""
    of = module.options
    return fingerprint([of.settings(1) | of.varying, of.per_stage, data, evaluation.describe()])


def collect(module: StageModule) -> Amounts:
    """What the run's stages and its evaluation noted; parts that are not complete are left out."""
    run, lines, disk = module.run, list[Line](), dict[str, int]()
    alone = {name: one_stage_options(module.options, name).run for name in ONE_STAGES}
    memory: dict[str, dict[str, int | None]] = {}
    discards = module.options.discard is not None
    folders = {stage_title(stage): (run, run.stage(stage)) for stage in range(1, module.options.stages + 1)}
    for name, (of, folder) in {**folders, **{name: (of, of.stage(1)) for name, of in alone.items()}}.items():
        usage = read_usage(folder.usage)
        seconds, stored, peaks = (usage.get(key) for key in ("seconds", "bytes", "peak_memory"))
        if folder.complete and isinstance(seconds, dict) and isinstance(stored, dict) and isinstance(peaks, dict):
            lines += [Line(name, work, float(seconds.get(work, 0.0))) for work in WORKS]
            memory[name] = peaks
            disk[name] = folder_bytes(folder.directory) + folder_bytes(of.tensorboard / folder.directory.name)
            disk[name] += int(stored.get("experts", 0))
            if folder.stage == 1:
                disk[name] += of.preprocessing.stat().st_size if of.preprocessing.is_file() else 0
                disk[name] += folder_bytes(of.forgetting) if discards else 0
    usage = read_usage(run.evaluation.usage)
    jobs, start, peaks = (usage.get(key) for key in ("jobs", "start", "peak_memory"))
    if isinstance(jobs, dict) and isinstance(start, (int, float)) and isinstance(peaks, dict):
        lines.append(Line(EVALUATION, "start", float(start)))
        lines += [Line(EVALUATION, label, float(seconds)) for label, seconds in jobs.items()]
        memory[EVALUATION] = peaks
        left = [run.evaluation.directory, run.tensorboard / "evaluation", run.selection]
        disk[EVALUATION] = sum(map(folder_bytes, [*left, *([] if discards else [run.forgetting])]))
    later = [stage_title(stage) for stage in range(2, module.options.stages + 1)]
    beside = [name for name, of in alone.items() if number_in(read_usage(of.stage(1).usage), "sharing") > 1]
    return Amounts(lines, memory, disk, side_by_side(lines, beside, later))


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
            cells += ["-" if known is None else show(known), f"{planned / known:.2f}" if known else "-"]
        table.add_row(part, title, *cells, style="bold" if part == "all" else None)

    spent = {(line.part, line.work): line.seconds for line in used.lines} if used else {}
    parts = dict.fromkeys(line.part for line in plan.lines)
    for part in parts:
        for number, line in enumerate(line for line in plan.lines if line.part == part):
            title = _TITLES.get(line.work, line.work)
            row("" if number else part, title, line.seconds, spent.get((part, line.work)), duration)
        for where, title in MEMORY.items():
            if (peak := plan.memory.get(part, {}).get(where)) is not None:
                row("", title, peak, used.memory.get(part, {}).get(where) if used else None, size)
        row("", "disk", plan.disk.get(part, 0), used.disk.get(part) if used else None, size)
        table.add_section()
    whole = used if used is not None and parts.keys() <= {line.part for line in used.lines} else None
    row("all", "time", plan.seconds, whole.seconds if whole else None, duration)
    for where, title in MEMORY.items():
        if (largest := plan.peak(where)) is not None:
            row("", title, largest, whole.peak(where) if whole else None, size)
    row("", "disk", plan.stored, whole.stored if whole else None, size)
    return table
