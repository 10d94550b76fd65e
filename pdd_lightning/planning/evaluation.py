"""What an evaluation trains, found by the evaluator itself on images of the right sizes, and what that costs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from pdd_lightning.compute.compiling import pays_to_compile
from pdd_lightning.compute.cuda_graphs import records
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.module import SCORED_AT_ONCE, EvaluationModule, Phase
from pdd_lightning.evaluation.protocol import SELECTION, Baseline, Job, selected_job, with_steps
from pdd_lightning.evaluation.report import Row
from pdd_lightning.networks import Architecture, build_template, initial_state
from pdd_lightning.planning.clock import StepClock, mean_seconds, synchronise, timed
from pdd_lightning.selection.random import random_images
from pdd_lightning.stage.initial_images import initial_images
from pdd_lightning.stage.one_stage import OneStage
from pdd_lightning.stage.subsets import Subset
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.training.learner import Learner
from pdd_lightning.types import LabelledImages

ENDLESS = 10**6
"""Epochs of a measured phase, which its clock ends."""


SOME = 250
"""Images on which scoring is always timed; ten networks of the published size take a CPU three seconds for them."""


_Networks = tuple[str, int]
"""The networks, and how many: what decides the cost of scoring them."""


_Kind = tuple[_Networks, str, int, bool]
"""The networks, how they are trained, the images of a minibatch, and whether they are drawn: the cost of a step."""


@dataclass(frozen=True)
class PhaseCost:
    """What training some networks side by side costs.

    Attributes:
        overhead: Seconds of the fit beside its steps and its scoring, with what the first steps take longer.
        opening: Seconds that the first steps take longer.
        step: Seconds of an optimiser step of all networks.
        score: Seconds for scoring all of them on one image.
    """

    overhead: float
    opening: float
    step: float
    score: float


class ScoreClock(Callback):
    """Times the scoring of networks when their training ends: on some images, and on all where that is quick.

    Args:
        seconds: How long all may take.
        known: Seconds for one image, where they are; a whole minibatch is scored all the same, for its memory.

    Attributes:
        each: Seconds for one image.
        spent: Seconds in all.
    """

    def __init__(self, seconds: float, known: float | None = None) -> None:
        self.seconds, self.known, self.each, self.spent = seconds, known, known or 0.0, 0.0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score, before the module lets go of its images."""
        assert isinstance(pl_module, EvaluationModule)
        everything = pl_module.score_images
        # For its memory beside that of the training, and for a GPU to choose its kernels before they are timed.
        self.spent = timed(lambda: self._show(pl_module.networks[0], everything))
        if self.known is not None:
            return
        for count in sorted({min(SOME, len(everything)), len(everything)}):
            if self.each * count > self.seconds:
                return
            pl_module.score_images = LabelledImages(everything.images[:count], everything.labels[:count])  # no copy
            passed = timed(pl_module.score)
            self.each, self.spent = passed / max(1, count), self.spent + passed

    @torch.no_grad()
    def _show(self, network: nn.Module, images: LabelledImages) -> None:
        network.eval()(images.images[:SCORED_AT_ONCE])
        synchronise(images.images.device)


