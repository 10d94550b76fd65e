"""The results of a run: one row per network and set that was scored."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from pdd_lightning.errors import ArtifactError
from pdd_lightning.progress import size
from pdd_lightning.store.digests import fingerprint
from pdd_lightning.store.files import write_text

ORDERS: Final = ("progressive", "union", "sequential")


PROTOCOL: Final = "held-out"
"""Whatever is tuned is tuned on held-out training images; the test set chooses nothing."""


_DERIVED: Final = ("mean", "std")


_DIGEST: Final = "digest"


_TEXT: Final = ("name", "order", "network", "protocol")


_COUNTS: Final = ("stage", "training_images", "steps", "stored_bytes")


_SERIES: Final = ("accuracies", "learning_rate")


_NUMERIC: Final = ("stage", "images per class", "accuracy %", "seeds", "trained on", "steps", "stored size")


_COLUMNS: Final = ("set", "order", "network", *_NUMERIC, "protocol")


_OFTEN_COMMON: Final = ("network", "seeds", "protocol")


@dataclass(frozen=True)
class Row:
    """What one set of images is worth to one kind of network.

    Attributes:
        name: The set: random, one-stage, pdd, full, ...
        order: How the subsets were shown: "progressive", "union" or "sequential".
        network: The network that was trained.
        stage: Number of subsets trained on so far; 0 for the full data.
        images_per_class: Images per class in those subsets; None where classes differ or it does not apply.
        accuracies: Test accuracies as fractions in [0, 1], one per seed.
        training_images: Images that the last part of the training shows, decoded: with multi-formation more than are
            stored.
        steps: Optimiser steps in total.
        stored_bytes: Size of the images and labels in bytes, None if not stored.
        learning_rate: One per phase of the training.
        protocol: How rates were chosen; see `PROTOCOL`.

    Raises:
        ValueError: If a value is outside its domain; percentages in place of fractions are the usual cause.

    Example:
        >>> row = Row("mine", "union", "ConvNet", 1, 1, (0.8, 0.9), 10, 50, 2640, (0.1,))
        >>> round(row.mean, 3), round(row.std, 3)
        (0.85, 0.071)
        >>> markdown_table([row]).splitlines()[-1]
        '| mine | union | ConvNet | 1 | 1 | 85.0 ± 7.1 | 2 | 10 | 50 | 2.6 KiB | held-out |'
    """

    name: str
    order: str
    network: str
    stage: int
    images_per_class: float | int | None
    accuracies: tuple[float, ...]
    training_images: int
    steps: int
    stored_bytes: int | None
    learning_rate: tuple[float, ...]
    protocol: str = PROTOCOL

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


def write_results(rows: Sequence[Row], directory: Path) -> None:
    """Write `results.json` and `results.md`, each of them whole or not at all.

    Args:
        rows: In the order in which they are to appear.
        directory: Made if it does not exist.
    """
    # Both are rendered before either is written: a fault in the rendering must leave the old pair.
    document = json.dumps([row.to_json() for row in rows], indent=2, allow_nan=False) + "\n"
    table = "# Results\n\n" + markdown_table(rows)
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "results.json", document)
    write_text(directory / "results.md", table)


def read_results(path: Path) -> list[Row]:
    """The rows of a `results.json`.

    Raises:
        ArtifactError: If the file is missing or anything in it is not as `write_results` left it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); score the run first") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON ({error}); score the run again") from error
    if not isinstance(value, list):
        raise ArtifactError(f"{path} holds a {type(value).__name__}, expected a list of results; score the run again")
    try:
        return [Row.from_json(item) for item in value]
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def render_table(rows: Sequence[Row]) -> Table:
    """The results for the terminal, in the order given.

    What is the same in every row stands once, below the table: a terminal is narrow.
    """
    cells = [_cells(row) for row in rows]
    common = {
        index: cells[0][index]
        for index, column in enumerate(_COLUMNS)
        if column in _OFTEN_COMMON and len({row[index] for row in cells}) == 1
    }
    notes = [f"{_COLUMNS[index]}: {value}" for index, value in common.items()]
    table = Table(title="Results", box=SIMPLE, padding=0, caption=", ".join(notes) or None)
    shown = [index for index in range(len(_COLUMNS)) if index not in common]
    for column in (_COLUMNS[index] for index in shown):
        justify: Literal["left", "right"] = "right" if column in _NUMERIC else "left"
        # On a narrow terminal values are folded rather than cut off, and these stay whole.
        whole = column in ("set", "order", "accuracy %")
        table.add_column(column, justify=justify, overflow="fold", no_wrap=whole)
    for values in cells:
        table.add_row(*(Text(values[index]) for index in shown))  # Text, because a name may look like rich's markup
    return table


def markdown_table(rows: Sequence[Row]) -> str:
    """The results as a GitHub-flavoured Markdown table, in the order given, ending in a line break."""
    rules = ["---:" if column in _NUMERIC else ":---" for column in _COLUMNS]
    lines = [list(_COLUMNS), rules]
    for row in rows:
        # A bar would start a new cell and a line break a new row.
        lines.append([" ".join(cell.split()).replace("|", "\\|") for cell in _cells(row)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _check_types(value: dict[str, Any]) -> None:
    for key in _TEXT:
        if not isinstance(value[key], str):
            raise ValueError(f"{key} is {value[key]!r}, expected a string")
    for key in _COUNTS:
        if not (type(value[key]) is int or (key == "stored_bytes" and value[key] is None)):
            raise ValueError(f"{key} is {value[key]!r}, expected an integer")
    for key in _SERIES:
        if not isinstance(value[key], list) or not all(type(item) in (int, float) for item in value[key]):
            raise ValueError(f"{key} is {value[key]!r}, expected a list of numbers")
    for key in ("images_per_class", *_DERIVED):
        if type(value[key]) not in (int, float) and not (key == "images_per_class" and value[key] is None):
            raise ValueError(f"{key} is {value[key]!r}, expected a number")


def _cells(row: Row) -> list[str]:
    accuracy = f"{100 * row.mean:.1f}"
    if len(row.accuracies) > 1:  # one seed says nothing about the spread, and "± 0.0" would
        accuracy += f" ± {100 * row.std:.1f}"
    per_class = "-" if row.images_per_class is None else f"{row.images_per_class:.12g}"
    counts = [
        str(len(row.accuracies)),
        f"{row.training_images:,}",
        f"{row.steps:,}",
        "-" if row.stored_bytes is None else size(row.stored_bytes),
    ]
    return [row.name, row.order, row.network, str(row.stage), per_class, accuracy, *counts, row.protocol]
