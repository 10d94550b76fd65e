"""Settings to begin with for data that nobody has distilled before: the table of docs/settings.md as arithmetic.

What is known was measured on 8x8 grey digits and on CIFAR-10, on CPU cores (docs/results.md). The rest keeps what those
settings have in common: a match spans as many optimiser steps, whatever the number of images, and networks train on the
distilled images for as many steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from pdd_lightning.errors import ConfigError
from pdd_lightning.networks import ConvNet
from pdd_lightning.planning.estimate import Line
from pdd_lightning.planning.report import EVALUATION
from pdd_lightning.types import ImageShape

Method = Literal["mtt", "dc", "dsa", "idc", "dm", "cafe"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)

MOST_ON_CPU: Final = 10_000
"""Training images that CPU cores learn from: an epoch of more takes minutes."""

PHASE_STEPS: Final = 150
"""Optimiser steps of a network on each union, at least."""

MOST_STARTS: Final = 20
"""Latest epoch at which a match may start: every one before it is a snapshot on the disk."""


@dataclass(frozen=True)
class Facts:
    """What decides about the settings for some data.

    Args:
        shape: Of an image.
        classes: How many.
        images: Training images in all.
        fewest: Training images of the smallest class.

    Example:
        >>> digits = Facts((1, 8, 8), classes=10, images=1438, fewest=139)
        >>> digits.grey, digits.validation_fraction
        (True, 0.1)
        >>> Facts((3, 32, 32), classes=10, images=50_000, fewest=5000).validation_fraction
        0.02
    """

    shape: ImageShape
    classes: int
    images: int
    fewest: int

    @property
    def grey(self) -> bool:
        """Whether images have one channel."""
        return self.shape[0] == 1

    @property
    def validation_fraction(self) -> float:
        """Part to hold out: a tenth, of many images less, and one of each class at least where there are two."""
        if self.images >= MOST_ON_CPU:
            return 0.02
        return max(0.1, math.ceil(100 / self.fewest) / 100) if self.fewest > 1 else 0.0


@dataclass(frozen=True)
class Settings:
    """What a configuration for new data says.

    Attributes:
        method: The base method.
        stages: How many.
        ipc: Images per class of each stage.
        width: Of the network.
        depth: Of the network, in blocks.
        flip: Whether augmentation may mirror images.
        validation_fraction: Part of the training images that is held out.
        max_per_class: Training images per class; None takes all.
        threads: CPU threads; None leaves it to PyTorch.
        members: Experts, or start states.
        batch_size: Real images per step.
        expert_rate: Learning rate of the experts.
        match_epochs: Epochs between start and target of a match.
        max_start_epoch: Latest epoch at which a match starts.
        augment: Whether experts see augmented images.
        iterations: Optimiser steps of a stage.
        image_lr: Learning rate of the images.
        learning_rate: Initial alpha.
        learning_rate_lr: Learning rate of alpha.
        momentum: Of networks on distilled images.
        weight_decay: Of the same.
        epochs: Of the same, on each union.
        random_rates: Tried for the random subset.
        full_epochs: Of the networks on all data.
        full_rate: Learning rate of these.

    Example:
        >>> chosen = choose(Facts((1, 28, 28), classes=4, images=480, fewest=120), "mtt", stages=3, ipc=3, gpu=False)
        >>> chosen.depth, chosen.batch_size, chosen.match_epochs, chosen.epochs, chosen.momentum
        (3, 64, 9, 150, 0.0)
    """

    method: Method
    stages: int
    ipc: int
    width: int
    depth: int
    flip: bool
    validation_fraction: float
    max_per_class: int | None
    threads: int | None
    members: int
    batch_size: int
    expert_rate: float
    match_epochs: int
    max_start_epoch: int
    augment: bool
    iterations: int
    image_lr: float
    learning_rate: float
    learning_rate_lr: float
    momentum: float
    weight_decay: float
    epochs: int
    random_rates: tuple[float, ...]
    full_epochs: int
    full_rate: float


_IMAGE_RATES: Final[dict[Method, tuple[float, float]]] = {
    "mtt": (0.1, 0.05),
    "dc": (0.1, 0.05),
    "dsa": (0.1, 0.05),
    "idc": (0.1, 0.05),
    "cafe": (0.1, 0.05),
    "dm": (0.3, 0.1),
}
"""Of grey and of coloured images, for Adam on normalised pixels."""


def choose(facts: Facts, method: Method, *, stages: int, ipc: int, gpu: bool) -> Settings:
    """Settings for some data.

    Args:
        facts: About the data.
        method: The base method.
        stages: How many stages.
        ipc: Images per class of each.
        gpu: Whether they are for a GPU.

    Raises:
        ConfigError: If the numbers are not positive, or a class has fewer images than all stages together.
    """
    for name, value in {"stages": stages, "ipc": ipc}.items():
        if value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")
    held = facts.validation_fraction
    left = facts.fewest - round(held * facts.fewest)
    if stages * ipc > left:
        raise ConfigError(
            f"--stages={stages} of --ipc={ipc}: {stages * ipc} images per class begin as real ones, and the smallest "
            f"class has {left} to learn from: lower --stages or --ipc, or add images"
        )
    capped = not gpu and facts.images > MOST_ON_CPU
    most = max(stages * ipc, MOST_ON_CPU // facts.classes) if capped else None
    images = round((1 - held) * facts.images) if most is None else min(facts.images, most * facts.classes)
    trajectory, grey = method == "mtt", facts.grey
    batch = _batch(images, largest=128 if grey or gpu else 64)
    per_epoch = math.ceil(images / batch)
    # Of a match, and of the epochs at which one may start: (digits) and (CIFAR-10) in docs/results.md.
    span, starts = (66, 22) if grey else (300, 450)
    alpha = (0.1 if grey else 0.02) if trajectory else 0.1 if method == "dm" else 0.03
    return Settings(
        method=method,
        stages=stages,
        ipc=ipc,
        width=128 if gpu else 32,
        depth=ConvNet().depth_for(facts.shape),
        flip=not grey,
        validation_fraction=held,
        max_per_class=most,
        threads=1 if not gpu and max(facts.shape[1:]) <= 32 else None,
        members=100 if gpu else 20 if grey or not trajectory else 10,
        batch_size=batch,
        expert_rate=0.1 if grey else 0.01,
        match_epochs=max(1, round(span / per_epoch)),
        max_start_epoch=min(MOST_STARTS, max(1, round(starts / per_epoch))),
        augment=not grey,
        iterations=(200 if trajectory or method == "dm" else 100) * (1 if grey else 2) * (5 if gpu else 1),
        image_lr=_IMAGE_RATES[method][0 if grey else 1],
        learning_rate=alpha,
        learning_rate_lr=alpha / 100 if trajectory else 0.0,
        momentum=0.0 if trajectory else 0.9,
        weight_decay=0.0 if trajectory else 5e-4,
        epochs=math.ceil(PHASE_STEPS / math.ceil(ipc * facts.classes / 256)),
        random_rates=(0.03, 0.1, 0.3, 1.0) if trajectory else (0.01, 0.03, 0.1, 0.3),
        full_epochs=max(3, round((400 if grey else 1500) / per_epoch)),
        full_rate=0.03 if grey else 0.01,
    )


_LEAST: Final = {"members": 2, "iterations": 20, "epochs": 20, "full_epochs": 1}
"""What a run cannot do with less of."""

MOST_ITERATIONS: Final = 5
"""Times as many iterations as chosen, if there is time for more."""


def fitted(settings: Settings, lines: Sequence[Line], minutes: float) -> tuple[Settings, float]:
    """Settings whose run takes so many minutes, about: more iterations, or less of all work.

    Args:
        settings: As chosen.
        lines: What their run takes.
        minutes: How long it may take.

    Returns:
        Others, and the seconds that these take; more than there are where the least of everything takes longer.

    Example:
        >>> chosen = choose(Facts((1, 8, 8), 10, 1438, 139), "dm", stages=1, ipc=1, gpu=False)
        >>> lines = [Line("the stage", "start", 60.0), Line("the stage", "distillation", 600.0)]
        >>> shorter, seconds = fitted(chosen, lines, minutes=6)
        >>> shorter.iterations, shorter.members, seconds
        (100, 10, 360.0)
    """
    starting = sum(line.seconds for line in lines if line.work == "start")
    total, steps = sum(line.seconds for line in lines), sum(e.seconds for e in lines if e.work == "distillation")
    spare = 60 * minutes - total
    if spare >= 0:
        factor = min(MOST_ITERATIONS, 1 + spare / max(steps, 1e-9))
        found = replace(settings, iterations=int(settings.iterations * factor))
    else:
        share = max(0.0, 60 * minutes - starting) / (total - starting)
        counts = {name: max(least, int(share * getattr(settings, name))) for name, least in _LEAST.items()}
        # What was small already does not grow.
        found = replace(settings, **{name: min(count, getattr(settings, name)) for name, count in counts.items()})
    return found, sum(line.seconds * _ratio(line, settings, found) for line in lines)


def _ratio(line: Line, before: Settings, after: Settings) -> float:
    """How much of a work is left under other settings."""
    ratio: dict[str, float] = {name: getattr(after, name) / getattr(before, name) for name in _LEAST}
    if line.work == "start":
        return 1.0
    if line.part == EVALUATION:
        return max(ratio["epochs"], ratio["full_epochs"])
    works = {"preparation": ratio["members"], "distillation": ratio["iterations"]}
    return works.get(line.work, ratio["members"] * ratio["epochs"])


def _batch(images: int, largest: int) -> int:
    """Real images per step: a power of two that leaves some eight steps in an epoch, from 16 on."""
    return min(largest, max(16, 1 << round(math.log2(max(1.0, images / 8)))))
