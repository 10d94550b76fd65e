"""Held-out accuracy along the training on each union: of networks that the stages were matched with, and of fresh ones.

Every training here is one that a stage makes at its end: the transition, or that of its witnesses. So the same networks
end where they ended there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Final, cast

import torch

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.dynamics.bank import StateBank
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.process.workers import share_out
from pdd_lightning.progress import Progress
from pdd_lightning.stage.context import stage_context, start_states
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.stage.subsets import Subset, read_run, union_of
from pdd_lightning.stage.transition import BANK, train_members
from pdd_lightning.stage.witnesses import FRESH, fresh_networks
from pdd_lightning.store.digests import differing_keys
from pdd_lightning.store.files import as_json
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.learner import Learner, groups
from pdd_lightning.training.problem import Problem
from pdd_lightning.types import Json, LabelledImages

MEASURED: Final = 50
"""Parts of a phase between two measurements: there are often more held-out images than images to train on."""

_DECISIVE: Final = ("network", "augmentation", "recipe", "transition", "seed")
"""Options of a stage that training on the unions depends on: what learned the images may be of another release."""


@dataclass(frozen=True)
class Curves:
    """Accuracy of some networks along a phase.

    Attributes:
        epochs: After which it was measured, from 0, where the phase begins, to its last one.
        accuracies: Fractions of the held-out images, for each network at each of these epochs.

    Example:
        >>> curves = Curves((0, 1, 2), ((0.1, 0.5, 0.4), (0.2, 0.7, 0.6)))
        >>> curves.best, curves.epochs[curves.best], round(curves.mean(curves.best), 2)
        (1, 1, 0.6)
    """

    epochs: tuple[int, ...]
    accuracies: tuple[tuple[float, ...], ...]

    @property
    def best(self) -> int:
        """Number of the measurement whose mean is highest; the first of equals."""
        return self.best_of(self.accuracies)

    @staticmethod
    def best_of(accuracies: Sequence[Sequence[float]]) -> int:
        """Number of the measurement at which some networks are best on the average; the first of equals.

        Args:
            accuracies: Of each network.
        """
        means = [fmean(values) for values in zip(*accuracies, strict=True)]
        return means.index(max(means))

    def at(self, number: int) -> list[float]:
        """Of every network at a measurement; -1 is the last."""
        return [own[number] for own in self.accuracies]

    def mean(self, number: int) -> float:
        """Of the networks at a measurement."""
        return fmean(self.at(number))

    def told(self, number: int) -> str:
        """Mean and sample standard deviation at a measurement in percent, for people."""
        values = self.at(number)
        spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
        return f"{100 * fmean(values):.1f}{spread}"

    def to_json(self) -> Json:
        """Every number."""
        means = [fmean(self.at(number)) for number in range(len(self.epochs))]
        spread = [stdev(self.at(number)) if len(self.accuracies) > 1 else 0.0 for number in range(len(self.epochs))]
        return {"accuracies": [list(own) for own in self.accuracies], "mean": means, "std": spread}


@dataclass(frozen=True)
class PhaseCurves:
    """What was measured along the training on a union.

    Attributes:
        stage: Number k of the union.
        bank: Of members of the bank, which the stages were matched with.
        fresh: Of networks that no stage was matched with.

    Example:
        >>> rising = Curves((0, 1), ((0.1, 0.6),))
        >>> [name for name, curves in PhaseCurves(1, rising, rising).named]
        ['bank', 'fresh']
    """

    stage: int
    bank: Curves
    fresh: Curves

    @property
    def named(self) -> list[tuple[str, Curves]]:
        """Both, by the names that tables call them."""
        return [("bank", self.bank), ("fresh", self.fresh)]


@dataclass(frozen=True)
class _Kind:
    """Networks of one kind.

    Attributes:
        what: Which training theirs is.
        starts: Where they begin each phase; None where the phase before ended.
        together: How many of them a run trains, by which it was decided whether to compile.
    """

    what: str
    starts: Sequence[StateBank | None]
    together: int

    @property
    def count(self) -> int:
        first = self.starts[0]
        assert first is not None, "there is no phase before the first"
        return len(first)


def require_diagnosable(run: RunFolder) -> None:
    """Refuse what has no stage that was matched with networks.

    Args:
        run: The run.

    Raises:
        ArtifactError: If no stage is complete, or no stage distilled the images.
    """
    if not run.completed():
        raise ArtifactError(f"{run.directory} holds no complete stage: distil first, or name the folder of a run")
    found = run.stage(1).read_manifest()
    if found.given is not None:
        raise ArtifactError(
            f"{run.directory} holds {found.holds}, which were matched with no networks: name a distilled run"
        )


def phase_curves(
    options: StageOptions, data: ImageDataModule, device: torch.device, networks: int, measured: int = MEASURED
) -> list[PhaseCurves]:
    """Train networks through the phases of a run's complete stages, and measure on held-out images as they go.

    Args:
        options: Of the run.
        data: Its data, set up.
        device: Where to train.
        networks: Fresh ones, and members of the bank as far as there are so many.
        measured: Parts of a phase between two measurements.

    Returns:
        What was measured, a phase after the other.

    Raises:
        ArtifactError: If options or data are not those of the run, or its files were changed.
        ConfigError: If nothing is held out.
    """
    subsets = _verified_subsets(options, data)
    if not len(data.validation):
        raise ConfigError(
            f"data.validation_fraction={data.validation_fraction:g} held out none of the training images of "
            f"{options.run.directory}, and accuracy is measured on these: distil a run with "
            "--data.validation_fraction 0.1"
        )
    unions = [_union(subsets[:k]).to(device) for k in range(1, len(subsets) + 1)]
    problem, recipe = options.problem(data), options.recipe
    fresh = [fresh_networks(problem, networks), *[None] * (len(unions) - 1)]
    bank = _bank(options, problem, len(unions), min(networks, options.dynamics.members))
    kinds = [_Kind(BANK, bank, options.dynamics.members), _Kind(FRESH, fresh, options.witnesses or networks)]
    context = stage_context(options, 1, cast(StateBank, bank[0]), data, device)
    epochs = measurements(recipe.epochs, measured)

    def along(work: tuple[_Kind, Sequence[int]], advance: Callable[[int], object]) -> list[list[list[float]]]:
        """Accuracies of a group by phase, network and measurement."""
        (kind, group), learners, found = work, list[Learner](), list[list[list[float]]]()
        for number, union in enumerate(unions):
            begun = kind.starts[number]
            ended = [learner.state() for learner in learners]
            states = ended if begun is None else [begun[member] for member in group]
            found.append([[] for _ in group])

            def watch(learners: Sequence[Learner], epoch: int) -> None:
                if epoch in epochs:
                    for learner, own in zip(learners, found[-1], strict=True):
                        own.append(learner.accuracy(context.validation))

            starts, rate = dict(zip(group, states, strict=True)), subsets[number].rate
            phase = replace(context, stage=number + 1)
            learners = train_members(phase, starts, union, rate, recipe, kind.what, kind.together, watch)
            advance(len(group))
        return found

    for kind in kinds:
        for union in unions:
            context.compile(recipe, len(union), kind.together)
    work = [(kind, group) for kind in kinds for group in groups(range(kind.count), context.networks_at_once, _never)]
    total = len(unions) * sum(kind.count for kind in kinds)
    title = f"diagnosis: {total // len(unions)} networks through {len(unions)} phases ({recipe.epochs} epochs each)"
    with Progress() as progress, progress.task(title, total) as task:
        done = share_out(along, work, context.workers, task.advance)

    def curves(kind: _Kind, phase: int) -> Curves:
        found = [own for (of, _), group in zip(work, done, strict=True) if of is kind for own in group[phase]]
        return Curves(tuple(epochs), tuple(map(tuple, found)))

    return [PhaseCurves(phase + 1, *(curves(kind, phase) for kind in kinds)) for phase in range(len(unions))]


def measurements(epochs: int, most: int) -> list[int]:
    """After which epochs of a phase to measure: first and last, and evenly between.

    Args:
        epochs: Of the phase.
        most: Parts between two measurements at most.

    Example:
        >>> measurements(3, 50), measurements(100, 4)
        ([0, 1, 2, 3], [0, 25, 50, 75, 100])
    """
    parts = min(epochs, most)
    return [round(part * epochs / parts) for part in range(parts + 1)]


def _verified_subsets(options: StageOptions, data: ImageDataModule) -> list[Subset]:
    """Those of the complete stages, of the present options and data; end states may be missing."""
    run, previous = options.run, None
    subsets = read_run(run)[: options.stages]
    for subset in subsets:
        folder = run.stage(subset.stage)
        manifest = folder.verify_made(None, data.fingerprint, previous)
        settings, previous = options.settings(subset.stage), manifest.fingerprint
        then, now = ({key: all_.get(key) for key in _DECISIVE} for all_ in (manifest.settings, as_json(settings)))
        if changed := differing_keys(then, now, "model."):
            raise ArtifactError(
                f"stage {subset.stage} in {folder.directory} was made under other settings: {'; '.join(changed)}. "
                "Leave these options as the run has them"
            )
    return subsets


def _union(subsets: Sequence[Subset]) -> LabelledImages:
    union = union_of(subsets)
    assert union is not None, "there is a complete stage"
    return union


def _bank(options: StageOptions, problem: Problem, stages: int, count: int) -> list[StateBank | None]:
    """The start states of the first members for each stage, as far as the run has kept them."""
    banks: list[StateBank | None] = [StateBank.random(problem, count)]
    for stage in range(2, stages + 1):
        before = options.run.stage(stage - 1)
        if not options.transition or not before.end_states.is_file():
            banks.append(None)  # the same on the machine that made them
            continue
        before.verify_file(before.end_states)
        whole = start_states(options, stage, problem)
        if len(whole) < count:
            raise ArtifactError(
                f"{before.end_states} holds {len(whole)} networks, and model.dynamics now asks for "
                f"{options.dynamics.members}: leave its options as the run has them"
            )
        banks.append(StateBank.stack([whole[member] for member in range(count)], whole.identity))
    return banks


def _never(member: int) -> bool:
    """Of none of these networks is anything kept."""
    return False
