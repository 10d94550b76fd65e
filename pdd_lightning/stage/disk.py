"""How much disk a run takes, by one arithmetic: for its plan, and for what a stage requires before it starts."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.dynamics.base import KEPT_RENEWALS
from pdd_lightning.errors import ConfigError
from pdd_lightning.progress import size
from pdd_lightning.stage.checkpoints import KEPT
from pdd_lightning.stage.context import planned_context
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import one_stage_options
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import stage_title

LOGS = 50_000
"""Bytes of a stage's configuration, manifest, notes and logs; pictures in the logs come on top."""

ROW = 3000
"""Bytes of results and logs that a row of an evaluation leaves, and a selection beside its positions."""


@dataclass(frozen=True)
class Disk:
    """Bytes of one stage on disk.

    Attributes:
        experts: What the dynamics stores, unless it finds what another stage of the run stores.
        found: What of it is there already.
        shared: Whether it finds what another stage stores.
        left: What the stage leaves in the run's folder: images, their picture, end states, logs, and with the first
            stage what a run has once.
        passing: What it needs beside that while it runs: checkpoints, members that wait for the end states, renewals.
        state: A single start state.
        renewed: What of `passing` is renewed within the steps.
    """

    experts: int
    found: int
    left: int
    passing: int
    state: int
    renewed: int = 0
    shared: bool = False


def run_disk(
    options: StageOptions, data: ImageDataModule, stages: Iterable[int], *, baselines: Sequence[str] = ()
) -> dict[str, Disk]:
    """What stages of a run take: the one sum for its plan, and for what is required before a stage starts.

    Args:
        options: Of the run.
        data: Its data, set up.
        stages: Their numbers.
        baselines: Names of the baselines of one stage that belong to it.

    Returns:
        By the title of each stage, and by the names of the baselines.
    """
    disks = {stage_title(stage): stage_disk(options, data, stage) for stage in stages}
    for baseline in baselines:
        alone = stage_disk(one_stage_options(options, baseline), data, 1)
        # It finds the experts of stage 1, unless those read only a part of the data.
        shared = options.discard is None and alone.experts > 0
        disks[baseline] = replace(alone, experts=0 if shared else alone.experts, found=0, shared=shared)
    return disks


def stage_disk(options: StageOptions, data: ImageDataModule, stage: int) -> Disk:
    """What a stage takes by itself.

    Args:
        options: Of the run.
        data: Its data, set up.
        stage: Number of the stage.
    """
    context = planned_context(options, stage, data)
    state, parameters = sum(tensor.nbytes for tensor in context.bank[0].values()), context.network.layout.size
    channels, height, width = data.image_shape
    pixels = channels * height * width * data.num_classes
    images, steps = 4 * pixels * options.per_stage[stage - 1], options.steps_per_stage[stage - 1]
    ends = state * (len(context.bank) + options.witnesses) if options.transition else 0
    held = 3 if options.keep == "last" else 4  # images, what the optimiser remembers of them, what is kept
    # Without a transition no stage leaves its witnesses to the next one.
    earlier = state * options.witnesses * (stage - 1) if options.watch_every and not options.transition else 0
    preparation = options.dynamics.preparation(context)
    renewed = preparation.passing
    if options.dynamics.renews_bank and options.transition and stage > 1:
        renewed += min(KEPT_RENEWALS, options.dynamics.renewals(steps)) * state * len(context.bank)
    once = _once(options, data) if stage == 1 else 0
    return Disk(
        experts=preparation.stored,
        found=preparation.found,
        left=ends + images + pixels * sum(options.per_stage[:stage]) + LOGS + once,
        passing=ends + earlier + renewed + (KEPT + 1) * (held * images + state + 8 * (parameters + steps)),
        state=state,
        renewed=renewed,
    )


def evaluation_disk(options: StageOptions, data: ImageDataModule, jobs: int, selections: int, recipe: Recipe) -> int:
    """Bytes that an evaluation leaves.

    Args:
        options: Of the run.
        data: Its data, set up.
        jobs: How many trainings have rows.
        selections: How many baselines are selected images.
        recipe: Of the training on the real data that selections ask.
    """
    positions = 8 * sum(options.per_stage) * data.num_classes
    training = _training(options, data, recipe) if selections else 0
    return ROW * jobs + selections * (ROW + positions) + training


def _once(options: StageOptions, data: ImageDataModule) -> int:
    """What a run has once: how images become pictures again, and where it discards, the training that tells which."""
    preprocessing = sum(tensor.nbytes for tensor in data.preprocessing.tensors().values())
    return preprocessing + (0 if options.discard is None else _training(options, data, options.discard.recipe))


def _training(options: StageOptions, data: ImageDataModule, recipe: Recipe) -> int:
    """A training on the real data that is kept: a state, and which examples were correct in each epoch."""
    state: int = sum(tensor.nbytes for tensor in options.problem(data).network().state_dict().values())
    return state + recipe.epochs * len(data.train)


def require_room(module: StageModule, data: ImageDataModule, *, whole_run: bool, baselines: Sequence[str] = ()) -> str:
    """Refuse to begin where the disk is too small.

    Args:
        module: The stage that is to be fitted.
        data: Its data, set up.
        whole_run: Require room for all stages that are left, not for this one only.
        baselines: Names of the baselines of one stage that need room too.

    Returns:
        One short line that says what is required, and how much is free.

    Raises:
        ConfigError: If the disk has visibly too little free space.
    """
    first = module.stage
    last = module.options.stages if whole_run else first
    disks = list(run_disk(module.options, data, range(first, last + 1), baselines=baselines).values())
    who = module.title if last == first else f"stages {first} to {last}"
    who = " and ".join([who, *(stage_title(1, baseline=baseline) for baseline in baselines)])
    # Whether the experts of later stages are there, only their start states tell.
    experts = sum(disk.experts for disk in disks) - disks[0].found
    stages = sum(disk.left for disk in disks) + max(disk.passing for disk in disks)
    told = f"{who} will take about {size(stages)} in {module.run.directory} with checkpoints"
    short = f"disk: {who}: {size(stages)}"
    if experts:
        short += f" + {size(experts)} of experts"
        told += f" and {size(experts)} of experts in {module.options.experts_folder}"
    elif disks[0].experts:
        short += " (the experts are there)"
    needs = {"--run_dir": (module.run.directory, stages), "--experts_dir": (module.options.experts_folder, experts)}
    _require(needs, told)
    return f"{short}, {size(_free(module.run.directory))} free"


def _require(needs: dict[str, tuple[Path, int]], told: str) -> None:
    """Refuse if a disk has less free space than the folders on it are to take."""
    disks: dict[int, list[str]] = {}
    for option, (folder, needed) in needs.items():
        if needed:
            disks.setdefault(_existing(folder).stat().st_dev, []).append(option)
    for options in disks.values():
        needed = sum(needs[option][1] for option in options)
        folder = needs[options[0]][0]
        free = _free(folder)
        if needed > free:
            raise ConfigError(
                f"{' and '.join(options)}: {told}, and only {size(free)} are free on the disk of {folder}: free "
                f"{size(needed - free)} there, or name a folder on another disk with {' or '.join(options)}"
            )


def _free(folder: Path) -> int:
    return shutil.disk_usage(_existing(folder)).free


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
