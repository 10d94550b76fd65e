"""The plan and the notes of a run's folder, in one form, to compare them."""

from pathlib import Path

from rich.console import Console

from pdd_lightning.errors import ArtifactError
from pdd_lightning.modules.stage import StageModule
from pdd_lightning.planning.estimate import Amounts, Line
from pdd_lightning.planning.readings import folder_bytes
from pdd_lightning.planning.report import plan_table
from pdd_lightning.planning.usage import FILE, WORKS, read_usage
from pdd_lightning.scoring.evaluate import one_stage_directory
from pdd_lightning.scoring.protocol import Evaluation
from pdd_lightning.store import Json, RunFolder, fingerprint, read_json

ONE_STAGE = "one-stage"
EVALUATION = "evaluation"


def stage_name(stage: int) -> str:
    """What a stage is called in a plan."""
    return f"stage {stage}"


def plan_file(run: RunFolder) -> Path:
    """Where a run's plan lies."""
    return run.directory / "plan.json"


def identity(module: StageModule, data: str, evaluation: Evaluation) -> str:
    """Fingerprint of everything that a plan was made for.

    Args:
        module: The run.
        data: Fingerprint of its data.
        evaluation: How it is scored.
    """
    recipe = evaluation.recipe or module.recipe
    networks = evaluation.networks or [module.architecture]
    return fingerprint(
        [
            *({**module.settings(), "ipc": module.per_stage}, module.stages, data),
            *(evaluation.seeds, evaluation.orders, evaluation.baselines, [n.describe() for n in networks]),
            *(recipe.describe(), evaluation.random_rates, evaluation.full.describe(), evaluation.full_rate),
        ]
    )


def read_plan(module: StageModule, data: str, evaluation: Evaluation) -> Amounts | None:
    """The plan in the run's folder, if there is one for these settings and data."""
    try:
        plan = read_json(plan_file(module.run))
        if plan.get("identity") != identity(module, data, evaluation):
            return None
        return Amounts.from_json(plan)
    except (ArtifactError, KeyError, TypeError):
        return None


def collect(module: StageModule) -> Amounts:
    """What the run's stages and its evaluation noted; parts that are not complete are left out."""
    run, lines, memory, outside = module.run, list[Line](), dict[str, dict[str, int | None]](), 0
    folders = {stage_name(stage): run.stage(stage) for stage in range(1, module.stages + 1)}
    folders[ONE_STAGE] = RunFolder(one_stage_directory(run.directory)).stage(1)
    for name, folder in folders.items():
        usage = read_usage(folder.directory / FILE)
        seconds = usage.get("seconds")
        if folder.complete and isinstance(seconds, dict):
            lines += [Line(name, work, float(seconds.get(work, 0.0))) for work in WORKS]
            memory[name] = _peaks(usage)
            stored = usage.get("bytes")
            outside += int(stored.get("experts", 0)) if isinstance(stored, dict) else 0
    usage = read_usage(run.evaluation / FILE)
    jobs = usage.get("jobs")
    if isinstance(jobs, dict):
        start = usage.get("start")
        lines.append(Line(EVALUATION, "start", float(start) if isinstance(start, (int, float)) else 0.0))
        lines += [Line(EVALUATION, label, float(seconds)) for label, seconds in jobs.items()]
        memory[EVALUATION] = _peaks(usage)
    if run.directory.resolve() in (module.experts_dir.resolve(), *module.experts_dir.resolve().parents):
        outside = 0  # they are in the run's folder
    plan = plan_file(run)
    return Amounts(
        lines, memory, folder_bytes(run.directory) - (plan.stat().st_size if plan.is_file() else 0) + outside
    )


def compare_with_plan(module: StageModule, data: str, evaluation: Evaluation) -> None:
    """Print the run's plan beside what it used, if there is a plan for these settings.

    Args:
        module: The run.
        data: Fingerprint of its data.
        evaluation: How it is scored.
    """
    plan = read_plan(module, data, evaluation)
    if plan is not None and (used := collect(module)).lines:
        Console().print(plan_table(plan, used))


def _peaks(usage: Json) -> dict[str, int | None]:
    found = usage.get("peak_memory")
    return {"host": found.get("host"), "device": found.get("device")} if isinstance(found, dict) else {}
