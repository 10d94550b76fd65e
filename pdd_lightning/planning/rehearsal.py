"""A few steps of a stage in a temporary folder, to learn what the whole of it will cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from lightning.pytorch import Callback, Trainer

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.dynamics import Dynamics, MatchPoint, Rehearsal, StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.planning.clock import StepClock, mean_seconds, timed
from pdd_lightning.planning.estimate import StageCost
from pdd_lightning.planning.readings import device_peak, folder_bytes, forget_device_peak, host_peak
from pdd_lightning.stage.callback import StageCallback
from pdd_lightning.stage.initial_images import initial_images
from pdd_lightning.stage.module import StageModule
from pdd_lightning.stage.monitor import ImageMonitor
from pdd_lightning.stage.subsets import Subset, union_of, write_subset
from pdd_lightning.stage.transition import make_transition
from pdd_lightning.training.learner import Learner, train_together
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import Json, LabelledImages, State

MEMBERS = 2
"""Start states in the rehearsal's bank; the dynamics sees as many as it asks for, all of them the same."""

ENDLESS = 10**9
"""Optimiser steps of a rehearsal, which its clock ends."""

STILL: Json = {"image_lr": 1e-12, "learning_rate_lr": 0.0, "discard": None, "iterations": ENDLESS, "experts_dir": None}
"""Options of a rehearsal: steps that cost as much as others, and move nothing that could diverge."""

MakeStage = Callable[[Json], StageModule]
"""Options of the model that differ from the configuration's -> a new module."""

MakeTrainer = Callable[[StageModule, Sequence[Callback]], Trainer]
"""A trainer for a rehearsal, without a limit of its own."""


class _Rehearsing(Dynamics):
    """Stands in a stage for its dynamics, and rehearses where the stage has it prepared.

    Args:
        inner: The dynamics.
        seconds: How long to measure the pieces of its preparation.
    """

    def __init__(self, inner: Dynamics, seconds: float) -> None:
        self.inner, self.seconds = inner, seconds
        self.rehearsal: Rehearsal | None = None
        self.piece = 0.0

    @property
    def members(self) -> int:
        """Few, for making and storing them takes time."""
        return MEMBERS

    @property
    def acting(self) -> Dynamics:
        """The dynamics that offers the match points."""
        assert self.rehearsal is not None, "prepare() comes first"
        return self.rehearsal.dynamics

    def prepare(self, context: StageContext) -> None:
        """Rehearse with a bank of the right size that takes no memory, and time the pieces."""
        stacked = {
            name: tensor[None].expand(self.inner.members, *tensor.shape) for name, tensor in context.bank[0].items()
        }
        self.rehearsal = found = self.inner.rehearse(replace(context, bank=StateBank(stacked, context.bank.identity)))
        self.piece = mean_seconds(found.piece, found.pieces, self.seconds, context.device)
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
    folder: Path,
    changes: Json,
    seconds: float,
    parts: int = 1,
) -> StageCost:
    """Measure a stage of one size.

    Args:
        make: Makes the module.
        make_trainer: Makes its trainer.
        data: The run's data, set up.
        folder: An empty folder, for a run that ends after a few steps.
        changes: The stage, and options of another run; those of every rehearsal have precedence.
        seconds: How long to measure the steps; preparation and transition take about as long again.
        parts: Of which the stage reads one of the real data.
    """
    module = make({**changes, **STILL, "run_dir": str(folder)})
    dynamics = module.dynamics = _Rehearsing(module.dynamics, seconds / 2)
    _place_earlier(module, data)
    if parts > 1:
        module.positions = torch.arange(0, len(data.train), parts)
    clock = StepClock(seconds)
    trainer = make_trainer(module, [clock, ImageMonitor()])
    device = trainer.strategy.root_device
    forget_device_peak(device)
    trainer.fit(module, datamodule=data)
    rehearsal = dynamics.rehearsal
    assert rehearsal is not None
    checkpoint = timed(lambda: trainer.save_checkpoint(module.folder.checkpoints / "step=0.ckpt", weights_only=False))
    logs = folder_bytes(module.run.tensorboard)
    epoch, member, finish = _hand_over(module, trainer, dynamics.inner.members, seconds / 2)
    module.context.recordings.clear()  # a later rehearsal is not to find their memory taken
    architecture, shape, classes = module.architecture, data.image_shape, data.num_classes
    state = timed(lambda: StateBank.random(architecture, shape, classes, MEMBERS, module.seed)) / MEMBERS
    ends = module.folder.end_states
    return StageCost(
        images=_union_size(module),
        overhead=clock.fit_start - clock.made,
        state=state,
        preparation=rehearsal.seconds,
        pieces=rehearsal.pieces,
        piece=dynamics.piece,
        parts=module.points * module.objective.parts(module.context),
        step=clock.step,
        opening=clock.opening,
        checkpoint=checkpoint,
        epoch=epoch,
        member=member,
        finish=finish,
        host=host_peak(),
        device=device_peak(device) or 0,
        stored=folder_bytes(module.folder.directory) - (ends.stat().st_size if ends.is_file() else 0) + logs,
    )


