"""The micro configuration of the command line, as arguments of `distil`."""

from pathlib import Path
from typing import Any

from pdd_lightning.dynamics import ExpertTrajectories
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import TrajectoryMatching
from pdd_lightning.training import DSA, Recipe

QUIET: dict[str, Any] = {"accelerator": "cpu", "logger": False}


def small(**changes: Any) -> dict[str, Any]:
    """The options of tests/conf/micro.yaml; a test holds them to it."""
    options: dict[str, Any] = {
        "data": "digits",
        "trainer": QUIET,
        "network": ConvNet(width=4, depth=1),
        "objective": TrajectoryMatching(syn_steps=3, syn_batch_size=7, recompute=False),
        "dynamics": ExpertTrajectories(experts=2, epochs=1, max_start_epoch=1, learning_rate=0.05, batch_size=256),
        "augmentation": DSA(),
        "stages": 2,
        "ipc": 1,
        "iterations": 12,
        "optimizer": "adam",
        "image_lr": 0.05,
        "learning_rate": 0.05,
        "learning_rate_lr": 0.001,
        "recipe": Recipe(epochs=3),
    }
    return {**options, **changes}


def artifacts(run: Path) -> dict[str, bytes]:
    """What the stages of a run leave that later ones rest on."""
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob("stage_*/*.safetensors"))}
