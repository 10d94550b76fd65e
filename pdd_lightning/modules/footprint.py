"""How much disk a run takes at most."""

import shutil
from dataclasses import dataclass
from typing import Final

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.disk import KEPT
from pdd_lightning.modules.stage import StageModule
from pdd_lightning.networks import build_template

_GRIDS: Final = 100
"""Steps between two pictures in TensorBoard."""

_SMALL: Final = 2**20
"""Bytes for each stage's manifest, configuration, picture and scalars, generously."""


@dataclass(frozen=True)
class DiskUse:
    """Bytes at most, of a whole run.

    Attributes:
        experts: Expert trajectories.
        states: Start states of the stages, and members of a transition that wait.
        checkpoints: Of the stage in progress; old ones are removed.
        rest: Subsets, pictures, logs and results.
    """

    experts: int
    states: int
    checkpoints: int
    rest: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.experts + self.states + self.checkpoints + self.rest

    def __str__(self) -> str:
        parts = {"experts": self.experts, "start states": self.states, "checkpoints": self.checkpoints}
        told = ", ".join(f"{name} {readable(size)}" for name, size in parts.items() if size)
        return f"at most {readable(self.total)} for the whole run ({told})"


def disk_use(module: StageModule, data: ImageDataModule, one_stage: bool = False) -> DiskUse:
    """The most that a run writes, from its options alone.

    Args:
        module: The run's stage.
        data: Its data, set up.
        one_stage: Whether the one-stage baseline is made beside it; it shares the experts of stage 1.
    """
    network = build_template(module.architecture, data.image_shape, data.num_classes)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    state = sum(tensor.nbytes for tensor in network.state_dict().values())
    channels, height, width = data.image_shape
    pixels = data.num_classes * channels * height * width
    stages, members, ipc = module.stages + one_stage, module.dynamics.members, sum(module.per_stage)
    largest = ipc if one_stage else max(module.per_stage)
    # The images and their momenta, and the network of a dynamics that is itself in training.
    checkpoint = pixels * largest * 4 * (3 if module.optimizer_name == "adam" else 2) + 2 * state + _SMALL
    grids = (module.iterations * stages // _GRIDS + 2 * stages) * pixels * largest
    return DiskUse(
        experts=module.dynamics.stored_bytes(parameters) * module.stages,
        states=members * state * (stages + 1) if module.transition else 0,
        checkpoints=checkpoint * (KEPT + 1),
        rest=pixels * ipc * 4 * (1 + one_stage) + grids + module.iterations * stages * 100 + _SMALL * (stages + 1),
    )


def disk_line(module: StageModule, data: ImageDataModule, one_stage: bool = False) -> str:
    """What to say at the start of a run: what it may take, and whether the disk has it. Options: :func:`disk_use`."""
    use, free = disk_use(module, data, one_stage), shutil.disk_usage(module.run.directory).free
    few = " - there may be too little" if free < use.total else ""
    return f"disk: {use}; {readable(free)} free{few}"


def readable(size: float) -> str:
    """A size as people say it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
