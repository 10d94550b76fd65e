"""Scoring a run: every row is trained, scored once on the test set and kept."""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from pdd_lightning.compute.compiling import pays_to_compile, training_operations
from pdd_lightning.compute.cuda_graphs import records
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.evaluation.module import EvaluationModule, Phase
from pdd_lightning.evaluation.protocol import (
    SELECTIONS,
    Evaluation,
    Job,
    Noting,
    Training,
    distilled_job,
    full_job,
    progressive_steps,
    random_job,
    real_job,
    with_steps,
)
from pdd_lightning.evaluation.results import read_results, with_earlier, write_results
from pdd_lightning.evaluation.row import STEPS, Row
from pdd_lightning.evaluation.sets import MakeTrainer, RunSets, Sets, set_origin
from pdd_lightning.evaluation.told_apart import told_apart
from pdd_lightning.networks import Architecture, build_template
from pdd_lightning.process.ranks import is_first
from pdd_lightning.process.workers import share_out
from pdd_lightning.progress import Progress
from pdd_lightning.selection.base import class_positions
from pdd_lightning.stage.context import networks_side_by_side
from pdd_lightning.stage.initial_images import real_images_needed
from pdd_lightning.stage.logs import finish, hyperparameters, scalars
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.monitor import StepCount
from pdd_lightning.store.digests import digest, fingerprint
from pdd_lightning.store.files import FORMAT, as_json, read_json, write_json
from pdd_lightning.store.versions import made_with
from pdd_lightning.training.gradients import Recordings
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import ONE_STAGES, Json, LabelledImages

