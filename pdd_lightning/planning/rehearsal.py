"""A few steps of a stage in a temporary folder, to learn what the whole of it will cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from lightning.pytorch import Callback, Trainer

from pdd_lightning.compute.cuda_graphs import records
from pdd_lightning.compute.peaks import device_peak, forget_peaks, host_peak
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.dynamics import Dynamics, MatchPoint, StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.planning.clock import ENDLESS, StepClock, mean_seconds, timed
from pdd_lightning.planning.estimate import StageCost
from pdd_lightning.stage.callback import StageCallback
from pdd_lightning.stage.checkpoints import checkpoint_path
from pdd_lightning.stage.initial_images import initial_images
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.monitor import ImageMonitor
from pdd_lightning.stage.subsets import Subset, union_of, write_subset
from pdd_lightning.stage.transition import make_transition
from pdd_lightning.training.learner import train_together
from pdd_lightning.types import Json, LabelledImages, State

MEMBERS = 2
"""Start states in the rehearsal's bank; the dynamics sees as many as it asks for, all of them the same."""

STILL: Json = {"image_lr": 1e-12, "learning_rate_lr": 0.0, "iterations": ENDLESS, "experts_dir": None}
STILL |= {"discard": None, "keep": "last"}
"""Options of a rehearsal: steps that cost as much as others, and move nothing that could diverge."""

MakeStage = Callable[[Json], StageModule]
"""Options of the model that differ from the configuration's -> a new module."""

MakeTrainer = Callable[[StageModule, Sequence[Callback]], Trainer]
"""A trainer for a rehearsal, without a limit of its own."""


class _Rehearsing(Dynamics):
    """Stands in a stage for its dynamics, and rehearses where the stage has it prepared."""

    has_target: ClassVar[bool] = True  # for the options were checked with the inner one

    def __init__(self, inner: Dynamics, seconds: float) -> None:
        self.inner, self.seconds, self.preparation_seconds, self.groups = inner, seconds, 0.0, 1
        self.acting = inner  # offers the match points; another one once it is rehearsed

    @property
    def members(self) -> int:
        """Few, for making and storing them takes time."""
        return MEMBERS

    def prepare(self, context: StageContext) -> None:
        """Rehearse with a bank of the right size that takes no memory, and time the pieces."""
        bank = StateBank.repeated(context.bank[0], self.inner.members, context.bank.identity)
        found = self.inner.preparation(replace(context, bank=bank)).rehearse()
        piece = mean_seconds(found.piece, found.pieces, self.seconds, context.device)
        self.acting, self.preparation_seconds = found.dynamics, found.seconds + found.pieces * piece
        self.groups = found.groups
        context.recordings.clear()  # the steps begin without, as those of the run do

    def point(self, step: int, index: int) -> MatchPoint:
        """See :meth:`Dynamics.point`."""
        return self.acting.point(step, index)

    def advance(self, step: int, synthetic: LabelledImages, rate: float) -> None:
        """See :meth:`Dynamics.advance`."""
        self.acting.advance(step, synthetic, rate)

    def state_dict(self) -> State:
        """See :meth:`Dynamics.state_dict`."""
        return self.acting.state_dict()

    def describe(self) -> Json:
        """See :meth:`Dynamics.describe`."""
        return self.inner.describe()


