"""How much disk a stage takes, said and compared with what is free before it starts."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from pdd_lightning.compute.functional import Layout
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import build_template
from pdd_lightning.planning.report import size
from pdd_lightning.stage.checkpoints import KEPT
from pdd_lightning.stage.context import start_identity
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import OneStage
from pdd_lightning.types import Json


@dataclass(frozen=True)
class Space:
    """Bytes of one stage on disk.

    Attributes:
        experts: What the dynamics stores.
        bank: All start states together.
        stage: What the stage leaves in its folder: images, their picture, end states.
        passing: What it needs beside that while it runs: checkpoints, members that wait for the end states.
    """

    experts: int
    bank: int
    stage: int
    passing: int


def stage_space(module: StageModule, data: ImageDataModule, stage: int) -> Space:
    """What a stage takes, by arithmetic.

    Args:
        module: The run.
        data: Its data, set up.
        stage: Number of the stage.
    """
    return _space(module, data, module.per_stage[stage - 1], sum(module.per_stage[:stage]))


def _space(module: StageModule, data: ImageDataModule, ipc: int, union: int) -> Space:
    """What a stage takes that learns images of so many per class, and draws a union of so many."""
    network = build_template(module.architecture, data.image_shape, data.num_classes)
    parameters = 4 * Layout.of(network).size
    state = sum(tensor.nbytes for tensor in network.state_dict().values())
    channels, height, width = data.image_shape
    pixels = channels * height * width * data.num_classes
    images = 4 * pixels * ipc
    bank = state * module.dynamics.members
    ends = bank if module.transition else 0
    return Space(
        experts=module.dynamics.stored_bytes(Layout.of(network).size),
        bank=bank,
        stage=ends + images + pixels * union,
        passing=ends + (KEPT + 1) * (3 * images + state + 2 * parameters),
    )


def state_space(module: StageModule, data: ImageDataModule, *, whole_run: bool, one_stage: bool = False) -> str:
    """One line that says what the disk must hold.

    Args:
        module: The stage that is to be fitted.
        data: Its data, set up.
        whole_run: Require room for all stages that are left, not for this one only.
        one_stage: Require room for the baseline of one stage too.

    Raises:
        ConfigError: If the disk has visibly too little free space.
    """
    last = module.stages if whole_run else module.stage
    spaces = [stage_space(module, data, stage) for stage in range(module.stage, last + 1)]
    who = f"stage {last}" if last == module.stage else f"stages {module.stage} to {last}"
    experts = sum(space.experts for space in spaces) - _experts_found(module, data)
    if one_stage:
        ipc, who = OneStage.of(module).ipc, f"{who} and the one-stage baseline"
        spaces.append(_space(module, data, ipc, ipc))
        # It finds the experts of stage 1, unless those read only a part of the data.
        experts += 0 if module.discard is None else spaces[-1].experts
    stages = sum(space.stage for space in spaces) + max(space.passing for space in spaces)
    told = f"{who} will take about {size(stages)} in {module.run.directory} with checkpoints"
    if experts:
        told += f" and {size(experts)} of experts in {module.experts_dir}"
    elif spaces[0].experts:
        told += f"; the experts are in {module.experts_dir} already"
    _require({"--run_dir": (module.run.directory, stages), "--experts_dir": (module.experts_dir, experts)}, told)
    return f"disk: {told}; {size(_free(module.run.directory))} are free"


def _experts_found(module: StageModule, data: ImageDataModule) -> int:
    """Bytes of this stage's experts that are there; whether those of later stages are, only their start states tell.

    Which part of the data `discard` leaves is not known yet. Then those in the run's own folder count, which are its
    own, and none of a folder that runs share.
    """
    if module.discard is not None and module.experts_dir != module.run.experts:
        return 0
    layout = Layout.of(build_template(module.architecture, data.image_shape, data.num_classes))
    begins_at = module.stage if module.transition else 1
    known: Json = {
        "stage": module.stage,
        "network": module.architecture.describe(),
        "layout": layout.to_json(),
        "seed": module.seed,
        "start": start_identity(module.run, begins_at, module.architecture, data, module.seed),
        "augmentation": module.augmentation.describe(),
    }
    if module.discard is None:  # else it is the fingerprint of a part of the data
        known["data"] = data.fingerprint
    return module.dynamics.found_bytes(layout.size, module.experts_dir, known)


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
