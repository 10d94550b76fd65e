"""A row of results: what one set of images is worth to one kind of network."""

import math
import statistics
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Self, get_args

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.types import Json

Order = Literal["progressive", "union", "sequential"]
"""How the subsets are shown, as the orders follow each other in a table."""

ORDERS: Final[tuple[Order, ...]] = get_args(Order)

Baseline = Literal["random", "herding", "k-center", "forgetting", "one-stage", "one-stage-short", "full"]
"""What a run is compared with, as the sets follow each other in a table: the full data come after the run's own."""

BASELINES: Final[tuple[Baseline, ...]] = get_args(Baseline)


PROTOCOL: Final = "held-out"
"""Whatever is tuned is tuned on held-out training images; the test set chooses nothing."""

STEPS: Final = "steps"
"""Key of `Row.settings` that says "chosen" where held-out images chose the number of optimiser steps too."""

_DERIVED: Final = ("mean", "std")

_DIGEST: Final = "digest"

_TEXT: Final = ("name", "order", "network", "protocol", "test", "run")

_COUNTS: Final = ("stage", "training_images", "steps", "stored_bytes")

_SERIES: Final = ("accuracies", "learning_rate")

_OBJECTS: Final = ("settings", "made")

_OPTIONAL: Final = ("stage", "images_per_class", "stored_bytes")


@dataclass(frozen=True)
class Row:
    """What one set of images is worth to one kind of network.

    Attributes:
        name: The set: random, one-stage, pdd, full, ...
        order: How the subsets were shown; one of `ORDERS`.
        network: The network that was trained.
        stage: Number of the run's own subsets trained on so far; None for a set that has no stages: every baseline.
        images_per_class: Images per class in those subsets; None where classes differ or it does not apply.
        accuracies: Test accuracies as fractions in [0, 1], one per seed.
        training_images: Images that the last part of the training shows, decoded: with multi-formation more than are
            stored.
        steps: Optimiser steps in total.
        stored_bytes: Size of the images and labels in bytes, None if not stored.
        learning_rate: One per phase of the training.
        protocol: How rates were chosen; see `PROTOCOL`.
        settings: The network and the recipe that it was trained by, with all their options; see `STEPS` too.
        test: Fingerprint of the test set: accuracies on two different ones are not to be compared.
        run: Fingerprint of what the run held, by which rows of a run that was changed are known.
        made: Under which versions; see :func:`pdd_lightning.store.versions.made_with`.

    Raises:
        ValueError: If a value is outside its domain; percentages in place of fractions are the usual cause.

    Example:
        >>> row = Row("mine", "union", "ConvNet", None, 1, (0.8, 0.9), 10, 50, 2640, (0.1,))
        >>> round(row.mean, 3), round(row.std, 3)
        (0.85, 0.071)
    """

    name: str
    order: str
    network: str
    stage: int | None
    images_per_class: float | int | None
    accuracies: tuple[float, ...]
    training_images: int
    steps: int
    stored_bytes: int | None
    learning_rate: tuple[float, ...]
    # Always the same, and kept: rows are read by people and programs that do not know how we tune, and a row that was
    # tuned in another way must be refused.
    protocol: str = PROTOCOL
    settings: Json = field(default_factory=dict)
    test: str = ""
    # The same result is made in several runs, and again by another release.
    run: str = field(default="", compare=False)
    made: Json = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        # Checked here rather than on reading only, so that no file is written that could not be read back.
        if self.order not in ORDERS:
            raise ValueError(f"order is {self.order!r}, expected one of {', '.join(ORDERS)}")
        if self.protocol != PROTOCOL:
            raise ValueError(f"protocol is {self.protocol!r}, expected {PROTOCOL}")
        if not self.accuracies or not all(0 <= value <= 1 for value in self.accuracies):  # also refuses NaN
            raise ValueError(f"accuracies are {self.accuracies}, expected one fraction in [0, 1] per seed")
        if not all(math.isfinite(rate) and rate >= 0 for rate in self.learning_rate):
            raise ValueError(f"learning_rate is {self.learning_rate}, expected finite values of at least 0")
        for key in ("stage", "images_per_class", "training_images", "steps", "stored_bytes"):
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{key} is {value}, expected a finite value of at least 0")

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds, a fraction."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Sample standard deviation over the seeds (n - 1 in the denominator), 0 for one seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0

    @property
    def key(self) -> tuple[object, ...]:
        """What the row is about: of two rows of one key, the later one takes the place of the other."""
        return self.name, self.order, self.network, self.stage, fingerprint(self.settings), self.test

    def to_json(self) -> dict[str, Any]:
        """Every field, and the mean and standard deviation for readers without this package."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        series = {key: list(values[key]) for key in _SERIES}
        told = {**values, **series, "mean": self.mean, "std": self.std}
        return {**told, _DIGEST: fingerprint(told)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The row that `to_json` described.

        Args:
            value: A decoded JSON object.

        Raises:
            ArtifactError: If a key is missing or unknown, a value has the wrong type or is out of range, or
                the mean or standard deviation is not that of the accuracies.
        """
        if not isinstance(value, dict):
            raise ArtifactError(f"a result is a {type(value).__name__}, expected an object; score the run again")
        value = dict(value)
        digest = value.pop(_DIGEST, None)
        names = [field.name for field in fields(cls)]
        if expected := {*names, *_DERIVED} ^ set(value):
            missing, unknown = sorted(expected - set(value)), sorted(expected & set(value))
            raise ArtifactError(f"a result lacks {missing} and has unknown {unknown}; score the run again")
        try:
            _check_types(value)
            series = {key: tuple(float(item) for item in value[key]) for key in _SERIES}
            row = cls(**{**{key: value[key] for key in names}, **series})
            for key in _DERIVED:
                if not math.isclose(value[key], getattr(row, key), rel_tol=1e-9, abs_tol=1e-12):
                    raise ValueError(f"{key} is {value[key]}, but the accuracies give {getattr(row, key)}")
            if digest not in (None, fingerprint(value)):
                raise ValueError("it was changed after it was written")
        except (ValueError, OverflowError) as error:
            raise ArtifactError(f"result {value['name']!r}: {error}; score the run again") from error
        return row


def _check_types(value: dict[str, Any]) -> None:
    for key in _TEXT:
        if not isinstance(value[key], str):
            raise ValueError(f"{key} is {value[key]!r}, expected a string")
    for key in _COUNTS:
        if not (type(value[key]) is int or (key in _OPTIONAL and value[key] is None)):
            raise ValueError(f"{key} is {value[key]!r}, expected an integer")
    for key in _SERIES:
        if not isinstance(value[key], list) or not all(type(item) in (int, float) for item in value[key]):
            raise ValueError(f"{key} is {value[key]!r}, expected a list of numbers")
    for key in _OBJECTS:
        if not isinstance(value[key], dict):
            raise ValueError(f"{key} is {value[key]!r}, expected an object")
    for key in ("images_per_class", *_DERIVED):
        if type(value[key]) not in (int, float) and not (key in _OPTIONAL and value[key] is None):
            raise ValueError(f"{key} is {value[key]!r}, expected a number")
