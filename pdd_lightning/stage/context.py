"""What a stage and a selection work with, put together from the options of the run and its data."""

import torch

from pdd_lightning.compute.cuda_graphs import LANES
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.dynamics import Ranks, StageContext
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.process.ranks import sharing
from pdd_lightning.process.workers import spare
from pdd_lightning.selection import SelectionContext
from pdd_lightning.selection.trained import is_trained_on_real
from pdd_lightning.stage.initial_images import real_images_needed
from pdd_lightning.stage.one_stage import baseline_of
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import read_metadata
from pdd_lightning.training.gradients import is_recordable
from pdd_lightning.training.problem import Problem


def start_states(options: StageOptions, stage: int, problem: Problem) -> StateBank:
    """theta^(k-1): random networks at stage 1 and without transition, else what the previous stage left.

    Args:
        options: Of the run.
        stage: Number k of the stage.
        problem: Networks and images.

    Raises:
        ArtifactError: If the states are damaged or belong to another network.
    """
    if stage == 1 or not options.transition:
        return StateBank.random(problem, options.dynamics.members)
    return StateBank.read(options.run.stage(stage - 1).end_states, problem.initial_state("shape"))


def start_identity(options: StageOptions, stage: int, problem: Problem) -> str:
    """The identity of :func:`start_states`, without reading them; the arguments are its."""
    if stage == 1 or not options.transition:
        return StateBank.random_identity(problem)
    return read_metadata(options.run.stage(stage - 1).end_states).get("identity", "")


def networks_side_by_side(
    options: StageOptions, problem: Problem, world: int, shared: int | None = None
) -> tuple[int, int]:
    """How many networks a process trains at once on a GPU, and how many processes train one each on a CPU.

    Args:
        options: Of the run.
        problem: Networks and device.
        world: Processes that share the work already.
        shared: Commands of the run that share the cores; None asks the environment.
    """
    wanted = options.networks_at_once
    if problem.device.type != "cpu":
        return wanted or (LANES if is_recordable(problem.network(), problem.device) else 1), 1
    workers = spare(problem.device, world) if wanted is None else wanted
    return 1, max(1, workers // (sharing() if shared is None else shared))


def baseline_beside(options: StageOptions, problem: Problem, world: int) -> bool:
    """Whether `run` fits the first baseline of one stage while it fits the stages after the first.

    Args:
        options: Of the run.
        problem: Networks and device.
        world: Processes that share the work.
    """
    return options.stages > 1 and world == 1 and networks_side_by_side(options, problem, world, shared=1)[1] > 1


def stage_context(
    options: StageOptions,
    stage: int,
    bank: StateBank,
    data: ImageDataModule,
    device: torch.device,
    ranks: Ranks | None = None,
    positions: torch.Tensor | None = None,
    done: int = 0,
) -> StageContext:
    """The context of a stage.

    Args:
        options: Of the run.
        stage: Number of the stage.
        bank: Its start states.
        data: The run's data, set up.
        device: Where to compute.
        ranks: Who is at work; None stands for this process alone.
        positions: Of the real images that the stage reads; None gives it all.
        done: Optimiser steps that were made before.
    """
    problem = options.problem(data, device)
    ranks = Ranks() if ranks is None else ranks
    lanes, workers = networks_side_by_side(options, problem, ranks.world)
    real, identity = data.train_on(device), data.fingerprint
    if positions is not None:
        real, identity = real.take(positions), fingerprint([identity, positions.tolist()])
    return StageContext(
        problem=problem,
        stage=stage,
        bank=bank,
        real=real,
        validation=data.validation_on(device),
        data=identity,
        experts=options.experts_folder,
        ranks=ranks,
        networks_at_once=lanes,
        workers=workers,
        compile_networks=options.compile_networks,
        baseline=baseline_of(options),
        steps=range(done, options.steps_per_stage[stage - 1]),
        renewals=options.run.stage(stage).renewals,
    )


def planned_context(options: StageOptions, stage: int, data: ImageDataModule) -> StageContext:
    """The context that a stage will have, with start states of the right size in place of those that it will read.

    Where easy examples are discarded and it is not known yet which, the stage is given none of the real images.

    Args:
        options: Of the run.
        stage: Number of the stage.
        data: The run's data, set up.

    Raises:
        ArtifactError: If the stage before is complete and its end states are damaged.
    """
    device, problem = torch.device("cpu"), options.problem(data)
    before = options.run.stage(stage - 1).end_states if stage > 1 and options.transition else None
    start = "" if before is not None and not before.is_file() else start_identity(options, stage, problem)
    bank = StateBank.repeated(problem.initial_state("shape"), options.dynamics.members, start)
    positions: torch.Tensor | None = None
    if options.discard is not None:
        context, needed = selection_context(options, data, device), real_images_needed(options, max(options.per_stage))
        positions = torch.empty(0, dtype=torch.int64)
        if is_trained_on_real(context, options.discard.learning_rate, options.discard.recipe):
            positions = options.discard.positions(context, options.stages, needed)[stage - 1]
    return stage_context(options, stage, bank, data, device, positions=positions)


def selection_context(options: StageOptions, data: ImageDataModule, device: torch.device) -> SelectionContext:
    """What selecting real images works with in a run.

    Args:
        options: Of the run.
        data: Its data, set up.
        device: Where to compute.
    """
    return SelectionContext(
        problem=options.problem(data, device),
        real=data.train_on(device),
        class_names=data.class_names,
        data=data.fingerprint,
        folder=options.run.directory,
    )
