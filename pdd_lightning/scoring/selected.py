"""Telling a run of selected images from a distillation, and what a selection in a run works with."""

import torch

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.modules.stage import StageModule
from pdd_lightning.selection import SelectionContext
from pdd_lightning.store import RunFolder


def selection_context(module: StageModule, data: ImageDataModule, device: torch.device) -> SelectionContext:
    """What a selection works with in a run.

    Args:
        module: Says what the run is made of.
        data: The run's data, set up.
        device: Where to compute.
    """
    return SelectionContext(
        real=data.train_on(device),
        class_names=data.class_names,
        data=data.fingerprint,
        architecture=module.architecture,
        augmentation=module.augmentation,
        seed=module.seed,
        device=device,
        folder=module.run.directory,
    )


def selected_by(run: RunFolder) -> str | None:
    """The name of the selection that made a run; None for a distillation, and where nothing is complete."""
    settings = run.stage(1).read_manifest().get("settings") if run.stage(1).complete else None
    select = settings.get("select") if isinstance(settings, dict) else None
    return str(select["name"]) if isinstance(select, dict) else None
