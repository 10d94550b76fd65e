"""The exact configuration beside what it made."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from pdd_lightning.stage.module import StageModule
from pdd_lightning.store.files import write_text


class StageConfig(SaveConfigCallback):
    """Keeps the exact configuration beside what it made."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml` into the stage's folder."""
        if isinstance(pl_module, StageModule):
            write_text(pl_module.folder.directory / "config.yaml", self.parser.dump(self.config, skip_unset=False))
