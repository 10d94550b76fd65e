"""Scoring a run: every row is trained, scored once on the test set and kept."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.evaluation.module import EvaluationModule
from pdd_lightning.evaluation.protocol import (
    SELECTION,
    SELECTIONS,
    Baseline,
    Evaluation,
    Job,
    distilled_job,
    full_job,
    progressive_steps,
    random_job,
    selected_job,
    with_steps,
)
from pdd_lightning.evaluation.report import Row, write_results
from pdd_lightning.networks import Architecture, build_template
from pdd_lightning.process.launch import first_process_first
from pdd_lightning.selection.random import random_images
from pdd_lightning.stage.logs import finish, scalars
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.monitor import StepProgress
from pdd_lightning.stage.one_stage import ONE_STAGE, OneStage
from pdd_lightning.stage.subsets import Subset, read_subset
from pdd_lightning.store.digests import digest, fingerprint
from pdd_lightning.store.files import FORMAT, read_json, write_json
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages

MakeTrainer = Callable[[int, Sequence[Callback]], Trainer]
"""(optimiser steps, callbacks) -> a trainer for one fit."""


Noting = Callable[[str], AbstractContextManager[None]]
"""What is being trained -> a block that notes how long that took."""


TUNING_REPEATS = 3
"""Networks that try each learning rate for a random or selected subset."""


class Evaluator:
    """Scores a finished run against its baselines.

    Rows that are already on disk, made of the same images and settings, are not trained again.

    Args:
        module: Says what the run is made of.
        data: The run's data, set up.
        evaluation: What to train and compare with.
        make_trainer: Makes a trainer for each fit.
        noting: Told of every training by the label of its job.
        loggers: Told of the accuracies, one step for each stage.
    """

    def __init__(
        self,
        module: StageModule,
        data: ImageDataModule,
        evaluation: Evaluation,
        make_trainer: MakeTrainer,
        noting: Noting = lambda label: nullcontext(),
        loggers: Sequence[Logger] = (),
    ) -> None:
        self.module, self.data, self.evaluation, self.make_trainer = module, data, evaluation, make_trainer
        self.noting, self.loggers = noting, loggers
        self.recipe: Recipe = evaluation.recipe or module.recipe
        self.networks: list[Architecture] = evaluation.networks or [module.architecture]
        self.folder = module.run.evaluation
        self._chosen: dict[Baseline, LabelledImages] = {}

    def check(self) -> None:
        """Refuse before a run what its evaluation would refuse after it.

        Raises:
            ConfigError: Naming the option.
        """
        evaluation, data, ipc = self.evaluation, self.data, sum(self.module.per_stage)
        for network in self.networks:
            build_template(network, data.image_shape, data.num_classes)
        if len({network.name for network in self.networks}) < len(self.networks):
            raise ConfigError(f"evaluation.networks={[n.name for n in self.networks]}: rows could not be told apart")
        if {"random", *SELECTIONS} & set(evaluation.baselines):
            random_images(data.train, data.class_names, ipc, self.module.seed, "check")
            self.check_rates()

    def check_rates(self) -> None:
        """Refuse to compare learning rates without held-out images to compare them on.

        Raises:
            ConfigError: Naming the option.
        """
        if len(self.evaluation.random_rates) > 1 and not len(self.data.validation):
            raise ConfigError(
                f"evaluation.random_rates={self.evaluation.random_rates} are compared on held-out training images, and "
                "data.validation_fraction=0 holds none out: raise it or give a single rate"
            )

    def run(self) -> list[Row]:
        """Train and score everything, and write results.json and results.md.

        Raises:
            ArtifactError: If the run or the one-stage baseline is not complete, or changed.
        """
        self.check()
        name, subsets = self._subsets()
        rows: list[Row] = []
        for network in self.networks:
            for job in self._jobs(network, name, subsets):
                rows += self._rows(job)
        self._publish(rows)
        return rows

    @rank_zero_only
    def _publish(self, rows: Sequence[Row]) -> None:
        """Write the rows for programs and people, and log the accuracy after each stage."""
        write_results(rows, self.folder)
        for row in rows:
            scalars(self.loggers, {f"test accuracy {row.order}, {row.network}/{row.name}": row.mean}, row.stage)
        finish(self.loggers)

    def _subsets(self) -> tuple[str, list[Subset]]:
        """The name of the run's rows, and its subsets."""
        run, stages = self.module.run, self.module.stages
        if (selected := run.selected_by) is not None:
            run.stage(1).verify(None, self.data.fingerprint, None)
            return selected, [read_subset(run.stage(1))]
        if (done := run.completed(stages)) < stages:
            raise ArtifactError(
                f"{run.directory} has {done} of {stages} stages complete: run `pdd-cli run` or `pdd-cli fit` with the "
                "same configuration first"
            )
        self.module.verify_finished(self.data.fingerprint)
        return "pdd" if stages > 1 else "distilled", [read_subset(run.stage(k)) for k in range(1, stages + 1)]

    def _jobs(self, network: Architecture, name: str, subsets: Sequence[Subset]) -> list[Job]:
        """In the order of the table."""
        evaluation, budget = self.evaluation, progressive_steps(subsets, self.recipe)
        ipc = sum(len(subset.data) for subset in subsets) // self.data.num_classes
        jobs: list[Job] = []
        # A run of selected images needs no second row for them.
        wanted = [baseline for baseline in evaluation.baselines if baseline != name]
        if "random" in wanted:
            jobs.append(self._random(network, ipc, budget))
        jobs += [self._selected(network, baseline, ipc, budget) for baseline in SELECTIONS if baseline in wanted]
        if ONE_STAGE in evaluation.baselines:
            one = self._one_stage()
            recipe = with_steps(self.recipe, len(one.data), budget)
            jobs.append(distilled_job(ONE_STAGE, "union", network, [one], recipe, evaluation.seeds))
        jobs += [
            distilled_job(name, order, network, subsets, self.recipe, evaluation.seeds) for order in evaluation.orders
        ]
        if "full" in evaluation.baselines:
            jobs.append(full_job(network, self.data, evaluation))
        return jobs

    def _one_stage(self) -> Subset:
        baseline = OneStage.of(self.module)
        folder = baseline.run.stage(1)
        if not folder.complete:
            raise ArtifactError(
                f"the one-stage baseline is not in {baseline.run.directory}: `pdd-cli run` makes it, or leave "
                f"`{ONE_STAGE}` out of evaluation.baselines"
            )
        folder.verify(baseline.settings(self.module), self.data.fingerprint, None)
        return read_subset(folder)

    def _random(self, network: Architecture, ipc: int, budget: int) -> Job:
        """The random subset, at the best of the candidate rates."""
        recipe, seed = with_steps(self.recipe, ipc * self.data.num_classes, budget), self.module.seed
        best = self.tuned_rate(
            lambda rates, members: random_job(network, self.data, ipc, rates, recipe, seed, members, "tune")
        )
        seeds = self.evaluation.seeds
        return random_job(network, self.data, ipc, [best] * seeds, recipe, seed, range(seeds), "random")

    def _selected(self, network: Architecture, baseline: Baseline, ipc: int, budget: int) -> Job:
        """Selected real images, at the best of the candidate rates."""
        if baseline not in self._chosen:
            # A selection watches how plain examples are learned: it knows no CutMix.
            options = {key: value for key, value in asdict(self.evaluation.full).items() if key != "cutmix"}
            selection = SELECTIONS[baseline](**options, learning_rate=self.evaluation.full_rate)
            context = self.module.selection_context(self.data, self.device)
            with self.noting(SELECTION), first_process_first(self.make_trainer(1, []).strategy):
                self._chosen[baseline] = self.data.train.take(selection.select(context, ipc))
        subset = self._chosen[baseline]
        recipe = with_steps(self.recipe, len(subset), budget)
        best = self.tuned_rate(
            lambda rates, members: selected_job(baseline, network, subset, ipc, rates, recipe, members)
        )
        seeds = self.evaluation.seeds
        return selected_job(baseline, network, subset, ipc, [best] * seeds, recipe, range(seeds))

    @property
    def device(self) -> torch.device:
        """Where the fits of this process run."""
        return self.make_trainer(1, []).strategy.root_device

    def tuned_rate(self, make_job: Callable[[Sequence[float], Sequence[int]], Job]) -> float:
        """The best of the candidate learning rates on the held-out training images.

        Args:
            make_job: Makes the training of networks with these rates and these numbers.
        """
        rates = self.evaluation.random_rates
        if len(rates) == 1:
            return rates[0]
        # Every rate is tried on the same subsets and initialisations, which differ more than close rates do.
        trials = [rate for rate in rates for _ in range(TUNING_REPEATS)]
        job = make_job(trials, list(range(TUNING_REPEATS)) * len(rates))
        accuracies = self._accuracies(replace(job, name=f"{job.name}-tuning"), self.data.validation)[-1]
        results = list(zip(trials, accuracies, strict=True))
        return max(rates, key=lambda rate: sum(accuracy for tried, accuracy in results if tried == rate))

    def _rows(self, job: Job) -> list[Row]:
        accuracies = self._accuracies(job, self.data.test)
        steps = 0
        rows = []
        for index, phase in enumerate(job.phases):
            steps += phase.steps
            rows.append(
                Row(
                    name=job.name,
                    order=job.order,
                    network=job.network.name,
                    stage=job.stages[index],
                    images_per_class=job.images_per_class[index],
                    accuracies=tuple(accuracies[index]),
                    training_images=len(phase.data[0]),
                    steps=steps,
                    stored_bytes=job.stored_bytes[index],
                    learning_rate=tuple(p.rates[0] for p in job.phases[: index + 1]),
                    protocol="held-out",
                )
            )
        return rows

    def _accuracies(self, job: Job, score: LabelledImages) -> list[list[float]]:
        """Accuracies after every phase, from disk if they are known."""
        sets = [] if job.name == "full" else [digest(d.images, d.labels) for p in job.phases for d in p.data]
        identity = fingerprint(
            [FORMAT, job.describe(), self.module.augmentation.describe(), self.module.seed, self.data.fingerprint, sets]
        )
        path = self._path(job)
        if path.is_file():
            kept = read_json(path)
            accuracies = kept.get("accuracies")
            if kept.get("identity") == identity:
                _require_accuracies(path, accuracies, job)
                return cast(list[list[float]], accuracies)
        module = EvaluationModule(
            job.network,
            self.data.image_shape,
            self.data.num_classes,
            job.phases,
            score,
            self.module.augmentation,
            self.module.seed,
            job.name,
            job.members,
            self.evaluation.spread,
            self.module.compile_networks,
        )
        title = f"evaluation: {job.name}, {len(job.phases[0].data)} networks"
        trainer = self.make_trainer(module.total_steps, [StepProgress(title, module.total_steps)])
        with self.noting(job.label):
            trainer.fit(module)
        if trainer.is_global_zero:
            write_json(path, {"identity": identity, "job": job.describe(), "accuracies": module.accuracies})
        return module.accuracies

    def _path(self, job: Job) -> Path:
        # Two networks of one name with different options are told apart by their description.
        label = f"{job.name}-{job.order}-{job.network.name}-{fingerprint(job.network.describe())[:8]}"
        label = re.sub(r"[^\w.+-]", "_", label)  # a class of the user's own may call itself anything
        return self.folder / "rows" / f"{label}.json"


def _require_accuracies(path: Path, accuracies: object, job: Job) -> None:
    """Refuse kept accuracies that are not one fraction for each network after each phase.

    Raises:
        ArtifactError: Naming the file.
    """
    count = len(job.members)
    rows = accuracies if isinstance(accuracies, list) and len(accuracies) == len(job.phases) else [None]
    for row in rows:
        if not (isinstance(row, list) and len(row) == count and all(type(a) is float and 0 <= a <= 1 for a in row)):
            raise ArtifactError(
                f"{path} does not hold {len(job.phases)} x {count} accuracies; delete it to have it made again"
            )
