"""Making the start states of a stage again, from the subset that the stage before distilled."""

import shutil
from pathlib import Path

import torch

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ArtifactError
from pdd_lightning.stage.context import stage_context, start_states
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.subsets import read_run, union_of
from pdd_lightning.stage.transition import make_transition
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import StageFolder


def rebuild_end_states(module: StageModule, data: ImageDataModule, device: torch.device) -> list[Path]:
    """Make those end states of finished stages again that are missing or damaged.

    The subsets they are trained on are intact, or nothing is made. What is made is what the stage recorded, or it is
    not kept.

    Args:
        module: The run.
        data: Its data, set up.
        device: Where to train.

    Returns:
        The files that were made again.

    Raises:
        ArtifactError: If a subset is damaged, or training does not lead where it led.
    """
    run, made = module.run, []
    for stage in range(1, run.completed(module.options.stages) + 1):
        folder = run.stage(stage)
        if folder.end_states.name in folder.read_manifest().files and not _intact(folder):
            _rebuild(module, data, device, stage)
            made.append(folder.end_states)
    return made


def _intact(folder: StageFolder) -> bool:
    try:
        folder.verify_file(folder.end_states)
    except ArtifactError:
        return False
    return True


def _rebuild(module: StageModule, data: ImageDataModule, device: torch.device, stage: int) -> None:
    run, folder = module.run, module.run.stage(stage)
    subsets = read_run(run)[:stage]
    union = union_of(subsets)
    assert union is not None
    options = module.options
    bank = start_states(options, stage, options.problem(data))
    context = stage_context(options, stage, bank, data, device)
    waiting = folder.transition
    transition = make_transition(context, union.to(device), subsets[-1].rate, options.recipe, waiting)
    again = waiting / folder.end_states.name
    transition.bank.write(again)
    if file_digest(again) != folder.read_manifest().files[folder.end_states.name]:
        shutil.rmtree(waiting)
        raise ArtifactError(
            f"--rebuild: training on the subsets of stages 1 to {stage} again leads to other end states than "
            f"{folder.manifest} records, as under other options "
            f"(model.compile_networks among them), or on other hardware or releases: restore "
            f"{folder.end_states} from a copy, or delete {folder.directory} and the later stages to make them again"
        )
    again.replace(folder.end_states)
    shutil.rmtree(waiting)
