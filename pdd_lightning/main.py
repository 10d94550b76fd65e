"""The command line: `pdd-cli fit`, `evaluate`, `select` and `compare`; `run` is in :mod:`pdd_lightning.run`."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from pdd_lightning.callbacks import ImageMonitor, StageCallback, StageCheckpoint, StepProgress
from pdd_lightning.callbacks.config import StageConfig
from pdd_lightning.checkpoint_io import SealedCheckpointIO
from pdd_lightning.class_paths import explained_imports
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.disk import latest_checkpoint, read_checkpoint, remove_unfinished, require_writable
from pdd_lightning.errors import ConfigError, PDDError
from pdd_lightning.failures import end
from pdd_lightning.lock import RunLock, held_by_parent, is_first, started_by_lightning
from pdd_lightning.memory import keep_freed_memory
from pdd_lightning.modules.footprint import disk_line
from pdd_lightning.modules.stage import StageModule
from pdd_lightning.parsing import OptionParser, check_file, config_files, qualify, refuse_unrecorded
from pdd_lightning.quiet import quiet
from pdd_lightning.run import OVERVIEW
from pdd_lightning.run import main as run
from pdd_lightning.scoring.compare import main as compare
from pdd_lightning.scoring.evaluate import Evaluator
from pdd_lightning.scoring.protocol import Evaluation
from pdd_lightning.scoring.report import render_table
from pdd_lightning.scoring.select import SelectedRun, Selecting
from pdd_lightning.scoring.selected import selected_by
from pdd_lightning.store import RunFolder, atomic_write
from pdd_lightning.trainers import PDDTrainer, adopt, join_children, load_data

STATUS_VARIABLE = "PDD_STATUS_FILE"
"""Environment variable naming the file in which `fit` tells `run` how far the run is."""


_held = ExitStack()
"""The folder that the command works in."""


class PDDCLI(LightningCLI):
    """Builds data, stage and trainer from one configuration, for every command."""

    model: StageModule
    datamodule: ImageDataModule

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if subcommand != "select":
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        # The trainer's method has no options, and the group that Lightning would make for it is that of our own.
        parser = self.init_parser(**kwargs)
        self._add_arguments(parser)
        self._subcommand_method_arguments[subcommand] = []
        return parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands and what the parser leaves out of each."""
        hidden = {"model", "train_dataloaders", "val_dataloaders", "datamodule", "ckpt_path", "weights_only"}
        return {"fit": hidden, "evaluate": set(), "select": set()}

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
        for name in ("run_dir", "stage", "experts_dir"):
            parser.link_arguments(name, f"model.{name}")
        parser.add_class_arguments(Evaluation, "evaluation")
        # For every command, so that one file serves all of them.
        parser.add_class_arguments(Selecting, "select")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, without Lightning's warning about programs that have arguments of their own, as pytest has."""
        for path in config_files(args):
            check_file(path)
        with explained_imports():
            self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Set what belongs to the process."""
        threads = self._get(self.config, "threads")
        if threads is not None:
            if threads < 1:
                raise ConfigError(f"--threads must be at least 1, got {threads}")
            torch.set_num_threads(threads)

    def instantiate_classes(self) -> None:
        """Make data, stage and trainer; mistakes found on the way are named by their dotted option."""
        with self._qualified():
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        with self._qualified():
            super()._run_subcommand(subcommand)

    @contextmanager
    def _qualified(self) -> Iterator[None]:
        """Name an option by its place in the configuration, also where jsonargparse wrapped the error."""
        try:
            yield
        except Exception as error:
            cause: BaseException | None = error
            # jsonargparse tries every member of a union type and raises a ValueError of its own at the end.
            while cause is not None and not isinstance(cause, PDDError) and isinstance(error, ValueError):
                cause = cause.__cause__ or cause.__context__
            if not isinstance(cause, PDDError):
                raise
            raise type(cause)(qualify(str(cause), self.config[str(self.subcommand)])) from error

    def _make_trainer(self, **kwargs: Any) -> Trainer:
        try:
            return adopt(super().instantiate_trainer(**kwargs))
        except (ValueError, MisconfigurationException) as error:
            text = " ".join(str(error).split())
            raise ConfigError(f"--trainer: {text} Correct the trainer's options") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer of a stage's fit.

        Raises:
            ConfigError: If the trainer's options are impossible.
        """
        refuse_unrecorded(self._get(self.config_init, "trainer"))
        if self.subcommand != "fit":
            return self._make_trainer(**kwargs)
        every, minutes = (self._get(self.config_init, f"checkpoint_{name}") for name in ("every", "minutes"))
        module = self.model
        title = f"stage {module.stage} of {module.stages}: distilling"
        self.trainer_defaults["callbacks"] = [
            StageCallback(),
            StepProgress(title, module.iterations, "loss"),
            ImageMonitor(),
            StageCheckpoint(module.folder.checkpoints, every, minutes),
        ]
        given = self._get(self.config_init, "trainer")
        plugins = given.get("plugins") or []
        kwargs["plugins"] = [SealedCheckpointIO(), *(plugins if isinstance(plugins, list) else [plugins])]
        if given.get("logger") in (None, True):
            kwargs["logger"] = TensorBoardLogger(str(module.run.tensorboard), f"stage_{module.stage:02d}", version="")
        if not 0 <= given.get("max_steps", -1) <= module.iterations:
            kwargs["max_steps"] = module.iterations
        return self._make_trainer(default_root_dir=str(module.run.directory), **kwargs)

    def fit(self, **_: Any) -> None:
        """Fit the stage, continue it, or say that there is nothing to do."""
        module, data = self.model, self.datamodule
        load_data(self.trainer, data, "fit")
        if (selected := selected_by(module.run)) is not None:
            raise ConfigError(
                f"--run_dir={module.run.directory} holds images selected by {selected}; choose another folder to distil"
            )
        module.verify_finished(data.fingerprint)
        if module.folder.complete:
            which = "all stages are" if module.stage == module.stages else f"stage {module.stage} is"
            say(f"{which} complete in {module.run.directory}: nothing to do")
        else:
            # Everything that can be refused is refused before the first file is written.
            module.check(data)
            self._evaluator().check()
            checkpoint = latest_checkpoint(module.folder.checkpoints)
            if checkpoint is not None:
                module.verify_checkpoint(read_checkpoint(checkpoint), data.fingerprint)
                say(f"stage {module.stage}: continuing from {checkpoint}")
            require_writable(module.folder.directory, "--run_dir")
            require_writable(module.experts_dir, "--experts_dir")
            self._take(module.run)
            say(disk_line(module, data, "one-stage" in self._get(self.config_init, "evaluation").baselines))
            self._train(checkpoint)
            if self.trainer.global_step >= module.iterations:
                say(f"stage {module.stage} of {module.stages} is complete: {module.folder.synthetic}")
                if module.discard is not None:
                    say(f"stage {module.stage}: {module.saving}")
            else:
                say(
                    f"stage {module.stage} stopped at step {self.trainer.global_step} of {module.iterations}: run the "
                    "same command to continue"
                )
        self._report_status()

    def _train(self, checkpoint: str | None) -> None:
        self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, weights_only=True)

    def _take(self, run: RunFolder) -> None:
        """Hold the run's folder until this process ends, unless `run` holds it already."""
        if is_first():
            if not held_by_parent(run.directory):
                _held.enter_context(RunLock(run.directory))
            remove_unfinished(run.directory, run.experts)

    def evaluate(self, **_: Any) -> None:
        """Score the run and print the table."""
        load_data(self.trainer, self.datamodule, "test")
        self._take(self.model.run)
        rows = self._evaluator().run()
        folder = self.model.run.evaluation
        if self.trainer.is_global_zero:
            self._keep_config(folder)
            Console().print(render_table(rows))
            say(f"results: {folder / 'results.json'}, {folder / 'results.md'}")
            say(f"pictures: {self.model.run.stage(self.model.run.completed(self.model.stages)).pictures}")

    def select(self, **_: Any) -> None:
        """Choose real images, tune their learning rate and write them as a finished run."""
        data, run = self.datamodule, self.model.run
        selecting = self._get(self.config_init, "select")
        load_data(self.trainer, data, "fit")
        selected = SelectedRun(self._evaluator(), selecting)
        if selected.complete:
            say(f"the images are selected already in {run.directory}: nothing to do")
            return
        require_writable(run.stage(1).directory, "--run_dir")
        self._take(run)
        if self.trainer.is_global_zero:
            self._keep_config(run.stage(1).directory)
        subset = selected.make()
        if self.trainer.is_global_zero:
            selected.write(subset)
        say(f"{len(subset.data)} images selected by {selecting.method.name}: {run.stage(1).synthetic}")

    def _keep_config(self, folder: Path) -> None:
        """Keep the exact configuration beside what the command made."""
        text = self._parser(self.subcommand).dump(self.config[str(self.subcommand)], skip_unset=False)
        atomic_write(folder / "config.yaml", text.encode())

    def _evaluator(self) -> Evaluator:
        evaluation = self._get(self.config_init, "evaluation")
        return Evaluator(self.model, self.datamodule, evaluation, self._evaluation_trainer)

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
        return adopt(PDDTrainer(**config))

    def _report_status(self) -> None:
        """Tell `pdd-cli run`, which does not parse the configuration itself, how far the run is."""
        path = os.environ.get(STATUS_VARIABLE)
        if path and not started_by_lightning():
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


@rank_zero_only
def say(line: str) -> None:
    """A line for the person at the terminal, from one process."""
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def main(args: Sequence[str] | None = None) -> None:
    """The command line, as a function: ``main(["fit", "--config", "configs/smoke/stage.yaml"])``.

    Args:
        args: Arguments; those of the process by default.

    Raises:
        SystemExit: With status 2 after a mistake that the user can mend; its one line is on the standard error.
    """
    arguments = sys.argv[1:] if args is None else [str(arg) for arg in args]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return
    if arguments[0] == "run":
        raise SystemExit(run(arguments[1:]))
    quiet()
    keep_freed_memory()
    try:
        if arguments[0] == "compare":
            compare(arguments[1:])
            return
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
            parser_class=OptionParser,
            parser_kwargs={"prog": "pdd-cli"},
            args=arguments,
        )
        join_children()
    except Exception as error:
        end(error)
    finally:
        _held.close()
