"""The sets of images that an evaluation trains on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from lightning.pytorch import Callback, Trainer

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ArtifactError
from pdd_lightning.evaluation.protocol import SELECTION, SELECTIONS, Evaluation, Noting
from pdd_lightning.process.launch import first_process_first
from pdd_lightning.selection.random import random_images
from pdd_lightning.stage.context import selection_context
from pdd_lightning.stage.initial_images import initial_images
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import one_stage_options
from pdd_lightning.stage.subsets import Subset, read_subset
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.types import ONE_STAGES, LabelledImages, stage_title

MakeTrainer = Callable[[int, Sequence[Callback]], Trainer]
"""(optimiser steps, callbacks) -> a trainer for one fit."""


class Sets(ABC):
    """Where an evaluation takes its sets from: a finished run, or what a plan puts in its place."""

    @abstractmethod
    def distilled(self) -> tuple[str, list[Subset]]:
        """The name of the run's rows, and its subsets."""

    @abstractmethod
    def one_stage(self, baseline: str) -> Subset:
        """A baseline of one stage, by its name."""

    @abstractmethod
    def selected(self, baseline: str, ipc: int) -> LabelledImages:
        """Real images that a selection chooses."""


class RunSets(Sets):
    """The sets of a finished run.

    Args:
        module: Says what the run is made of.
        data: Its data, set up.
        evaluation: Says how the network is trained that selections ask.
        make_trainer: Makes trainers, which know the processes.
        noting: Told of the training that selections take.
    """

    def __init__(
        self,
        module: StageModule,
        data: ImageDataModule,
        evaluation: Evaluation,
        make_trainer: MakeTrainer,
        noting: Noting,
    ) -> None:
        self.module, self.data, self.evaluation = module, data, evaluation
        self.make_trainer, self.noting = make_trainer, noting
        self._chosen: dict[tuple[str, int], LabelledImages] = {}

    def distilled(self) -> tuple[str, list[Subset]]:
        """See :meth:`Sets.distilled`.

        Raises:
            ArtifactError: If the run is not complete, or was changed.
        """
        run, stages = self.module.run, self.module.options.stages
        if (given := run.given_as) is not None:
            run.stage(1).verify(None, self.data.fingerprint, None)
            return given, [read_subset(run.stage(1))]
        if (done := run.completed(stages)) < stages:
            raise ArtifactError(
                f"{run.directory} has {done} of {stages} stages complete: run `pdd-cli run` or `pdd-cli fit` with the "
                "same configuration first"
            )
        self.module.verify_finished(self.data.fingerprint)
        return "pdd" if stages > 1 else "distilled", [read_subset(run.stage(k)) for k in range(1, stages + 1)]

    def one_stage(self, baseline: str) -> Subset:
        """See :meth:`Sets.one_stage`.

        Raises:
            ArtifactError: If it is not complete, or was made under other settings.
        """
        options = one_stage_options(self.module.options, baseline)
        folder = options.run.stage(1)
        if not folder.complete:
            raise ArtifactError(
                f"{stage_title(1, baseline=baseline)} is not in {options.run.directory}: `pdd-cli run` makes it, or "
                f"leave `{baseline}` out of evaluation.baselines"
            )
        folder.verify(options.settings(1), self.data.fingerprint, None)
        return read_subset(folder)

    def selected(self, baseline: str, ipc: int) -> LabelledImages:
        """See :meth:`Sets.selected`; chosen once."""
        if (baseline, ipc) not in self._chosen:
            selection = SELECTIONS[baseline].by(self.evaluation.full, self.evaluation.full_rate)
            strategy = self.make_trainer(1, []).strategy
            context = selection_context(self.module.options, self.data, strategy.root_device)
            with self.noting(SELECTION), first_process_first(strategy):
                self._chosen[baseline, ipc] = self.data.train.take(selection.select(context, ipc))
        return self._chosen[baseline, ipc]


def set_origin(module: StageModule, name: str) -> str | None:
    """What the rows of a set rest on: the finished stages, with their settings, data and images.

    Args:
        module: Of a finished run.
        name: Of the set.

    Returns:
        A fingerprint; None for a baseline of one stage that is not there.
    """
    run = module.run
    mine = run.stage(run.completed(module.options.stages)).fingerprint()
    if name not in ONE_STAGES:
        return mine
    folder = one_stage_options(module.options, name).run.stage(1)
    return fingerprint([mine, folder.fingerprint()]) if folder.complete else None


class PlannedSets(Sets):
    """Images of the right sizes in place of those that the run will make.

    Args:
        module: The run.
        data: Its data, set up.
    """

    def __init__(self, module: StageModule, data: ImageDataModule) -> None:
        self.module, self.data = module, data

    def distilled(self) -> tuple[str, list[Subset]]:
        """See :meth:`Sets.distilled`."""
        options = self.module.options
        subsets = [self._subset(stage, ipc) for stage, ipc in enumerate(options.per_stage, start=1)]
        return "pdd" if options.stages > 1 else "distilled", subsets

    def one_stage(self, baseline: str) -> Subset:
        """See :meth:`Sets.one_stage`."""
        return self._subset(1, sum(self.module.options.per_stage))

    def selected(self, baseline: str, ipc: int) -> LabelledImages:
        """See :meth:`Sets.selected`."""
        data = self.data
        return LabelledImages(*random_images(data.train, data.class_names, ipc, self.module.options.seed, "plan"))

    def _subset(self, stage: int, ipc: int) -> Subset:
        options, data = self.module.options, self.data
        images = initial_images(options, stage, data.train, data.class_names, ipc)
        return Subset(LabelledImages(*images), options.learning_rate, stage, options.factor)
