"""The command line: `pdd-cli fit`, `evaluate`, `select`, `plan` and `compare`; `run` is in `cli.run`."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from pdd_lightning.cli.classes import explained_imports
from pdd_lightning.cli.fit import StageConfig
from pdd_lightning.cli.messages import OptionParser, qualified, refuse_undecodable, refuse_unrecorded
from pdd_lightning.cli.options import add_run_options
from pdd_lightning.cli.run import PROBE_VARIABLE, about, plan
from pdd_lightning.cli.run import main as run
from pdd_lightning.cli.sections import explained_files
from pdd_lightning.compute.memory import keep_freed_memory
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.compare import main as compare
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.evaluation.report import render_table
from pdd_lightning.evaluation.selected_run import SelectedRun, refuse_selected
from pdd_lightning.planning.command import Planner
from pdd_lightning.planning.readings import begin_command
from pdd_lightning.planning.records import ONE_STAGE, compare_with_plan, identity
from pdd_lightning.planning.space import state_space
from pdd_lightning.planning.usage import EvaluationUsage, StageUsage
from pdd_lightning.process.failures import end
from pdd_lightning.process.launch import (
    PDDTrainer,
    adopt,
    first_process_first,
    join_children,
    load_data,
    require_meeting_point,
)
from pdd_lightning.process.lock import RunLock, held_by_parent
from pdd_lightning.process.quiet import quiet
from pdd_lightning.process.ranks import is_first, started_by_lightning
from pdd_lightning.stage.callback import StageCallback
from pdd_lightning.stage.checkpoints import SealedCheckpointIO, StageCheckpoint, latest_checkpoint, read_checkpoint
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.monitor import ImageMonitor, StepProgress
from pdd_lightning.stage.rebuild import rebuild_end_states
from pdd_lightning.store.files import atomic_write, remove_unfinished, require_writable
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import Json

FIT = "Distil the next unfinished stage, or the one given by --stage; interrupted, it continues when it is run again."


ONE_DEVICE = {"devices": 1, "num_nodes": 1, "strategy": "auto", "max_time": None}
"""Options of the trainer in a rehearsal, which is a process by itself."""


MOST_THREADS = 1024
"""A number beyond it is a slip of the finger, which the system would try to make true."""


STATUS_VARIABLE = "PDD_STATUS_FILE"
"""Environment variable naming the file in which `fit` tells `run` how far the run is."""


_held = ExitStack()
"""The folder that the command works in."""


class PDDCLI(LightningCLI):
    """Builds data, stage and trainer from one configuration, for every command."""

    model: StageModule
    datamodule: ImageDataModule
    _taken = False

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if subcommand not in ("select", "plan"):
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        # The trainer's methods have no options, and the group that Lightning would make for one is that of our own.
        parser = self.init_parser(**kwargs)
        self._add_arguments(parser)
        self._subcommand_method_arguments[subcommand] = []
        return parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands and what the parser leaves out of each."""
        hidden = {"model", "train_dataloaders", "val_dataloaders", "datamodule", "ckpt_path", "weights_only"}
        return {"fit": hidden, "evaluate": set(), "select": set(), "plan": set()}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of a run, beside those of its parts."""
        add_run_options(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, without Lightning's warning about programs that have arguments of their own, as pytest has."""
        refuse_undecodable(args)
        with explained_files(parser, args), explained_imports():
            self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Set what belongs to the process."""
        threads = self._get(self.config, "threads")
        if threads is not None:
            if not 1 <= threads <= MOST_THREADS:
                raise ConfigError(f"--threads must be from 1 to {MOST_THREADS}, got {threads}")
            torch.set_num_threads(threads)

    def instantiate_classes(self) -> None:
        """Make data, stage and trainer; mistakes found on the way are named by their dotted option."""
        with qualified(self.config[str(self.subcommand)]):
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        with qualified(self.config[str(self.subcommand)]):
            super()._run_subcommand(subcommand)

    def _make_trainer(self, **kwargs: Any) -> Trainer:
        try:
            trainer = adopt(super().instantiate_trainer(**kwargs))
        except (TypeError, ValueError, MisconfigurationException) as error:
            text = " ".join(str(error).split())
            raise ConfigError(f"--trainer: {text} Correct the trainer's options") from error
        if self.subcommand != "plan":
            require_meeting_point(trainer)
        return trainer

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer of a stage's fit.

        Raises:
            ConfigError: If the trainer's options are impossible.
        """
        refuse_unrecorded(self._get(self.config_init, "trainer"))
        if self.subcommand != "fit":
            return self._make_trainer(**kwargs)
        module = self.model
        title = f"stage {module.stage} of {module.options.stages}: distilling"
        progress = StepProgress(title, module.options.iterations, "loss")
        minutes: float = self._get(self.config_init, "checkpoint_minutes")
        checkpoints = StageCheckpoint(module.folder.checkpoints, self._checkpoint_every, minutes)
        callbacks = [StageCallback(), StageUsage(), progress, ImageMonitor(), checkpoints]
        return self._stage_trainer(module, callbacks, **kwargs)

    @property
    def _checkpoint_every(self) -> int:
        every: int = self._get(self.config_init, "checkpoint_every")
        return every

    def _stage_trainer(self, module: StageModule, callbacks: Sequence[Callback], **kwargs: Any) -> Trainer:
        """A trainer for one stage, with the callbacks and plugins of the configuration too."""
        given = self._get(self.config_init, "trainer")
        self.trainer_defaults["callbacks"] = list(callbacks)
        own, plugins = given.get("callbacks") or [], given.get("plugins") or []
        kwargs["callbacks"] = list(own) if isinstance(own, list) else [own]
        kwargs["plugins"] = [SealedCheckpointIO(), *(plugins if isinstance(plugins, list) else [plugins])]
        if given.get("logger") in (None, True):
            kwargs["logger"] = TensorBoardLogger(str(module.run.tensorboard), f"stage_{module.stage:02d}", version="")
        if not 0 <= given.get("max_steps", -1) <= module.options.iterations:
            kwargs["max_steps"] = module.options.iterations
        return self._make_trainer(default_root_dir=str(module.run.directory), **kwargs)

    def fit(self, **_: Any) -> None:
        """Fit the stage, continue it, or say that there is nothing to do."""
        module, data = self.model, self.datamodule
        load_data(self.trainer, data, "fit")
        refuse_selected(module.run)
        self._rebuild()
        module.verify_finished(data.fingerprint)
        if module.folder.complete:
            which = "all stages are" if module.stage == module.options.stages else f"stage {module.stage} is"
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
            require_writable(module.options.experts_folder, "--experts_dir")
            whole_run = STATUS_VARIABLE in os.environ
            one_stage = whole_run and module.options.stages > 1 and ONE_STAGE in self._evaluation.baselines
            space = state_space(module, data, whole_run=whole_run, one_stage=one_stage)
            self._take(module.run)
            say(space)
            self._train(checkpoint)
            if self.trainer.global_step >= module.options.iterations:
                say(f"stage {module.stage} of {module.options.stages} is complete: {module.folder.synthetic}")
                if module.options.discard is not None:
                    say(f"stage {module.stage}: {module.saving}")
            else:
                where = f"step {self.trainer.global_step} of {module.options.iterations}"
                say(f"stage {module.stage} stopped at {where}: run the same command to continue")
        self._report_status()

    def _train(self, checkpoint: str | None) -> None:
        self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, weights_only=True)

    def _rebuild(self) -> None:
        """With --rebuild, make what is damaged and can be made again."""
        if self._get(self.config_init, "rebuild") and self.model.run.directory.is_dir():
            self._take(self.model.run)
            strategy = self.trainer.strategy
            with first_process_first(strategy):
                for path in rebuild_end_states(self.model, self.datamodule, strategy.root_device):
                    say(f"made again: {path}")

    def _take(self, run: RunFolder) -> None:
        """Hold the run's folder until this process ends, unless `run` holds it already."""
        if is_first() and not self._taken:
            if not held_by_parent(run.directory):
                _held.enter_context(RunLock(run.directory))
            remove_unfinished(run.directory, run.experts)
            self._taken = True

    def evaluate(self, **_: Any) -> None:
        """Score the run and print the table."""
        load_data(self.trainer, self.datamodule, "test")
        if self.model.run.directory.is_dir():
            self._take(self.model.run)
        self._rebuild()
        folder, main_process = self.model.run.evaluation, self.trainer.is_global_zero
        which = identity(self.model, self.datamodule.fingerprint, self._evaluation)
        usage = EvaluationUsage(folder, which, self.trainer.strategy.root_device, main_process)
        rows = self._evaluator(noting=usage.job).run()
        if main_process:
            self._keep_config(folder)
            Console().print(render_table(rows))
            say(f"results: {folder / 'results.json'}, {folder / 'results.md'}")
            compare_with_plan(self.model, self.datamodule.fingerprint, self._evaluation)
            say(f"pictures: {self.model.run.stage(self.model.run.completed(self.model.options.stages)).pictures}")

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

    def plan(self, **_: Any) -> None:
        """Measure a part of the plan, as one of the processes that `pdd_lightning.cli.run.plan` starts."""
        module, data, rehearsed = self.model, self.datamodule, {"enable_checkpointing": False, **ONE_DEVICE}
        data.prepare_data()
        data.setup("fit")
        refuse_selected(module.run)
        module.verify_finished(data.fingerprint)
        module.check(data)
        self._evaluator().check()
        require_writable(module.run.directory, "--run_dir")
        planner = Planner(
            module,
            data,
            evaluation=self._evaluation,
            planning=self._get(self.config_init, "plan"),
            checkpoint_every=self._checkpoint_every,
            world=self.trainer.num_devices * self.trainer.num_nodes,
            make_stage=self._make_stage,
            stage_trainer=lambda stage, callbacks: self._stage_trainer(stage, callbacks, **rehearsed),
            evaluation_trainer=lambda steps, callbacks: self._evaluation_trainer(steps, callbacks, **ONE_DEVICE),
        )
        planner.run(Path(os.environ[PROBE_VARIABLE]))

    def _make_stage(self, changes: Json) -> StageModule:
        """The configuration's module with other options."""
        config = self.config[str(self.subcommand)].clone()
        for option, value in changes.items():
            config.model[option] = value
        module = self._parser(self.subcommand).instantiate(config).model
        assert isinstance(module, StageModule)
        return module

    @property
    def _evaluation(self) -> Evaluation:
        evaluation: Evaluation = self._get(self.config_init, "evaluation")
        return evaluation

    def _evaluator(self, **options: Any) -> Evaluator:
        return Evaluator(self.model, self.datamodule, self._evaluation, self._evaluation_trainer, **options)

    def _evaluation_trainer(self, steps: int, callbacks: Sequence[Callback], **options: Any) -> Trainer:
        config = {
            **self._get(self.config_init, "trainer"),
            "max_steps": steps,
            "max_epochs": -1,
            "max_time": None,
            "callbacks": list(callbacks),
            "logger": False,
            "enable_checkpointing": False,
            "default_root_dir": str(self.model.run.directory),
            **options,
        }
        return adopt(PDDTrainer(**config))

    def _report_status(self) -> None:
        """Tell `pdd-cli run`, which does not parse the configuration itself, how far the run is."""
        path = os.environ.get(STATUS_VARIABLE)
        if path and not started_by_lightning():
            module = self.model
            status = {
                "run_dir": str(module.run.directory),
                "stages": module.options.stages,
                "completed": module.run.completed(module.options.stages),
                "images_per_class": sum(module.options.per_stage),
                "iterations": module.options.iterations * module.options.stages,
                "experts_dir": str(module.options.experts_folder),
                "baselines": list(self._evaluation.baselines),
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
    if (text := about(arguments)) is not None:
        print(text, end="")
        return
    if arguments[0] == "run":
        raise SystemExit(run(arguments[1:]))
    if arguments[0] == "plan" and PROBE_VARIABLE not in os.environ:
        raise SystemExit(plan(arguments[1:]))
    begin_command()
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
            parser_kwargs={"prog": "pdd-cli", "fit": {"description": FIT}},
            args=arguments,
        )
        join_children()
    except Exception as error:
        end(error)
    finally:
        _held.close()
