"""A diagnosis for people and for programs."""

from collections.abc import Sequence
from typing import Any

import torch
from rich.box import SIMPLE
from rich.table import Table

from pdd_lightning.evaluation.diagnosis import PhaseCurves
from pdd_lightning.evaluation.findings import Finding
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.files import FORMAT
from pdd_lightning.store.versions import made_with
from pdd_lightning.types import Json


def diagnosis_table(phases: Sequence[PhaseCurves]) -> Table:
    """Where each phase begins, where it is best and where it ends.

    Args:
        phases: What was measured.
    """
    table = Table(title="Held-out accuracy % along each stage's training on the union", box=SIMPLE)
    for heading in ("stage", "networks", "start", "best", "at epoch", "end"):
        table.add_column(heading, justify="left" if heading == "networks" else "right", no_wrap=True)
    for phase in phases:
        for name, curves in phase.named:
            best = f"{curves.epochs[curves.best]} of {curves.epochs[-1]}"
            told = (curves.told(0), curves.told(curves.best), best, curves.told(-1))
            table.add_row(str(phase.stage), f"{len(curves.accuracies)} {name}", *told)
    return table


def diagnosis_lines(phases: Sequence[PhaseCurves], found: Sequence[Finding], options: StageOptions) -> list[str]:
    """The findings, and what a reader must know of them, a line for each.

    Args:
        phases: What was measured.
        found: In them.
        options: Of the run.
    """
    kinds = {networks: {(f.stage, f.kind) for f in found if f.networks == networks} for networks in ("bank", "fresh")}
    lines = []
    for finding in found:
        key = finding.stage, finding.kind
        both = key in kinds["bank"] & kinds["fresh"]
        if not both:
            lines.append(finding.text)
        elif finding.networks == "fresh":  # which matter more: they are those that anybody will train
            lines.append(f"{finding.text}; so it is with bank members")
    lines = lines or ["nothing found"]
    if len(phases) < options.stages:
        lines.append(f"{len(phases)} of {options.stages} stages are complete, and these alone are shown")
    if not options.transition and len(phases) > 1:
        lines.append(
            "model.transition=false: every stage was matched at the states in which the bank begins stage 1 here"
        )
    if len(phases[0].bank.accuracies) < 2:
        lines.append("the bank is a single network, of which nothing can be said beyond chance")
    return lines


def diagnosis_json(
    phases: Sequence[PhaseCurves],
    found: Sequence[Finding],
    options: StageOptions,
    held_out: int,
    device: torch.device,
) -> Json:
    """Every number, with what the stages had recorded of the same networks.

    Args:
        phases: What was measured.
        found: In them.
        options: Of the run.
        held_out: Images that accuracy was measured on.
        device: Where it was.
    """
    stages = list[Json]()
    for phase in phases:
        summary = options.run.stage(phase.stage).read_manifest().summary
        mine = [finding.to_json() for finding in found if finding.stage == phase.stage]
        stages.append(
            {
                "stage": phase.stage,
                "learning_rate": summary.get("learning_rate"),
                "epochs": list(phase.bank.epochs),
                "bank": {**phase.bank.to_json(), "recorded": _recorded(summary, "validation_accuracies", phase)},
                "fresh": {**phase.fresh.to_json(), "recorded": _recorded(summary, "fresh_accuracies", phase)},
                "findings": mine,
            }
        )
    run = options.run.stage(len(phases)).fingerprint()
    return {"format": FORMAT, "run": run, "held_out": held_out, "made": made_with(device), "stages": stages}


def _recorded(summary: Json, name: str, phase: PhaseCurves) -> Any:
    """What the stage noted of those of its networks that are shown here."""
    curves = phase.bank if name == "validation_accuracies" else phase.fresh
    noted = summary.get(name)
    return noted[: len(curves.accuracies)] if isinstance(noted, list) else []
