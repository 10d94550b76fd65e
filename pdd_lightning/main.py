"""The command line: `pdd-cli fit`, `pdd-cli evaluate`; `pdd-cli run` is in :mod:`pdd_lightning.run`."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from pdd_lightning.callbacks import ImageMonitor, StageCallback, StepProgress
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ConfigError, PDDError
from pdd_lightning.modules.stage import StageModule
from pdd_lightning.quiet import quiet
from pdd_lightning.scoring.evaluate import Evaluator
from pdd_lightning.scoring.protocol import Evaluation
from pdd_lightning.scoring.report import render_table
from pdd_lightning.store import atomic_write

STATUS_VARIABLE = "PDD_STATUS_FILE"
"""Environment variable naming the file in which `fit` tells `run` how far the run is."""


class PDDTrainer(Trainer):
    """Lightning's trainer, with the commands that the parser offers beside `fit`."""

    def evaluate(self) -> None:
        """Train fresh networks on the finished run and report their test accuracy after every stage."""
        # LightningCLI looks commands up here; PDDCLI.evaluate does the work, with one trainer for each fit.
        raise RuntimeError("use `pdd-cli evaluate`")


class StageConfig(SaveConfigCallback):
    """Keeps the exact configuration beside what it made."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml` into the stage's folder."""
        if isinstance(pl_module, StageModule):
            text = self.parser.dump(self.config, skip_none=False)
            atomic_write(pl_module.folder.directory / "config.yaml", text.encode())


class PDDCLI(LightningCLI):
    """Builds data, stage and trainer from one configuration, for every command."""

    model: StageModule
    datamodule: ImageDataModule

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands and what the parser leaves out of each."""
        hidden = {"model", "train_dataloaders", "val_dataloaders", "datamodule", "ckpt_path", "weights_only"}
        return {"fit": hidden, "evaluate": set()}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of a run, beside those of its parts."""
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
            "--checkpoint_every",
            type=int,
            default=100,
            help="Optimiser steps between two checkpoints of a stage.",
        )
        for name in ("run_dir", "stage", "experts_dir"):
            parser.link_arguments(name, f"model.{name}")
        parser.add_class_arguments(Evaluation, "evaluation")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer of a stage's fit."""
        if self.subcommand == "evaluate":
            return super().instantiate_trainer(**kwargs)
        every = self._get(self.config_init, "checkpoint_every")
        if every < 1:
            raise ConfigError(f"--checkpoint_every must be at least 1, got {every}")
        module = self.model
        title = f"stage {module.stage} of {module.stages}: distilling"
        self.trainer_defaults["callbacks"] = [
            StageCallback(),
            StepProgress(title, module.iterations, "loss"),
            ImageMonitor(),
            ModelCheckpoint(
                dirpath=module.folder.checkpoints,
                filename="{step}",
                every_n_train_steps=every,
                save_top_k=1,
                enable_version_counter=False,
            ),
        ]
        given = self._get(self.config_init, "trainer")
        if given.get("logger") in (None, True):
            kwargs["logger"] = TensorBoardLogger(str(module.run.tensorboard), f"stage_{module.stage:02d}", version="")
        if given.get("max_steps", -1) == -1:
            kwargs["max_steps"] = module.iterations
        return super().instantiate_trainer(default_root_dir=str(module.run.directory), **kwargs)

    def fit(self, **_: Any) -> None:
        """Fit the stage, continue it, or say that there is nothing to do."""
        module, data = self.model, self.datamodule
        data.prepare_data()
        data.setup("fit")
        module.verify_finished(data.fingerprint)
        if module.folder.complete:
            which = "all stages are" if module.stage == module.stages else f"stage {module.stage} is"
            say(f"{which} complete in {module.run.directory}: nothing to do")
        else:
            checkpoint = latest_checkpoint(module.folder.checkpoints)
            if checkpoint is not None:
                say(f"stage {module.stage}: continuing from {checkpoint}")
            self.trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            if self.trainer.global_step >= module.iterations:
                say(f"stage {module.stage} of {module.stages} is complete: {module.folder.synthetic}")
            else:
                say(
                    f"stage {module.stage} stopped at step {self.trainer.global_step} of {module.iterations}: run the "
                    "same command to continue"
                )
        self._report_status()

    def evaluate(self, **_: Any) -> None:
        """Score the run and print the table."""
        self.datamodule.prepare_data()
        self.datamodule.setup("test")
        evaluation = self._get(self.config_init, "evaluation")
        rows = Evaluator(self.model, self.datamodule, evaluation, self._evaluation_trainer).run()
        folder = self.model.run.evaluation
        if self.trainer.is_global_zero:
            dump = self._parser(self.subcommand).dump(self.config[str(self.subcommand)], skip_none=False)
            atomic_write(folder / "config.yaml", dump.encode())
            Console().print(render_table(rows))
            say(f"results: {folder / 'results.json'}, {folder / 'results.md'}")
            say(f"pictures: {self.model.run.stage(self.model.stages).pictures}")

    def _evaluation_trainer(self, steps: int, callbacks: Sequence[Callback]) -> Trainer:
        config = {
            **self._get(self.config_init, "trainer"),
            "max_steps": steps,
            "max_epochs": -1,
            "max_time": None,
            "callbacks": list(callbacks),
            "logger": False,
            "enable_checkpointing": False,
            "default_root_dir": str(self.model.run.directory),
        }
        return PDDTrainer(**config)

    def _report_status(self) -> None:
        """Tell `pdd-cli run`, which does not parse the configuration itself, how far the run is."""
        path = os.environ.get(STATUS_VARIABLE)
        if path:
            module = self.model
            status = {
                "run_dir": str(module.run.directory),
                "stages": module.stages,
                "completed": module.run.completed(module.stages),
                "images_per_class": sum(module.per_stage),
                "iterations": module.iterations * module.stages,
                "experts_dir": str(module.experts_dir),
                "baselines": list(self._get(self.config_init, "evaluation").baselines),
            }
            atomic_write(Path(path), json.dumps(status).encode())


def latest_checkpoint(folder: Path) -> str | None:
    """The checkpoint with most steps, if there is one."""
    found = {int(path.stem.partition("=")[2]): path for path in folder.glob("step=*.ckpt")}
    return str(found[max(found)]) if found else None


def say(line: str) -> None:
    """A line for the person at the terminal."""
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def main(args: Sequence[str] | None = None) -> None:
    """Run `pdd-cli fit` or `pdd-cli evaluate`.

    Args:
        args: Arguments; those of the process by default.
    """
    quiet()
    try:
        PDDCLI(
            StageModule,
            ImageDataModule,
            subclass_mode_data=True,
            trainer_class=PDDTrainer,
            trainer_defaults={
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "use_distributed_sampler": False,
                "log_every_n_steps": 10,
            },
            save_config_callback=StageConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=list(args) if args is not None else None,
        )
    except PDDError as error:
        print(f"pdd-cli: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
