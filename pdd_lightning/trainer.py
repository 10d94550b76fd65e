"""The trainer of the command line, and what it keeps beside a stage."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from pdd_lightning.modules.stage import StageModule
from pdd_lightning.store import atomic_write


class PDDTrainer(Trainer):
    """Lightning's trainer, with the commands that the parser offers beside `fit`."""

    def evaluate(self) -> None:
        """Train fresh networks on the finished run and report their test accuracy after every stage."""
        # LightningCLI looks commands up here; PDDCLI.evaluate does the work, with one trainer for each fit.
        raise RuntimeError("use `pdd-cli evaluate`")

    def select(self) -> None:
        """Choose real images in place of distilled ones, as a finished run of one stage that `evaluate` scores."""
        raise RuntimeError("use `pdd-cli select`")

    def plan(self) -> None:
        """Say what a run will take, before it starts: time, memory and disk, from a short measurement."""
        raise RuntimeError("use `pdd-cli plan`")


class StageConfig(SaveConfigCallback):
    """Keeps the exact configuration beside what it made."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml` into the stage's folder."""
        if isinstance(pl_module, StageModule):
            text = self.parser.dump(self.config, skip_unset=False)
            atomic_write(pl_module.folder.directory / "config.yaml", text.encode())