log = logging.getLogger(__name__)


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
        sets: Where the images come from; None reads those of the run.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from pdd_lightning.datamodules import DigitsData
        >>> from pdd_lightning.dynamics import StartStates
        >>> from pdd_lightning.evaluation.sets import PlannedSets
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.objectives import MeanEmbedding
        >>> module = StageModule(network=ConvNet(), objective=MeanEmbedding(), dynamics=StartStates())
        >>> data = DigitsData()
        >>> data.setup()
        >>> sets = PlannedSets(module, data)  # as if the run were finished
        >>> evaluator = Evaluator(module, data, Evaluation(), lambda steps, _: Trainer(max_steps=steps), sets=sets)
        >>> [job.label for job in evaluator.jobs()]
        ['random union, ConvNet', 'pdd progressive, ConvNet', 'full union, ConvNet']
    """

    def __init__(
        self,
        module: StageModule,
        data: ImageDataModule,
        evaluation: Evaluation,
        make_trainer: MakeTrainer,
        noting: Noting = lambda label: nullcontext(),
        loggers: Sequence[Logger] = (),
        sets: Sets | None = None,
    ) -> None:
        self.module, self.data, self.evaluation, self.make_trainer = module, data, evaluation, make_trainer
        self.noting, self.loggers = noting, loggers
        self.sets = RunSets(module, data, evaluation, make_trainer, noting) if sets is None else sets
        self.recipe: Recipe = evaluation.recipe or module.options.recipe
        self.recipes = [self.recipe, *evaluation.recipes]
        self.networks: list[Architecture] = evaluation.networks or [module.options.network]
        self.folder = module.run.evaluation
        self._recordings: dict[str, Recordings] = defaultdict(dict)  # by network

    @cached_property
    def _processes(self) -> Trainer:
        """A trainer that fits nothing: it knows the device and the other processes."""
        return self.make_trainer(1, [])

    @property
    def device(self) -> torch.device:
        """Where the fits of this process run."""
        return self._processes.strategy.root_device

    def check(self) -> None:
        """Refuse before a run what its evaluation would refuse after it.

        Raises:
            ConfigError: Naming the option.
        """
        evaluation, data = self.evaluation, self.data
        for network in self.networks:
            build_template(network, data.image_shape, data.num_classes)
        if len({network.name for network in self.networks}) < len(self.networks):
            raise ConfigError(f"evaluation.networks={[n.name for n in self.networks]}: rows could not be told apart")
        self._require_images()
        if {"random", *SELECTIONS} & set(evaluation.baselines):
            self.check_rates()
        if evaluation.recipes and not len(data.validation):
            raise ConfigError(
                f"evaluation.recipes: {len(self.recipes)} recipes are compared on held-out training images, and "
                "data.validation_fraction=0 holds none out: raise it or leave evaluation.recipes out"
            )

    def _require_images(self) -> None:
        """Refuse baselines that take more images than a class has: they are of the size of all stages together."""
        options, data = self.module.options, self.data
        total = sum(options.per_stage)
        needed: dict[str, int] = dict.fromkeys(("random", *SELECTIONS), total)
        needed |= dict.fromkeys(ONE_STAGES, real_images_needed(options, total))
        for baseline in self.evaluation.baselines:
            count = needed.get(baseline, 0)
            factor = f" x model.factor={options.factor}^2" if count > total else ""
            asked = f"{options.total_asked}{factor}, for {baseline!r} of evaluation.baselines"
            class_positions(data.train, data.class_names, count, asked)

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
            ArtifactError: If the run or a baseline of one stage is not complete, or changed.
        """
        self.check()
        origins = cache(partial(set_origin, self.module))
        earlier, jobs, rows = self._earlier(), self.jobs(), list[Row]()
        count = sum(len(job.stages) for job in jobs)
        for job in jobs:
            first, last = len(rows) + 1, len(rows) + len(job.stages)
            place = f"row {first} of {count}" if first == last else f"rows {first} to {last} of {count}"
            rows += [replace(row, run=origins(job.name) or "") for row in self.score(job, place)]
        together = with_earlier(rows, earlier, origins)
        self._publish(together, rows)
        return together

    def _earlier(self) -> list[Row]:
        """The rows of earlier evaluations, unless this one is to start over."""
        path = self.folder.results
        if self.evaluation.fresh or not path.is_file():
            return []
        try:
            return read_results(path)
        except ArtifactError as error:
            log.warning("%s; what it holds is left out of the results", error)
            return []

    def jobs(self) -> list[Job]:
        """What is to be trained, in the order of the table; nothing is trained yet.

        Raises:
            ArtifactError: If the run or a baseline of one stage is not complete, or changed.
        """
        evaluation, (name, subsets) = self.evaluation, self.sets.distilled()
        seeds, budget = evaluation.seeds, progressive_steps(subsets, self.recipe)
        ipc = max(1, sum(len(subset.data) for subset in subsets) // self.data.num_classes)
        recipe = with_steps(self.recipe, ipc * self.data.num_classes, budget)
        # A run of selected images needs no second row for them.
        wanted = [baseline for baseline in evaluation.baselines if baseline != name]
        jobs: list[Job] = []
        for network in self.networks:
            if "random" in wanted:
                jobs.append(random_job(network, self.data, ipc, recipe, evaluation, self.module.options.seed))
            for baseline in SELECTIONS:
                if baseline in wanted:
                    images = partial(self._selected, baseline, ipc)
                    jobs.append(real_job(baseline, network, self.data, ipc, images, recipe, evaluation))
            for baseline in (baseline for baseline in ONE_STAGES if baseline in wanted):
                one = self.sets.one_stage(baseline)
                # As many steps as the stages take by each recipe, so that both choose among the same numbers of them.
                equal = [with_steps(r, len(one.decoded), progressive_steps(subsets, r)) for r in self.recipes]
                make = partial(distilled_job, baseline, "union", network, [one], seeds=seeds, baseline=True)
                jobs.append(_by_any(make, equal))
            for order in evaluation.orders:
                jobs.append(_by_any(partial(distilled_job, name, order, network, subsets, seeds=seeds), self.recipes))
            if "full" in wanted:
                jobs.append(full_job(network, self.data, evaluation))
        return jobs

    def _selected(self, baseline: str, ipc: int, member: int) -> LabelledImages:
        return self.sets.selected(baseline, ipc)  # the same ones for every network

    def score(self, job: Job, place: str = "evaluation") -> list[Row]:
        """The rows of a job: rates are chosen on held-out images, and the test set is read once.

        Args:
            job: What to train.
            place: Which rows of the table these are, for the bar.
        """
        if job.candidates:
            job = job.at(self.best_rate(job, place))
        settings: Json = {"network": job.network.describe()}
        if job.alternatives:
            if len({(recipe.epochs, recipe.batch_size) for recipe in self.recipes}) > 1:
                settings[STEPS] = "chosen"
            job = self.best_recipe(job, place)
        accuracies, made = self._accuracies(job, self.data.test, place)
        steps, rows = 0, []
        for index, part in enumerate(job.trainings):
            steps += part.steps
            rows.append(
                Row(
                    name=job.name,
                    order=job.order,
                    network=job.network.name,
                    stage=job.stages[index],
                    images_per_class=job.images_per_class[index],
                    accuracies=tuple(accuracies[index]),
                    training_images=part.examples,
                    steps=steps,
                    stored_bytes=job.stored_bytes[index],
                    learning_rate=tuple(earlier.rates[0] for earlier in job.trainings[: index + 1]),
                    settings=as_json({**settings, "recipe": part.recipe.describe()}),
                    test=self.data.test_fingerprint,
                    made=made,
                )
            )
        return rows

    def best_rate(self, job: Job, place: str = "evaluation") -> float:
        """The best of a job's candidate learning rates on the held-out training images.

        Args:
            job: What to train.
            place: See :meth:`score`.
        """
        trials, rates = job.trials(), job.candidates
        if not trials:
            return rates[0]
        (trial,) = trials
        accuracies, _ = self._accuracies(trial, self.data.validation, place)
        results = list(zip(trial.trainings[-1].rates, accuracies[-1], strict=True))
        return max(rates, key=lambda rate: sum(accuracy for tried, accuracy in results if tried == rate))

    def best_recipe(self, job: Job, place: str = "evaluation") -> Job:
        """The one among a job and its alternatives that is best on the held-out training images; the first of equals.

        Args:
            job: With alternatives.
            place: See :meth:`score`.
        """
        reached = [fmean(self._accuracies(trial, self.data.validation, place)[0][-1]) for trial in job.trials()]
        jobs: list[Job] = [job, *job.alternatives]
        return replace(jobs[max(range(len(jobs)), key=reached.__getitem__)], alternatives=())

    @rank_zero_only
    def _publish(self, together: Sequence[Row], rows: Sequence[Row]) -> None:
        """Write all rows for programs and people, and log the accuracies that are new after each stage."""
        write_results(together, self.folder)
        for row in rows:
            scalars(self.loggers, {f"test accuracy {row.order}, {row.network}/{row.name}": row.mean}, row.stage or 0)
        options, data = self.module.options, self.data
        made_of: Json = {"data": type(data).__name__, **options.describe(), "stages": options.stages}
        # The last row of a set says what its last stage reached.
        reached = {f"final accuracy/{row.name} {row.order}, {row.network}": row.mean for row in told_apart(together)}
        hyperparameters(self.loggers, {key: value for key, value in made_of.items() if key != "class_path"}, reached)
        finish(self.loggers)

    def problem(self, job: Job) -> Problem:
        """Networks, images, augmentation and seed of a job."""
        return replace(self.module.options.problem(self.data, self.device), architecture=job.network)

    def _accuracies(self, job: Job, score: LabelledImages, place: str) -> tuple[list[list[float]], Json]:
        """Accuracies after every training, from disk if they are known, and under which versions they were made."""
        problem, phases = self.problem(job), self._phases(job)
        sets = [] if job.name == "full" else [digest(d.images, d.labels) for p in phases for d in p.data]
        identity = fingerprint(
            [FORMAT, job.describe(), problem.augmentation.describe(), problem.seed, self.data.fingerprint, sets]
        )
        path = self._path(job)
        if not self.evaluation.fresh and (kept := _kept(path, identity, job)) is not None:
            return kept
        title, steps = f"{place}: {job.label}, {len(job.members)} networks", sum(phase.steps for phase in phases)
        with self.noting(job.label), Progress(enabled=is_first()) as progress, progress.task(title, steps) as task:

            def fit(members: range, advance: Callable[[int], object]) -> list[list[float]]:
                count = advance if members.start == 0 else _ignore  # the others are as far
                return self._fit(problem, job, phases, members, score, count)

            shares = self.shares(job)
            self._compile(problem, phases)
            found = share_out(fit, shares, len(shares), task.advance)
        accuracies = [[value for share in phase for value in share] for phase in zip(*found, strict=True)]
        made = made_with(problem.device)
        if is_first():
            write_json(path, {"identity": identity, "job": job.describe(), "made": made, "accuracies": accuracies})
        return accuracies, made

    def compiles(self, job: Job, part: Training) -> bool:
        """Whether the steps of a training are compiled: whatever its processes, for all its networks count."""
        problem, steps = self.problem(job), part.steps * len(job.members)
        images = steps * min(part.examples, part.recipe.batch_size)
        operations = training_operations(problem.network(), problem.image_shape, images)
        return pays_to_compile(self.module.options.compile_networks, problem.device, steps, operations)

    def _phases(self, job: Job) -> list[Phase]:
        parts = zip(job.phases(), job.trainings, strict=True)
        return [replace(phase, compile=self.compiles(job, part)) for phase, part in parts]

    def _compile(self, problem: Problem, phases: Sequence[Phase]) -> None:
        """Compile on a CPU what the phases need and earlier jobs did not, before processes that would each do so."""
        recordings = self._recordings[fingerprint(problem.architecture.describe())]
        for phase in phases:
            if phase.compile and problem.device.type == "cpu":
                learner = Learner(problem.network(), problem.device, True, recordings)
                learner.compile(phase.recipe, len(phase.data[0]), problem.image_shape)

    def shares(self, job: Job) -> list[range]:
        """The networks of a job, by the process that trains them where there are several cores and no accelerator."""
        count = len(job.members)
        _, workers = networks_side_by_side(self.module.options, self.problem(job), self._processes.world_size)
        parts = min(count, workers) if self._processes.world_size == 1 else 1
        ends = [part * count // parts for part in range(parts + 1)]
        return [range(first, last) for first, last in pairwise(ends)]

    def _fit(
        self,
        problem: Problem,
        job: Job,
        phases: Sequence[Phase],
        members: Sequence[int],
        score: LabelledImages,
        advance: Callable[[int], object],
    ) -> list[list[float]]:
        """Train some networks of a job; returns their accuracies after every phase."""
        module = EvaluationModule(
            problem,
            [phase.of(members) for phase in phases],
            score,
            job.name,
            [job.members[member] for member in members],
            spread=self.evaluation.spread,
            recordings=None if records(problem.device) else self._recordings[fingerprint(job.network.describe())],
        )
        self.make_trainer(module.total_steps, [StepCount(advance)]).fit(module)
        return module.accuracies

    def _path(self, job: Job) -> Path:
        # Two networks of one name with different options are told apart by their description.
        label = f"{job.name}-{job.order}-{job.network.name}-{fingerprint(job.network.describe())[:8]}"
        label = re.sub(r"[^\w.+-]", "_", label)  # a class of the user's own may call itself anything
        return self.folder.rows / f"{label}.json"


def _by_any(make: Callable[[Recipe], Job], recipes: Sequence[Recipe]) -> Job:
    """A job by the best of some recipes."""
    first, *others = [make(recipe) for recipe in recipes]
    return replace(first, alternatives=others)


def _ignore(steps: int) -> None:
    """Tell nobody."""


def _kept(path: Path, identity: str, job: Job) -> tuple[list[list[float]], Json] | None:
    """What an earlier evaluation found of this job and kept; None if it has to be trained.

    Raises:
        ArtifactError: If the file is damaged, or does not hold one fraction for each network after each training.
    """
    if not path.is_file() or (found := read_json(path)).get("identity") != identity:
        return None
    accuracies, made = found.get("accuracies"), found.get("made")
    count = len(job.members)
    rows = accuracies if isinstance(accuracies, list) and len(accuracies) == len(job.trainings) else [None]
    for row in rows:
        if not (isinstance(row, list) and len(row) == count and all(type(a) is float and 0 <= a <= 1 for a in row)):
            raise ArtifactError(
                f"{path} does not hold {len(job.trainings)} x {count} accuracies; delete it to have it made again"
            )
    return cast(list[list[float]], accuracies), made if isinstance(made, dict) else {}
