"""The plan and the notes of a run's folder, in one form, to compare them."""

from pathlib import Path

from rich.console import Console

from pdd_lightning.errors import ArtifactError
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.planning.estimate import Amounts, Line
from pdd_lightning.planning.readings import folder_bytes
from pdd_lightning.planning.report import plan_table
from pdd_lightning.planning.usage import FILE, WORKS, read_usage
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import ONE_STAGE, OneStage
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import read_json
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import Json

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
    run, lines = module.run, list[Line]()
    memory: dict[str, dict[str, int | None]] = {}
    disk: dict[str, int] = {}
    baseline = OneStage.of(module).run
    folders = {stage_name(stage): (run, run.stage(stage)) for stage in range(1, module.stages + 1)}
    for name, (of, folder) in {**folders, ONE_STAGE: (baseline, baseline.stage(1))}.items():
        usage = read_usage(folder.directory / FILE)
        seconds, stored = usage.get("seconds"), usage.get("bytes")
        if not folder.complete or not isinstance(seconds, dict) or not isinstance(stored, dict):
            continue
        lines += [Line(name, work, float(seconds.get(work, 0.0))) for work in WORKS]
        memory[name] = _peaks(usage)
        disk[name] = folder_bytes(folder.directory) + folder_bytes(of.tensorboard / folder.directory.name)
        disk[name] += int(stored.get("experts", 0))
        if folder.stage == 1:
            disk[name] += of.preprocessing.stat().st_size if of.preprocessing.is_file() else 0
            disk[name] += folder_bytes(of.forgetting) if module.discard is not None else 0
    usage = read_usage(run.evaluation / FILE)
    jobs, start = usage.get("jobs"), usage.get("start")
    if isinstance(jobs, dict) and isinstance(start, (int, float)):
        lines.append(Line(EVALUATION, "start", float(start)))
        lines += [Line(EVALUATION, label, float(seconds)) for label, seconds in jobs.items()]
        memory[EVALUATION] = _peaks(usage)
        disk[EVALUATION] = folder_bytes(run.evaluation) + folder_bytes(run.tensorboard / "evaluation")
        disk[EVALUATION] += folder_bytes(run.selection)
        disk[EVALUATION] += folder_bytes(run.forgetting) if module.discard is None else 0
    return Amounts(lines, memory, disk)


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
