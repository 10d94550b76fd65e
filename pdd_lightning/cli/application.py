"""From one configuration to data, stage and trainers: what every command that reads a configuration works with."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from jsonargparse import set_dumper, set_parsing_settings
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger

from pdd_lightning.cli.classes import explained_imports, import_exported
from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.cli.messages import OptionParser, dump_yaml, qualified, refuse_undecodable
from pdd_lightning.cli.options import add_run_options, check_options
from pdd_lightning.cli.parts import check_parts, explained_failures, explained_parts
from pdd_lightning.cli.paths import all_from_home
from pdd_lightning.cli.sections import explained_files
from pdd_lightning.cli.trainer import explained_misuse, make_trainer
from pdd_lightning.compute.memory import keep_freed_memory
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.distilling.fitting import say
from pdd_lightning.distilling.trainers import (
    TRAINER_DEFAULTS,
    evaluation_trainer_options,
    listed,
    stage_trainer_options,
)
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.process.clock import begin_command
from pdd_lightning.process.launch import first_process_first, join_children, require_meeting_point
from pdd_lightning.process.lock import RunLock, held_by_parent
from pdd_lightning.process.ranks import is_first, sharing
from pdd_lightning.selection.discard import EasyDiscard
from pdd_lightning.stage.logs import loggers_of
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.rebuild import rebuild_end_states
from pdd_lightning.store.files import remove_unfinished, write_text
from pdd_lightning.training import Recipe
from pdd_lightning.types import Json


class Application(LightningCLI):
    """One configuration as Lightning's command line reads it, with a parser for the one command that was given.

    Commands make the trainers that they need. Use it by :func:`application`.

    Args:
        command: Its name.
        args: Its arguments.

    Attributes:
        model: The stage.
        datamodule: Its data.
        held: Lets go of the run's folder.
    """

    model: StageModule
    datamodule: ImageDataModule

    def __init__(self, command: str, args: Sequence[str]) -> None:
        self.held = ExitStack()
        self._taken = False
        import_exported()
        # Their options are given as they are: nobody brings a recipe of another class.
        set_parsing_settings(subclasses_disabled=[Recipe, EasyDiscard])
        set_dumper("yaml", dump_yaml)
        super().__init__(
            StageModule,
            ImageDataModule,
            subclass_mode_data=True,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            save_config_callback=None,
            seed_everything_default=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=OptionParser,
            parser_kwargs={"prog": f"pdd-cli {command}", "description": COMMANDS[command].help},
            args=list(args),
            run=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of a run, beside those of its parts."""
        add_run_options(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, without Lightning's warning about programs that have arguments of their own, as pytest has."""
        assert isinstance(args, list)
        refuse_undecodable(args)
        with explained_files(parser, args), explained_imports():
            self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Check the options that no part checks, and set what belongs to the process."""
        check_options(self.config)
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)

    def instantiate_classes(self) -> None:
        """Make data, stage and the other parts; mistakes found on the way are named by their dotted option."""
        self._usable = all_from_home(self.config)
        check_parts(self._usable.trainer)
        with qualified(self.config), explained_parts() as instantiators:
            self.config_init = self.parser.instantiate(self._usable, instantiators=instantiators)
        self.model, self.datamodule = self.config_init.model, self.config_init.data

    def option(self, name: str) -> Any:
        """What an option of the run holds: a value, or the part of the configuration that it names, made."""
        return self.config_init[name]

    @property
    def evaluation(self) -> Evaluation:
        """How the run is scored."""
        evaluation: Evaluation = self.option("evaluation")
        return evaluation

    @property
    def text(self) -> str:
        """The exact configuration, which gives the same result when it is used again."""
        text: str = self.parser.dump(self.config, skip_unset=False)
        return text

    def keep(self, path: Path) -> None:
        """Write the configuration beside what it makes."""
        write_text(path, self.text)

    def loggers(self, part: str) -> list[Logger]:
        """The loggers of a part of the run; see :func:`pdd_lightning.stage.logs.loggers_of`."""
        return loggers_of(self.option("trainer").logger, self.model.run, part)

    def stage(self, changes: Json) -> StageModule:
        """The configuration's stage with other options."""
        config = self._usable.clone()
        for option, value in changes.items():
            config.model[option] = value
        module: StageModule = self.parser.instantiate(config).model
        return module

    def trainer_of(self, **options: Any) -> Trainer:
        """A trainer with the configuration's options, apart from those given here.

        Raises:
            ConfigError: If the trainer's options are impossible.
        """
        # Stages and evaluations have bars of their own, whether Lightning's are asked for or not.
        given = {**self.option("trainer"), "enable_progress_bar": False}
        wait: float = self.option("wait_minutes")
        return make_trainer({**given, **options}, wait_minutes=wait, together="devices" not in options)

    def processes(self) -> Trainer:
        """A trainer that fits nothing: it knows the device and the other processes.

        Raises:
            ConfigError: If the trainer's options are impossible, or other machines could not find this one.
        """
        trainer = self.trainer_of(logger=False)
        require_meeting_point(trainer)
        return trainer

    def stage_trainer(self, module: StageModule, callbacks: Sequence[Callback], **options: Any) -> Trainer:
        """A trainer for one stage, with the callbacks and plugins of the configuration too."""
        mine = stage_trainer_options(module, callbacks, self.option("trainer"), self.text)
        return self.trainer_of(**{**mine, **options})

    def evaluation_trainer(self, steps: int, callbacks: Sequence[Callback], **options: Any) -> Trainer:
        """A trainer for one fit of the evaluation."""
        return self.trainer_of(**{**evaluation_trainer_options(self.model, steps, callbacks), **options})

    def evaluator(self, **options: Any) -> Evaluator:
        """Scores the run; options are the :class:`Evaluator`'s."""
        return Evaluator(self.model, self.datamodule, self.evaluation, self.evaluation_trainer, **options)

    def take(self) -> None:
        """Hold the run's folder until the command ends, unless `run` holds it already.

        Raises:
            BusyError: If another process works in it.
        """
        run = self.model.run
        if is_first() and not self._taken:
            if not held_by_parent(run.directory):
                self.held.enter_context(RunLock(run.directory))
            if sharing() == 1:  # what another command of the run has not finished is no rest
                remove_unfinished(run.directory, run.experts)
            self._taken = True

    def rebuild(self, trainer: Trainer) -> None:
        """With --rebuild, make what is damaged and can be made again.

        Args:
            trainer: Knows the processes.
        """
        if self.option("rebuild") and self.model.run.directory.is_dir():
            self.take()
            strategy = trainer.strategy
            with first_process_first(strategy):
                for path in rebuild_end_states(self.model, self.datamodule, strategy.root_device):
                    say(f"made again: {path}")


@contextmanager
def application(command: str, args: Sequence[str]) -> Iterator[Application]:
    """Read a command's configuration, and clean up behind the command.

    Args:
        command: Its name.
        args: Its arguments.

    Raises:
        ConfigError: If an option is wrong.
        PDDError: What the block raises, with options named by their place in the configuration.
    """
    begin_command()
    keep_freed_memory()
    made = Application(command, args)
    trainer = made.option("trainer")
    parts = [*listed(trainer.callbacks), *listed(trainer.logger), *listed(trainer.profiler)]
    with made.held, qualified(made.config), explained_misuse(), explained_failures(parts):
        yield made
        join_children()
