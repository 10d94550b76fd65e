"""What a stage offers to its dynamics, objective and transition, put together."""

from collections.abc import Callable
from pathlib import Path

import torch

from pdd_lightning.compute.cuda_graphs import LANES
from pdd_lightning.compute.functional import FunctionalNetwork
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.dynamics import Ranks, StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.networks import Architecture, build_template
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import read_metadata
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.augmentation import Augmentation
from pdd_lightning.training.gradients import is_recordable


def start_states(
    run: RunFolder, stage: int, architecture: Architecture, data: ImageDataModule, members: int, seed: int
) -> StateBank:
    """theta^(k-1): random networks at stage 1, later what the previous stage left.

    Args:
        run: The run; None of its files is read for stage 1.
        stage: Number k of the stage.
        architecture: Of the networks.
        data: Says what images they read.
        members: How many random networks.
        seed: The run's seed.
    """
    shape, classes = data.image_shape, data.num_classes
    if stage == 1:
        return StateBank.random(architecture, shape, classes, members, seed)
    like = StateBank.random(architecture, shape, classes, 1, seed)[0]
    return StateBank.read(run.stage(stage - 1).end_states, like)


def start_identity(run: RunFolder, stage: int, architecture: Architecture, data: ImageDataModule, seed: int) -> str:
    """The identity of :func:`start_states`, without reading them; the options are its."""
    if stage == 1:
        return StateBank.random(architecture, data.image_shape, data.num_classes, 1, seed).identity
    return read_metadata(run.stage(stage - 1).end_states).get("identity", "")


def stage_context(
    stage: int,
    bank: StateBank,
    data: ImageDataModule,
    device: torch.device,
    *,
    architecture: Architecture,
    augmentation: Augmentation,
    seed: int,
    experts: Path,
    ranks: Ranks,
    at_once: int | None,
    compile: bool,
    positions: torch.Tensor | None = None,
) -> StageContext:
    """The context of a stage.

    Args:
        stage: Number of the stage.
        bank: Its start states.
        data: The run's data, set up.
        device: Where to compute.
        architecture: Of the networks.
        augmentation: The method's.
        seed: The run's seed.
        experts: Folder of the expert trajectories.
        ranks: Who is at work.
        at_once: Networks to train at once; None takes as many as a recording holds side by side, and one where
            nothing is recorded.
        compile: Let PyTorch compile their steps.
        positions: Of the real images that the stage reads; None gives it all.
    """
    shape, classes = data.image_shape, data.num_classes
    make: Callable[[], torch.nn.Module] = lambda: build_template(architecture, shape, classes)  # noqa: E731
    if at_once is None:
        at_once = LANES if is_recordable(make(), device) else 1
    real, identity = data.train_on(device), data.fingerprint
    if positions is not None:
        real, identity = real.take(positions), fingerprint([identity, positions.tolist()])
    return StageContext(
        seed=seed,
        stage=stage,
        network=FunctionalNetwork(make(), device),
        make_network=make,
        network_settings=architecture.describe(),
        image_shape=shape,
        num_classes=classes,
        bank=bank,
        real=real,
        validation=data.validation_on(device),
        data=identity,
        augmentation=augmentation,
        experts=experts,
        device=device,
        ranks=ranks,
        networks_at_once=at_once,
        compile_networks=compile,
    )
