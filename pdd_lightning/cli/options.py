"""Options of a run that belong to none of its parts, and what no part checks."""

from typing import Final

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from pdd_lightning.distilling.trainers import CHECKPOINT_EVERY, CHECKPOINT_MINUTES, check_threads, check_trainer
from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.imported_run import Importing
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.evaluation.selected_run import Selecting
from pdd_lightning.planning.planner import Planning
from pdd_lightning.stage.checkpoints import check_schedule
from pdd_lightning.stage.options import StageOptions


def add_run_options(parser: LightningArgumentParser) -> None:
    """Add them to the parser of a command.

    Args:
        parser: Which has the options of trainer, model and data.
    """
    parser.add_argument("--run_dir", type=str, default=StageOptions.run_dir, help="Folder of the run.")
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
        default=CHECKPOINT_EVERY,
        help="Optimiser steps between two checkpoints of a stage.",
    )
    parser.add_argument(
        "--checkpoint_minutes",
        type=float,
        default=CHECKPOINT_MINUTES,
        help="Minutes between two checkpoints of a stage, whatever the steps.",
    )
    parser.add_argument(
        "--wait_minutes",
        type=float,
        default=30.0,
        help="Minutes to wait for the other processes of a run, on several devices or machines.",
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
    parser.add_class_arguments(Importing, "imported")
    parser.add_class_arguments(Planning, "plan")


MOST_MINUTES: Final = 10080
"""A week."""


def check_options(config: Namespace) -> None:
    """Refuse what no part of the configuration looks at in every command.

    Args:
        config: The configuration of the command.

    Raises:
        ConfigError: If an option of Lightning's trainer would silently change results, or one of the run is out of
            range; it is named.
    """
    check_trainer(config.trainer)
    if not 0 < config.wait_minutes <= MOST_MINUTES:
        raise ConfigError(f"--wait_minutes must be above 0 and at most {MOST_MINUTES}, got {config.wait_minutes:g}")
    check_schedule(config.checkpoint_every, config.checkpoint_minutes)
    check_threads(config.threads)
