"""How a stage went: the figures by which a person knows a bad run, in the summary of `stage.json` and in one line."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import Final

import torch
from torch import Tensor

from pdd_lightning.objectives import Objective
from pdd_lightning.stage.keeping import kept_line
from pdd_lightning.types import Json

USELESS: Final = 0.9
"""Part of a loss that means no movement (:attr:`Objective.still`), above which a stage has hardly learned anything."""

NOTABLE: Final = 0.01
"""Difference in accuracy between bank and fresh networks below which nobody need care."""

NOISES: Final = 3.0
"""Standard errors of that difference which it must pass: with three networks Student's t is wide."""

HALF_A_LEVEL: Final = 0.5 / 255
"""What a pixel may lie outside [0, 1] without a PNG cutting anything off."""


class Course:
    """Loss and alpha of every step of a stage; what a checkpoint holds of them goes on where the stage goes on.

    Example:
        >>> course = Course()
        >>> for step in range(4):
        ...     course.add(loss=1.0 - step / 8, alpha=0.1)
        >>> course.summary(steps=4)["loss"]  # the means of the first two and of the last two
        [0.9375, 0.6875]
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.alphas: list[float] = []

    def add(self, loss: float, alpha: float) -> None:
        """Note a step."""
        self.losses.append(loss)
        self.alphas.append(alpha)

    def state(self) -> Tensor:
        """For a checkpoint, shape (2, steps), float32."""
        return torch.tensor([self.losses, self.alphas], dtype=torch.float32)

    def load(self, state: Tensor) -> None:
        """Go on from what :meth:`state` gave."""
        self.losses, self.alphas = state.tolist()

    def summary(self, steps: int) -> Json:
        """What the stage began and ended with, each a mean over a twentieth of the steps, five at least.

        Args:
            steps: Of the stage. If some are missing here, the beginning is not known.
        """
        count = max(1, min(len(self.losses) // 2, max(5, len(self.losses) // 20)))
        known = len(self.losses) == steps
        values = {"loss": self.losses, "alpha": self.alphas}
        return {
            "steps": count,
            **{
                name: [_mean(found[:count]) if known else None, _mean(found[-count:])] for name, found in values.items()
            },
        }


def outside(pixels: Tensor) -> float:
    """Share of the pixels that no picture can hold: a PNG shows them as black or white.

    Args:
        pixels: Shape (N, C, H, W), after inverting the preprocessing.
    """
    return ((pixels < -HALF_A_LEVEL) | (pixels > 1 + HALF_A_LEVEL)).double().mean().item()


def course_line(summary: Mapping[str, object], objective: Objective) -> str:
    """One line that says how a stage went.

    Args:
        summary: Of the stage's manifest.
        objective: Which knows what its loss means.
    """
    course = _part(summary, "course")
    meaning = "" if objective.still is None else f" ({objective.still:g} = no movement)"
    pieces = [
        f"{name} {_ends(course.get(key))}{more}"
        for name, key, more in (("matching loss", "loss", meaning), ("alpha", "alpha", ""))
    ]
    bank, fresh = (_accuracies(summary, name) for name in ("validation_accuracies", "fresh_accuracies"))
    if bank:
        beside = f" on the bank, {100 * fmean(fresh):.1f} % on fresh networks" if fresh else ""
        pieces.append(f"held-out accuracy {100 * fmean(bank):.1f} %{beside}")
    share = summary.get("pixels_outside")
    if isinstance(share, float):
        pieces.append(f"{100 * share:.1f} % of pixels outside [0, 1]")
    if (kept := kept_line(summary)) is not None:
        pieces.append(kept)
    return ", ".join(pieces)


def warning(summary: Mapping[str, object], objective: Objective, image_lr: float) -> str | None:
    """What is wrong with how a stage went, and what to do; None if nothing is known to be.

    Args:
        summary: Of the stage's manifest.
        objective: Which knows what its loss means.
        image_lr: Learning rate of the images.
    """
    found = _part(summary, "course").get("loss")
    last = found[1] if isinstance(found, list) else None
    if objective.still is None or not isinstance(last, float) or last <= USELESS * objective.still:
        return None
    return (
        f"the matching loss ended at {last:.2f}, and {objective.still:g} means that training on these images moves a "
        f"network no nearer to where the real ones take it: try a lower model.image_lr (now {image_lr:g}) or more "
        "model.iterations"
    )


def overfit_warning(summary: Mapping[str, object]) -> str | None:
    """That the images suit the networks that they were matched with alone; None where that cannot be told.

    Args:
        summary: Of the stage's manifest.
    """
    bank, fresh = (_accuracies(summary, name) for name in ("validation_accuracies", "fresh_accuracies"))
    if min(len(bank), len(fresh)) < 2:
        return None
    gap = fmean(bank) - fmean(fresh)
    noise = math.sqrt(variance(bank) / len(bank) + variance(fresh) / len(fresh))
    if gap <= max(NOTABLE, NOISES * noise):
        return None
    return (
        f"held-out accuracy is {100 * gap:.1f} points lower on {len(fresh)} fresh networks than on the {len(bank)} "
        "whose states were matched: the images overfit these; try more start states (for trajectory matching more and "
        "shorter experts), model.dynamics.renew_every or fewer iterations"
    )


def _accuracies(summary: Mapping[str, object], name: str) -> list[float]:
    found = summary.get(name)
    return [value for value in found if isinstance(value, float)] if isinstance(found, list) else []


def _part(summary: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = summary.get(name)
    return part if isinstance(part, Mapping) else {}


def _ends(pair: object) -> str:
    first, last = pair if isinstance(pair, list) else (None, None)
    return " -> ".join("?" if value is None else f"{value:.3g}" for value in (first, last))


def _mean(values: Sequence[float]) -> float | None:
    return float(f"{fmean(values):.6g}") if values else None
