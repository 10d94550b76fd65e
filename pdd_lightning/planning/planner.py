"""`pdd-cli plan`: what a run will take, before it starts.

A plan runs the real module, data and trainer for a few steps, for the first and for the last stage, and draws a line
between the two, for the union grows from stage to stage; then a few steps of every kind of training in the evaluation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from statistics import fmean

from lightning.pytorch import Callback, Trainer
from rich.console import Console

from pdd_lightning.compute.peaks import forget_peaks, peak_memory
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.protocol import SELECTIONS, Evaluation
from pdd_lightning.evaluation.sets import PlannedSets
from pdd_lightning.planning.estimate import Amounts, Line, StageCost, StageWork, side_by_side, stage_lines
from pdd_lightning.planning.evaluation import job_seconds, real_seconds
from pdd_lightning.planning.rehearsal import MEMBERS, MakeStage, MakeTrainer, rehearse_stage
from pdd_lightning.planning.report import EVALUATION, collect, identity, plan_table
from pdd_lightning.process.clock import later_start, since_start
from pdd_lightning.progress import announced, size, track
from pdd_lightning.stage.context import baseline_beside, networks_side_by_side
from pdd_lightning.stage.disk import Disk, evaluation_disk, run_disk
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.one_stage import one_stage_changes, one_stage_options
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.files import write_json
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import Json, stage_title

COLD = ("overhead", "opening", "finish")
"""Costs that every process pays anew, though only the first rehearsal of a plan shows them."""

POOLED = ("state", "preparation", "checkpoint", "member")
"""Costs that do not depend on the size of a stage: the mean of all rehearsals is less noisy than each."""

COMPILED_FROM = 10.0
"""Seconds of measuring from which on networks are compiled as in the run, which takes up to a minute for each size."""


@dataclass(frozen=True)
class Planning:
    """How `pdd-cli plan` measures.

    Args:
        seconds: How long to measure, about; starting, preparing and a step of each size come on top of it. In less
            than 10 seconds nothing is compiled, and a run that compiles is taken to be as slow.
        minutes: How long the run may take: say which options would bring it there. Null asks for nothing.

    Example:
        >>> Planning(seconds=0)
        Traceback (most recent call last):
        ...
        pdd_lightning.errors.ConfigError: plan.seconds must be positive and finite, got 0
    """

    seconds: float = 20.0
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name, value in {"seconds": self.seconds, "minutes": self.minutes}.items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"plan.{name} must be positive and finite, got {value}")

    @property
    def brief(self) -> bool:
        """Whether there is no time to compile."""
        return self.seconds < COMPILED_FROM


@dataclass(frozen=True)
class Planner:
    """Plans one run."""

    module: StageModule  # what the run is made of
    data: ImageDataModule  # its data, set up
    evaluation: Evaluation  # how it is scored
    planning: Planning  # how to measure
    schedule: tuple[int, float]  # optimiser steps, and minutes, between two checkpoints
    world: int  # processes that the run's trainer starts
    make_stage: MakeStage  # makes modules with other options
    stage_trainer: MakeTrainer  # makes trainers for rehearsals
    evaluation_trainer: Callable[[int, Sequence[Callback]], Trainer]  # makes trainers for an evaluation

    def run(self) -> Amounts:
        """Measure, write plan.json unless the run has begun, print the table, and return the plan."""
        module, notes, plan = self.module, self._notes(), self.measured()
        used, path = collect(module), module.run.plan
        if path.is_file() and module.run.stage(1).directory.is_dir():
            notes.append(f"the run has begun: {path} stays as it is")
        else:
            which = identity(module, self.data.fingerprint, self.evaluation)
            write_json(path, {"identity": which, **plan.to_json(), "notes": notes})
        console = Console()
        console.print(plan_table(plan, used if used.lines else None))
        for note in notes:
            console.print(f"- {note}", markup=False, highlight=False, soft_wrap=True)
        return plan

    def measured(self) -> Amounts:
        """Measure, and return the plan; nothing is written or printed."""
        module, start = self.module, since_start()
        if self.planning.brief:
            module.options = replace(module.options, compile_networks=False)
        costs = self._costs()
        return self._evaluation(start, costs, self._stages(start, costs))

    def _costs(self) -> dict[str, StageCost]:
        """Costs of the smallest and of the largest stage, and of a baseline of one stage: all are of one size."""
        options = self.module.options
        parts = 1 if options.discard is None else options.stages
        sizes: dict[str, tuple[int, Json, int]] = {"first": (1, {}, parts)}
        if options.stages > 1:
            sizes["last"] = (options.stages, {}, parts)
            for baseline in self.evaluation.one_stages[:1]:
                sizes[baseline] = (1, one_stage_changes(options, baseline), 1)
        # Steps take a half, preparation and transition a quarter each.
        share = self.planning.seconds / 2 / len(sizes) / 2
        costs = dict[str, StageCost]()
        for name, (stage, others, part) in track(sizes.items(), description="planning: stages"):
            which = stage_title(stage, baseline=name if name in self.evaluation.one_stages else None)
            changes: Json = {"stage": stage, "compile_networks": options.compile_networks, **others}
            with announced(f"{which}: a piece of each work, then about {2 * share:.0f} s of them"):
                costs[name] = rehearse_stage(
                    self.make_stage, self.stage_trainer, self.data, changes, share, part, self.planning.brief
                )
        same = {name: max(getattr(cost, name) for cost in costs.values()) for name in COLD}
        same |= {name: fmean(getattr(cost, name) for cost in costs.values()) for name in POOLED}
        return {name: replace(cost, **same) for name, cost in costs.items()}

    @cached_property
    def _problem(self) -> Problem:
        """Networks, images and device of the run."""
        device = self.evaluation_trainer(1, []).strategy.root_device
        return self.module.options.problem(self.data, device)

    def _stages(self, start: float, costs: dict[str, StageCost]) -> Amounts:
        """What the stages take, and the baselines of one stage."""
        options, data = self.module.options, self.data
        alone = self.evaluation.one_stages
        disks = run_disk(options, data, range(1, options.stages + 1), baselines=alone)
        beside = alone[:1] if baseline_beside(options, self._problem, self.world) else []
        last = costs.get("last", costs["first"])
        parts = [(stage_title(stage), options, stage) for stage in range(1, options.stages + 1)]
        parts += [(name, one_stage_options(options, name), 1) for name in alone]
        plan = Amounts([], {}, {})
        for number, (name, of, stage) in enumerate(parts):
            images = sum(of.per_stage[:stage]) * data.num_classes * options.factor**2
            # With one stage the run and its baselines are of one size.
            cost = costs.get(alone[0] if name in alone else "") or StageCost.between(costs["first"], last, images)
            begin, shared = (later_start(start), 2 if beside and name not in alone[1:] else 1) if number else (start, 1)
            work = self._work(of, stage, disks[name], shared)
            lines = stage_lines(name, begin, cost, work)
            memory, disk = self._memory(of, cost, work, disks[name]), disks[name].left + disks[name].experts
            plan = Amounts([*plan.lines, *lines], {**plan.memory, name: memory}, {**plan.disk, name: disk})
        if options.discard is not None:
            recipe, rate = options.discard.recipe, options.discard.learning_rate
            counting = real_seconds(self._problem, data, recipe, rate, self.planning.seconds / 8)
            first, *others = plan.lines  # the run begins with it
            plan = replace(plan, lines=[replace(first, seconds=first.seconds + counting), *others])
        later = [stage_title(stage) for stage in range(2, options.stages + 1)]
        return replace(plan, spared=side_by_side(plan.lines, beside, later))

    def _work(self, options: StageOptions, stage: int, disk: Disk, shared: int) -> StageWork:
        members, steps, (every, minutes) = options.dynamics.members, options.steps_per_stage[stage - 1], self.schedule
        sizes = options.per_stage[:stage]
        return StageWork(
            fresh=members if stage == 1 or not options.transition else 0,
            members=members + options.witnesses if options.transition else 0,
            epochs=options.recipe.epochs,
            steps=steps,
            checkpoint_every=every,
            checkpoint_seconds=60 * minutes,
            reused=disk.shared,
            shares=self.world,
            workers=networks_side_by_side(options, self._problem, self.world, shared)[1],
            watches=math.ceil(steps / options.watch_every) if options.watch_every else 0,
            watched=options.witnesses,
            renewals=options.dynamics.renewals(steps),
            renewed=members if options.dynamics.renews_bank else 0,
            earlier=sum(accumulate(sizes[:-1])) / sum(sizes) if options.transition else 0.0,
        )

    def _memory(self, options: StageOptions, cost: StageCost, work: StageWork, disk: Disk) -> dict[str, int | None]:
        # A bank and its list of states, and as much again of another one that takes its place. A transition: also the
        # members, the next bank, its file, and that sorted, when one of the other is left.
        renewed = work.renewals > 0 and work.renewed > 0
        banks = 5 + renewed if options.transition else 2 * (1 + renewed)
        copies = banks * max(0, options.dynamics.members - MEMBERS) * disk.state
        return {"host": round(cost.host) + copies, "device": round(cost.device) or None}

    def _evaluation(self, start: float, costs: dict[str, StageCost], plan: Amounts) -> Amounts:
        """The plan with what the evaluation takes."""
        module, evaluation, data = self.module, self.evaluation, self.data
        evaluator = Evaluator(module, data, evaluation, self.evaluation_trainer, sets=PlannedSets(module, data))
        forget_peaks(evaluator.device)
        seconds = job_seconds(evaluator, self.planning.seconds / 2, self.planning.brief)
        selections = sum(baseline in SELECTIONS for baseline in evaluation.baselines)
        stored = evaluation_disk(module.options, data, len(seconds), selections, evaluation.full)
        # A process of its own will pay for what the stages have warmed up here.
        lines = [Line(EVALUATION, "start", later_start(start) + costs["first"].overhead)]
        lines += [Line(EVALUATION, label, found) for label, found in seconds.items()]
        memory = {**plan.memory, EVALUATION: peak_memory(evaluator.device)}
        return replace(plan, lines=[*plan.lines, *lines], memory=memory, disk={**plan.disk, EVALUATION: stored})

    def _notes(self) -> list[str]:
        """What the estimate rests on."""
        options = self.module.options
        notes = [
            "peak memory is one process's resident set with its libraries (what `run` forks has up to 0.3 GiB less)",
            "the whole run is planned, from its beginning; nothing is taken to be on the disk already",
        ]
        if (alone := self.evaluation.one_stages) and baseline_beside(options, self._problem, self.world):
            notes.append(f"the {alone[0]} baseline is fitted while stages 2 and later are, in a process of its own")
        if self.world > 1:
            notes.append(f"measured on one device and divided by {self.world} where processes share the work")
        if self.planning.brief:
            notes.append(f"nothing was compiled: --plan.seconds {COMPILED_FROM:g} or more compiles as the run does")
        disks = run_disk(options, self.data, range(1, options.stages + 1), baselines=alone)
        if renewed := max(disk.renewed for disk in disks.values()):
            notes.append(f"what is renewed takes up to {size(renewed)} more on the disk until its stage is complete")
        if options.discard is not None:
            notes.append("every stage is taken to read an equal part of the real examples: counting comes later")
        return notes
