"""The baseline of one stage: as many images and iterations as all stages of a run together, learned at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pdd_lightning.stage.module import StageModule
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import Json

ONE_STAGE: Final = "one-stage"
"""What the baseline is called among those of an evaluation."""


@dataclass(frozen=True)
class OneStage:
    """What the baseline of a run is made of.

    Attributes:
        run: Its folder, in that of the run.
        experts_dir: The run's expert trajectories, of which it finds those of stage 1.
        ipc: Images per class.
        iterations: Optimiser steps.
    """

    run: RunFolder
    experts_dir: Path
    ipc: int
    iterations: int

    @classmethod
    def of(cls, module: StageModule) -> Self:
        """The baseline of the run that a stage belongs to."""
        run = RunFolder(module.run.directory / "one_stage")
        return cls(run, module.experts_dir, sum(module.per_stage), module.iterations * module.stages)

    @property
    def changes(self) -> Json:
        """Options of the model in which it differs from a stage of the run."""
        # It is to learn from all real images, where the stages may divide them.
        return {"stages": 1, "ipc": self.ipc, "iterations": self.iterations, "discard": None}

    def settings(self, module: StageModule) -> Json:
        """What its stage must have been made under.

        Args:
            module: A stage of the run.
        """
        settings = module.settings()
        return {**settings, **{option: value for option, value in self.changes.items() if option in settings}}

    def arguments(self) -> list[str]:
        """What turns the command line of the run's `fit` into that of the baseline."""
        options = {option: "null" if value is None else value for option, value in self.changes.items()}
        folders = {"run_dir": self.run.directory, "experts_dir": self.experts_dir}
        return [f"--{name}={value}" for name, value in folders.items()] + [
            f"--model.{option}={value}" for option, value in options.items()
        ]
