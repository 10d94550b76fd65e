"""`pdd-cli plan`: what a run will take, before it starts.

Two processes, for the peak of memory of a process never goes down: the first rehearses stages and writes what it
measured to a file, the second measures the evaluation, and puts both together. `pdd_lightning.cli.plan` starts them.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning.pytorch import Callback, Trainer
from rich.console import Console

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.protocol import SELECTIONS, Evaluation
from pdd_lightning.networks import build_template, initial_state
from pdd_lightning.planning.clock import mean_seconds
from pdd_lightning.planning.estimate import Amounts, Line, StageCost, StageWork, stage_lines, stage_memory
from pdd_lightning.planning.evaluation import PlannedEvaluator
from pdd_lightning.planning.readings import peak_memory, since_start
from pdd_lightning.planning.records import EVALUATION, collect, identity, plan_file, stage_name
from pdd_lightning.planning.rehearsal import MEMBERS, MakeStage, MakeTrainer, rehearse_stage
from pdd_lightning.planning.report import plan_table
from pdd_lightning.planning.space import stage_space
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import ONE_STAGE, OneStage
from pdd_lightning.store.files import read_json, write_json
from pdd_lightning.training.learner import Learner
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import Json

COLD = ("overhead", "opening", "finish")
"""Costs that every process pays anew, though only the first rehearsal of a plan shows them."""

POOLED = ("state", "preparation", "piece", "checkpoint", "member")
"""Costs that do not depend on the size of a stage: the mean of all rehearsals is less noisy than each."""

ROW_BYTES = 3000
"""Of the results and logs that a job of the evaluation leaves, and of a selection beside its positions."""


@dataclass(frozen=True)
class Planning:
    """How `pdd-cli plan` measures.

    Args:
        seconds: How long to measure, about; starting and preparing two processes comes on top of it.
    """

    seconds: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ConfigError(f"plan.seconds must be positive and finite, got {self.seconds}")


@dataclass(frozen=True)
class Planner:
    """Plans one run.

    Attributes:
        module: What the run is made of.
        data: Its data, set up.
        evaluation: How it is scored.
        planning: How to measure.
        checkpoint_every: Optimiser steps between two checkpoints.
        checkpoint_minutes: Minutes between two checkpoints.
        world: Processes that the run's trainer starts.
        make_stage: Makes modules with other options.
        stage_trainer: Makes trainers for rehearsals.
        evaluation_trainer: Makes trainers for an evaluation.
    """

    module: StageModule
    data: ImageDataModule
    evaluation: Evaluation
    planning: Planning
    checkpoint_every: int
    checkpoint_minutes: float
    world: int
    make_stage: MakeStage
    stage_trainer: MakeTrainer
    evaluation_trainer: Callable[[int, Sequence[Callback]], Trainer]

    def run(self, probe: Path) -> None:
        """Do what is this process's: the first one writes the file, the second one finds it.

        Args:
            probe: The file.
        """
        if not probe.is_file():
            write_json(probe, self._stages())
            return
        measured = read_json(probe)
        plan, notes = self._combine(measured, *self._jobs()), self._notes()
        module, used, path = self.module, collect(self.module), plan_file(self.module.run)
        if path.is_file() and module.run.stage(1).directory.is_dir():
            notes.append(f"the run has begun: {path} stays as it is")
        else:
            which = identity(module, self.data.fingerprint, self.evaluation)
            write_json(path, {"format": 1, "identity": which, **plan.to_json(), "notes": notes})
        console = Console()
        console.print(plan_table(plan, used if used.lines else None))
        for note in notes:
            console.print(f"- {note}", markup=False, highlight=False, soft_wrap=True)

    @property
    def one_stage(self) -> bool:
        """Whether `pdd-cli run` makes the baseline of one stage too."""
        return ONE_STAGE in self.evaluation.baselines

    def _stages(self) -> Json:
        """Costs of the smallest and of the largest stage, and of the baseline of one stage."""
        module, start = self.module, since_start()
        parts = 1 if module.discard is None else module.stages
        sizes: dict[str, tuple[Json, int]] = {"first": ({"stage": 1}, parts)}
        if module.stages > 1:
            sizes["last"] = ({"stage": module.stages}, parts)
            if self.one_stage:
                sizes[ONE_STAGE] = ({"stage": 1, **OneStage.of(module).changes}, 1)
        # Steps take a half, preparation and transition a quarter each.
        share = self.planning.seconds / 2 / len(sizes) / 2
        costs: dict[str, object] = {}
        with tempfile.TemporaryDirectory(prefix="pdd-plan-") as folder:
            for name, (changes, part) in sizes.items():
                costs[name] = rehearse_stage(
                    self.make_stage, self.stage_trainer, self.data, Path(folder) / name, changes, share, part
                ).to_json()
        return {"start": start, "costs": costs, "discard": self._discarding(share)}

    def _discarding(self, seconds: float) -> float:
        """Seconds of the training that tells easy examples from others; 0 without discarding."""
        module, data = self.module, self.data
        if module.discard is None:
            return 0.0
        recipe, rate = module.discard.recipe, module.discard.learning_rate
        device = self.evaluation_trainer(1, []).strategy.root_device
        real = data.train_on(device)
        learner = Learner(build_template(module.architecture, data.image_shape, data.num_classes), device)
        learner.load(initial_state(module.architecture, data.image_shape, data.num_classes, module.seed, "plan"))
        # The training has one too, and is therefore not recorded.
        learner.network.register_forward_hook(lambda *_: None)

        def step(number: int) -> None:
            learner.train_steps(real, [number], rate, recipe, module.augmentation, module.seed, "plan")

        steps = recipe.steps(len(real))
        return steps * mean_seconds(step, steps, seconds, device)

    def _jobs(self) -> tuple[float, dict[str, float], dict[str, int | None]]:
        """Seconds until an evaluation is ready, seconds of its jobs, peak memory of its process."""
        start = since_start()
        evaluator = PlannedEvaluator(self.module, self.data, self.evaluation, self.evaluation_trainer)
        jobs = evaluator.find()
        seconds = evaluator.seconds(jobs, self.planning.seconds / 2)
        return start, seconds, peak_memory(evaluator.device)

    def _combine(
        self, measured: Any, start: float, jobs: dict[str, float], evaluation: dict[str, int | None]
    ) -> Amounts:
        """The whole run's amounts.

        Args:
            measured: What the first process wrote.
            start: Seconds until this process was ready.
            jobs: Seconds by the label of the job.
            evaluation: Peak memory of this process.
        """
        module, on_device = self.module, evaluation["device"] is not None
        # Whoever is first to read the data leaves a cache to the others.
        start = start if self.data.cache_dir else (start + measured["start"]) / 2
        costs = {name: StageCost(**cost) for name, cost in measured["costs"].items()}
        same = {name: max(getattr(cost, name) for cost in costs.values()) for name in COLD}
        same |= {name: fmean(getattr(cost, name) for cost in costs.values()) for name in POOLED}
        costs = {name: replace(cost, **same) for name, cost in costs.items()}
        lines: list[Line] = []
        memory: dict[str, dict[str, int | None]] = {}
        disk: dict[str, int] = {}
        preprocessing = sum(tensor.nbytes for tensor in self.data.preprocessing.tensors().values())
        parts: list[tuple[str, StageCost, StageWork]] = []
        for stage in range(1, module.stages + 1):
            images = sum(module.per_stage[:stage]) * self.data.num_classes * module.factor**2
            cost = StageCost.between(costs["first"], costs.get("last", costs["first"]), images)
            work = self._work(stage, module.iterations)
            parts.append((stage_name(stage), cost, replace(work, extra=measured["discard"] if stage == 1 else 0.0)))
        if self.one_stage:
            # With one stage the run and its baseline are the same.
            cost = costs.get(ONE_STAGE, costs["first"])
            work = self._work(1, OneStage.of(module).iterations)
            # The baseline finds the experts of stage 1, unless that read only a part of the data.
            shared = module.discard is None and work.experts > 0
            parts.append((ONE_STAGE, cost, replace(work, reused=shared, experts=0 if shared else work.experts)))
        for name, cost, work in parts:
            lines += stage_lines(name, start, cost, work)
            memory[name] = stage_memory(cost, work, on_device=on_device)
            disk[name] = round(cost.stored) + work.bank + work.experts
            # Once in each run's folder.
            disk[name] += preprocessing if name in (stage_name(1), ONE_STAGE) else 0
        if module.discard is not None:
            disk[stage_name(1)] += self._training_bytes(module.discard.recipe)
        selecting = [baseline for baseline in self.evaluation.baselines if baseline in SELECTIONS]
        chosen = len(selecting) * (ROW_BYTES + 8 * sum(module.per_stage) * self.data.num_classes)
        chosen += self._training_bytes(self.evaluation.full) if selecting else 0
        lines += [Line(EVALUATION, "start", start), *(Line(EVALUATION, label, s) for label, s in jobs.items())]
        memory[EVALUATION] = evaluation
        return Amounts(lines, memory, {**disk, EVALUATION: ROW_BYTES * len(jobs) + chosen})

    def _training_bytes(self, recipe: Recipe) -> int:
        """Of a training on the real data that is kept: a state, and which examples were correct in each epoch."""
        module, data = self.module, self.data
        network = build_template(module.architecture, data.image_shape, data.num_classes)
        state: int = sum(tensor.nbytes for tensor in network.state_dict().values())
        return state + recipe.epochs * len(data.train)

    def _work(self, stage: int, iterations: int) -> StageWork:
        module = self.module
        space = stage_space(module, self.data, stage)
        members, state = module.dynamics.members, space.bank // max(1, module.dynamics.members)
        fresh = members if stage == 1 or not module.transition else 0
        # A bank and the list of states that it is made of. A transition holds its bank, the members that it reads
        # back, the next bank, and the file of that before and after its header is sorted.
        copies = 5 if module.transition else 2
        return StageWork(
            fresh=fresh,
            members=members if module.transition else 0,
            epochs=module.recipe.epochs,
            steps=iterations,
            checkpoint_every=self.checkpoint_every,
            checkpoint_seconds=60 * self.checkpoint_minutes,
            shares=self.world,
            bank=space.bank if module.transition else 0,
            copies=copies * max(0, members - MEMBERS) * state,
            experts=space.experts,
        )

    def _notes(self) -> list[str]:
        """What the estimate rests on."""
        notes = [
            "peak memory is the resident set of one process at its largest, with the libraries it has loaded",
            "the whole run is planned, from its beginning; nothing is taken to be on the disk already",
        ]
        if self.world > 1:
            notes.append(f"measured on one device and divided by {self.world} where processes share the work")
        if self.module.discard is not None:
            notes.append("every stage is taken to read an equal part of the real examples: counting comes later")
        return notes