class PlannedEvaluator(Evaluator):
    """Goes through an evaluation as :class:`Evaluator` does, and notes what would be trained."""

    def find(self) -> list[tuple[Job, LabelledImages]]:
        """Every training of the evaluation, with the images that score it."""
        self._found: list[tuple[Job, LabelledImages]] = []
        self.selecting = False
        self.run()
        return self._found

    def seconds(self, jobs: Sequence[tuple[Job, LabelledImages]], budget: float) -> dict[str, float]:
        """Seconds of each job by its label, from a few steps of every kind of phase.

        Args:
            jobs: From :meth:`find`.
            budget: Seconds for all measurements, about.
        """
        kinds: dict[_Kind, tuple[Job, Phase]] = {}
        images: dict[_Networks, LabelledImages] = {}
        for job, score in jobs:
            for phase in job.phases:
                kind = self._kind(job, phase)
                kinds[kind] = job, phase
                images[kind[0]] = max(images.get(kind[0], score), score, key=len)  # which tell best what scoring takes
        share = budget / max(1, len(kinds))
        costs: dict[_Kind, PhaseCost] = {}
        scores: dict[_Networks, float] = {}
        for kind, work in kinds.items():
            costs[kind] = self._measure(*work, images[kind[0]], share, scores.get(kind[0]))
            scores[kind[0]] = costs[kind].score
        found: dict[str, float] = {}
        if self.selecting:
            found[SELECTION] = self._selection_seconds(share)
        for job, score in jobs:
            phases = [(phase, self._kind(job, phase)) for phase in job.phases]
            seconds = costs[phases[0][1]].overhead
            seconds += sum(phase.steps * costs[kind].step + len(score) * costs[kind].score for phase, kind in phases)
            if records(self.device):  # every kind anew
                seconds += sum(costs[kind].opening for kind in {kind for _, kind in phases} - {phases[0][1]})
            found[job.label] = found.get(job.label, 0.0) + seconds
        return found

    def _kind(self, job: Job, phase: Phase) -> _Kind:
        examples = len(phase.data[0])
        networks = fingerprint(job.network.describe()), len(phase.data)
        how = fingerprint([phase.recipe.precision, phase.recipe.cutmix, self._compiles(phase)])
        return networks, how, min(examples, phase.recipe.batch_size), examples > phase.recipe.batch_size

    def _compiles(self, phase: Phase) -> bool:
        return pays_to_compile(self.module.compile_networks, phase.steps * len(phase.data))

    def _measure(
        self, job: Job, phase: Phase, score: LabelledImages, seconds: float, scored: float | None = None
    ) -> PhaseCost:
        """The cost of a kind of phase, where scoring an image may be known."""
        began = time.perf_counter()
        module = EvaluationModule(
            job.network,
            self.data.image_shape,
            self.data.num_classes,
            [replace(phase, recipe=replace(phase.recipe, epochs=ENDLESS))],
            score,
            self.module.augmentation,
            self.module.seed,
            job.name,
            job.members,
            compile=self._compiles(phase),
        )
        clock, scoring = StepClock(seconds), ScoreClock(seconds, scored)
        self.make_trainer(module.total_steps, [clock, scoring]).fit(module)
        overhead = time.perf_counter() - began - clock.count * clock.step - scoring.spent
        return PhaseCost(max(0.0, overhead), clock.opening, clock.step, scoring.each)

    def _selection_seconds(self, seconds: float) -> float:
        """Seconds of the training on real data; choosing itself is not counted."""
        recipe, data = replace(self.evaluation.full, cutmix=0.0), self.data
        architecture, shape, classes = self.module.architecture, data.image_shape, data.num_classes
        learner = Learner(build_template(architecture, shape, classes), self.device)
        learner.load(initial_state(architecture, shape, classes, self.module.seed, SELECTION))
        # Selecting has one too, and is therefore not recorded.
        learner.network.register_forward_hook(lambda *_: None)
        real = data.train_on(self.device)

        def step(number: int) -> None:
            augmentation, seed = self.module.augmentation, self.module.seed
            learner.train_steps(real, [number], self.evaluation.full_rate, recipe, augmentation, seed, SELECTION)

        steps = recipe.steps(len(real))
        return steps * mean_seconds(step, steps, seconds, self.device)

    def _accuracies(self, job: Job, score: LabelledImages) -> list[list[float]]:
        self._found.append((job, score))
        return [[0.0] * len(job.members) for _ in job.phases]

    def _publish(self, rows: Sequence[Row]) -> None:
        """Nothing was trained: there is nothing to publish."""

    def _subsets(self) -> tuple[str, list[Subset]]:
        module = self.module
        subsets = [self._placeholder(stage, ipc) for stage, ipc in enumerate(module.per_stage, start=1)]
        return "pdd" if module.stages > 1 else "distilled", subsets

    def _one_stage(self) -> Subset:
        return self._placeholder(1, OneStage.of(self.module).ipc)

    def _placeholder(self, stage: int, ipc: int) -> Subset:
        module, data = self.module, self.data
        images, labels = initial_images(
            data.train, data.class_names, ipc, module.factor, module.initial, module.seed, stage
        )
        return Subset(LabelledImages(images, labels), module.initial_rate, stage, module.factor)

    def _selected(self, network: Architecture, baseline: Baseline, ipc: int, budget: int) -> Job:
        self.selecting = True
        data, seeds = self.data, self.evaluation.seeds
        subset = LabelledImages(*random_images(data.train, data.class_names, ipc, self.module.seed, "plan"))
        recipe = with_steps(self.recipe, len(subset), budget)
        best = self.tuned_rate(
            lambda rates, members: selected_job(baseline, network, subset, ipc, rates, recipe, members)
        )
        return selected_job(baseline, network, subset, ipc, [best] * seeds, recipe, range(seeds))
