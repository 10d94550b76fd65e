"""Options of a run that belong to none of its parts."""

from lightning.pytorch.cli import LightningArgumentParser

from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.evaluation.selected_run import Selecting
from pdd_lightning.planning.command import Planning


def add_run_options(parser: LightningArgumentParser) -> None:
    """Add them to the parser of a command.

    Args:
        parser: Which has the options of trainer, model and data.
    """
    parser.add_argument("--run_dir", type=str, default="checkpoints/run", help="Folder of the run.")
    parser.add_argument(
        "--stage",
        type=int | None,
        default=None,
        help="Stage to fit; the first unfinished one by default.",
    )
    parser.add_argument(
        "--experts_dir",
        type=str | None,
        default=None,
        help="Folder of the expert trajectories; in the run by default. Runs may share one.",
    )
    parser.add_argument(
        "--threads",
        type=int | None,
        default=None,
        help="CPU threads of each process; PyTorch's choice by default. Tiny networks are fastest with one.",
    )
    parser.add_argument(
        "--checkpoint_every",
        type=int,
        default=100,
        help="Optimiser steps between two checkpoints of a stage.",
    )
    parser.add_argument(
        "--checkpoint_minutes",
        type=float,
        default=10.0,
        help="Minutes between two checkpoints of a stage, whatever the steps.",
    )
    parser.add_argument(
        "--rebuild",
        type=bool,
        default=False,
        help="Make damaged or missing end states of finished stages again, from their subsets.",
    )
    for name in ("run_dir", "stage", "experts_dir"):
        parser.link_arguments(name, f"model.{name}")
    parser.add_class_arguments(Evaluation, "evaluation", sub_configs=True)
    # For every command, so that one file serves all of them.
    parser.add_class_arguments(Selecting, "select")
    parser.add_class_arguments(Planning, "plan")