def rehearse_stage(
    make: MakeStage,
    make_trainer: MakeTrainer,
    data: ImageDataModule,
    changes: Json,
    seconds: float,
    parts: int = 1,
    brief: bool = False,
) -> StageCost:
    """Measure a stage of one size.

    Args:
        make: Makes the module.
        make_trainer: Makes its trainer.
        data: The run's data, set up.
        changes: The stage, and options of another run.
        seconds: How long to measure the steps; preparation and transition take about as long again.
        parts: Of which the stage reads one of the real data.
        brief: Whether shorter steps stand for those of the objective.
    """
    with TemporaryDirectory(prefix="pdd-plan-") as folder:
        module = make({**changes, **STILL, "run_dir": folder})
        options, dynamics = module.options, _Rehearsing(module.options.dynamics, seconds / 2)
        trained = options.dynamics.members if options.transition else options.witnesses * min(1, options.watch_every)
        objective, times = options.objective.brief() if brief else (options.objective, 1.0)
        module.options = replace(options, objective=objective, dynamics=dynamics, witnesses=0, watch_every=0)
        _place_earlier(module, data)
        if parts > 1:
            module.positions = torch.arange(0, len(data.train), parts)
        clock = StepClock(seconds, module.options.objective.compile)
        trainer = make_trainer(module, [clock, ImageMonitor()])
        device = trainer.strategy.root_device
        forget_peaks(device)
        trainer.fit(module, datamodule=data)
        path, problem = checkpoint_path(module.folder.checkpoints, 0), module.options.problem(data)
        checkpoint = timed(lambda: trainer.save_checkpoint(path, weights_only=False))
        union = union_of([*module.previous, module.subset()])
        assert union is not None
        epoch, member, finish = _hand_over(module, trainer, union.to(device), trained, seconds / 2)
        module.context.recordings.clear()  # a later rehearsal is not to find their memory taken
        return StageCost(
            images=len(union),
            overhead=clock.fit_start - clock.made,
            state=timed(lambda: StateBank.random(problem, MEMBERS)) / MEMBERS,
            preparation=dynamics.preparation_seconds,
            groups=dynamics.groups,
            parts=module.options.points * module.options.objective.parts(module.context),
            step=times * clock.step,
            opening=clock.opening,
            checkpoint=checkpoint,
            epoch=epoch,
            member=member,
            finish=finish,
            host=host_peak(),
            device=device_peak(device) or 0,
        )


def _place_earlier(module: StageModule, data: ImageDataModule) -> None:
    """Complete stages before this one, with real images and fresh states in place of learned ones."""
    previous, options = None, module.options
    for stage in range(1, module.stage):
        folder = module.run.stage(stage)
        images = initial_images(options, stage, data.train, data.class_names, options.per_stage[stage - 1])
        write_subset(folder, Subset(LabelledImages(*images), options.learning_rate, stage, options.factor))
        if options.transition and stage == module.stage - 1:
            StateBank.random(options.problem(data), MEMBERS).write(folder.end_states)
        folder.finish(options.settings(stage), data.fingerprint, previous, {})
        previous = folder.fingerprint()


def _hand_over(
    module: StageModule, trainer: Trainer, union: LabelledImages, members: int, seconds: float
) -> tuple[float, float, float]:
    """Seconds of an epoch of the transition, of a member beside its epochs, and of what is done once in a stage."""
    context, rate, planned = module.context, module.options.learning_rate, module.options.recipe
    epoch = member = opening = 0.0
    recipe = replace(planned, epochs=1)  # for each member, which the callback then finds on the disk
    module.options = replace(module.options, recipe=recipe, iterations=trainer.global_step)
    if members:
        learners = context.learners(min(members, context.networks_at_once), planned, len(union), members)
        for learner in learners:
            learner.load(context.bank[0])
        keys = [("rehearsal", index) for index in range(len(learners))]

        def train(number: int) -> None:
            train_together(learners, union, rate, recipe, context.augmentation, context.seed, keys)

        opening = timed(lambda: train(0))
        epoch = mean_seconds(train, ENDLESS, seconds, context.device) / len(learners)
        opening = max(0.0, opening - len(learners) * epoch)
        if records(context.device):
            with TemporaryDirectory() as aside:  # so that the next one finds what is recorded
                make_transition(context, union, rate, recipe, Path(aside))
        # Where the callback looks for members: under the rate that the subset has.
        waiting, learned = module.folder.transition, module.subset().rate
        member = timed(lambda: make_transition(context, union, learned, recipe, waiting)) / MEMBERS - epoch
    return epoch, max(0.0, member), opening + timed(lambda: StageCallback().on_fit_end(trainer, module))
