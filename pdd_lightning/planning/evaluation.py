"""What the jobs of an evaluation cost, measured on images of the right sizes."""

import time
from dataclasses import dataclass, replace

import torch

from pdd_lightning.compute.cuda_graphs import records, synchronise
from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.evaluation.evaluator import Evaluator
from pdd_lightning.evaluation.module import EvaluationModule, Phase
from pdd_lightning.evaluation.protocol import SELECTION, SELECTIONS, Job, Training
from pdd_lightning.planning.clock import ENDLESS, StepClock, mean_seconds
from pdd_lightning.progress import announced, track
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.training.learner import SCORED_AT_ONCE, Learner
from pdd_lightning.training.problem import Problem
from pdd_lightning.training.recipe import Recipe
from pdd_lightning.types import LabelledImages

SOME = 250
"""Images on which scoring is timed; a network of the published size takes a CPU some tenths of a second for them."""

_Kind = tuple[str, int, str, int, bool]
"""The networks, how many, how they are trained, the images of a minibatch, whether they are drawn."""


@dataclass(frozen=True)
class TrainingCost:
    """Seconds of training some networks side by side."""

    overhead: float  # of the fit beside its steps, with what the first steps take longer
    opening: float  # what the first steps take longer
    step: float  # of an optimiser step of all networks


def job_seconds(evaluator: Evaluator, budget: float, brief: bool = False) -> dict[str, float]:
    """Seconds of every job of an evaluation by its label, from a few steps of every kind of training.

    Args:
        evaluator: Of planned sets.
        budget: Seconds for all measurements, about.
        brief: Whether one network stands for all that a CPU trains in turns.
    """
    data, found = evaluator.data, dict[str, float]()
    jobs: list[tuple[Job, LabelledImages]] = []
    for job in evaluator.jobs():
        jobs += [(trial, data.validation) for trial in job.trials()]
        jobs.append((job, data.test))
    kinds = {_kind(evaluator, job, part): (job, part) for job, _ in jobs for part in job.trainings}
    share = budget / max(1, len(kinds))
    measured = track(kinds.items(), description="planning: evaluation")
    costs = dict[_Kind, TrainingCost]()
    for kind, (job, part) in measured:
        with announced(f"{job.label}: a few steps, then about {share:.0f} s of them"):
            costs[kind] = _measure(evaluator, job, part, share, brief and evaluator.device.type == "cpu")
    problems = {_name(job): evaluator.problem(job) for job, _ in jobs}
    scores = {name: score_seconds(problem, data.test, share) for name, problem in problems.items()}
    if selecting := [SELECTIONS[job.name] for job, _ in jobs if job.name in SELECTIONS]:
        training = selecting[0].by(evaluator.evaluation.full, evaluator.evaluation.full_rate)  # which they share
        problem = evaluator.module.options.problem(data, evaluator.device)
        # Choosing itself is not counted.
        found[SELECTION] = real_seconds(problem, data, training.recipe, training.learning_rate, share)
    for job, score in jobs:
        mine = [_kind(evaluator, job, part) for part in job.trainings]
        # As long as the process takes that trains the most of them.
        seconds = costs[mine[0]].overhead + len(mine) * len(score) * len(_share(evaluator, job)) * scores[_name(job)]
        seconds += sum(part.steps * costs[kind].step for part, kind in zip(job.trainings, mine, strict=True))
        if records(evaluator.device):  # every kind anew
            seconds += sum(costs[kind].opening for kind in {*mine} - {mine[0]})
        found[job.label] = found.get(job.label, 0.0) + seconds
    return found


@torch.no_grad()
def score_seconds(problem: Problem, images: LabelledImages, seconds: float) -> float:
    """Seconds for a network's answers to one of the images; a whole minibatch is shown once, for its memory."""
    network, shown = problem.network().to(problem.device).eval(), images.images[:SCORED_AT_ONCE].to(problem.device)
    network(shown)
    synchronise(problem.device)
    some = shown[:SOME]
    return mean_seconds(lambda _: network(some), ENDLESS, min(1.0, seconds), problem.device) / max(1, len(some))


def real_seconds(problem: Problem, data: ImageDataModule, recipe: Recipe, rate: float, seconds: float) -> float:
    """Seconds of a training on the real data that notes which examples are correct, measured for some seconds."""
    learner, real = Learner(problem.network(), problem.device), data.train_on(problem.device)
    learner.load(problem.initial_state("plan"))
    # The training has one too, and is therefore not recorded.
    learner.network.register_forward_hook(lambda *_: None)

    def step(number: int) -> None:
        learner.train_steps(real, [number], rate, recipe, problem.augmentation, problem.seed, "plan")

    steps = recipe.steps(len(real))
    return steps * mean_seconds(step, steps, seconds, problem.device)


def _name(job: Job) -> str:
    return fingerprint(job.network.describe())


def _kind(evaluator: Evaluator, job: Job, part: Training) -> _Kind:
    """What decides the cost of a step."""
    recipe = part.recipe
    how = fingerprint([recipe.precision, recipe.cutmix, evaluator.compiles(job, part)])
    drawn = part.examples > recipe.batch_size
    return _name(job), len(job.members), how, min(part.examples, recipe.batch_size), drawn


def _share(evaluator: Evaluator, job: Job) -> range:
    """The networks that one process trains while others train as many."""
    return max(evaluator.shares(job), key=len)


def _measure(evaluator: Evaluator, job: Job, part: Training, seconds: float, one: bool) -> TrainingCost:
    """The cost of a kind of training, of one network for all if asked for."""
    began, share = time.perf_counter(), _share(evaluator, job)
    share, times = (share[:1], len(share)) if one else (share, 1)
    images = [part.images(job.members[network]) for network in share]
    recipe, rates = replace(part.recipe, epochs=ENDLESS), [part.rates[network] for network in share]
    phase = Phase(images, rates, recipe, evaluator.compiles(job, part))
    clock = StepClock(seconds)
    none = evaluator.data.test.take(torch.arange(0))  # scored apart
    members = [job.members[network] for network in share]
    module = EvaluationModule(evaluator.problem(job), [phase], none, job.name, members)
    evaluator.make_trainer(module.total_steps, [clock]).fit(module)
    overhead = time.perf_counter() - began - clock.count * clock.step
    return TrainingCost(max(0.0, overhead), clock.opening, times * clock.step)