def _place_earlier(module: StageModule, data: ImageDataModule) -> None:
    """Complete stages before this one, with real images and fresh states in place of learned ones."""
    previous = None
    for stage in range(1, module.stage):
        folder, ipc = module.run.stage(stage), module.per_stage[stage - 1]
        images, labels = initial_images(
            data.train, data.class_names, ipc, module.factor, module.initial, module.seed, stage
        )
        write_subset(folder, Subset(LabelledImages(images, labels), module.initial_rate, stage, module.factor))
        if module.transition and stage == module.stage - 1:
            shape, classes = data.image_shape, data.num_classes
            StateBank.random(module.architecture, shape, classes, MEMBERS, module.seed).write(folder.end_states)
        folder.finish({**module.settings(), "ipc": ipc}, data.fingerprint, previous, {})
        previous = folder.fingerprint()


def _union_size(module: StageModule) -> int:
    union = union_of([*module.previous, module.subset()])
    assert union is not None
    return len(union)


def _hand_over(module: StageModule, trainer: Trainer, members: int, seconds: float) -> tuple[float, float, float]:
    """Seconds of an epoch of the transition, of a member beside its epochs, and of what is done once in a stage."""
    context = module.context
    union = union_of([*module.previous, module.subset()])
    assert union is not None
    union = union.to(context.device)
    epoch = member = opening = 0.0
    steps = members * module.recipe.steps(len(union))
    # One epoch for each member; the callback then finds the members on the disk.
    module.recipe = replace(module.recipe, epochs=1)
    module.iterations = trainer.global_step
    if module.transition:
        size = min(members, context.networks_at_once)
        train = _epoch_of(context, context.learners(size, steps), union, module.initial_rate, module.recipe)
        opening = timed(lambda: train(0))
        epoch = mean_seconds(train, ENDLESS, seconds, context.device) / size
        opening = max(0.0, opening - size * epoch)
        waiting = module.folder.directory / "transition"
        rate = module.subset().rate
        with TemporaryDirectory() as aside:  # so that the next one finds what a GPU records
            make_transition(context, union, rate, module.recipe, Path(aside))
        member = timed(lambda: make_transition(context, union, rate, module.recipe, waiting)) / MEMBERS - epoch
    finish = timed(lambda: StageCallback().on_fit_end(trainer, module))
    return epoch, max(0.0, member), opening + finish


def _epoch_of(
    context: StageContext, learners: Sequence[Learner], union: LabelledImages, rate: float, recipe: Recipe
) -> Callable[[int], None]:
    """Trains one member, or a group of them, for the recipe's single epoch."""
    for learner in learners:
        learner.load(context.bank[0])
    keys = [("rehearsal", index) for index in range(len(learners))]
    return lambda number: train_together(learners, union, rate, recipe, context.augmentation, context.seed, keys)
