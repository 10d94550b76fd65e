"""Which state of its images a stage ends with: the last, the best on held-out images, or the mean of the last ones."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any, Literal

from torch import Tensor

from pdd_lightning.types import Json

Keep = Literal["last", "best", "average"]


class Keeping:
    """What a stage remembers of its steps, to end with another state than the last; a checkpoint holds all of it.

    Args:
        keep: Which state the stage ends with.
        steps: Optimiser steps of the stage.
        watch_every: Steps between two scorings; 0 scores nothing.

    Attributes:
        scores: Held-out accuracies of fresh networks, by how many steps were done.

    Example:
        >>> import torch
        >>> keeping = Keeping("best", steps=10, watch_every=4)
        >>> [done for done in range(11) if keeping.due(done)]
        [4, 8, 10]
        >>> for done, accuracy in {4: 0.5, 8: 0.75, 10: 0.7}.items():
        ...     keeping.scored(done, [accuracy], torch.full((2,), float(done)), torch.tensor(0.1))
        >>> keeping.summary()["kept"], keeping.images
        ({'keep': 'best', 'step': 8, 'of': 10, 'accuracy': 0.75}, tensor([8., 8.]))
    """

    def __init__(self, keep: Keep, steps: int, watch_every: int = 0) -> None:
        self.keep, self.steps, self.watch_every = keep, steps, watch_every
        self.scores: dict[int, list[float]] = {}
        self.images: Tensor | None = None
        self.alpha: Tensor | None = None
        self._at = 0  # steps after which the best state was, or states that are averaged

    @property
    def averaged(self) -> int:
        """States of which an average is made: those after the last fifth of the steps."""
        return (self.steps + 4) // 5

    def due(self, done: int) -> bool:
        """Whether the state after so many steps is to be scored, and is not yet."""
        timely = self.watch_every > 0 and done > 0 and (done % self.watch_every == 0 or done == self.steps)
        return timely and done not in self.scores

    def stepped(self, done: int, images: Tensor, alpha: Tensor) -> None:
        """Take in the state after so many steps, where it is one of an average.

        Args:
            done: How many steps.
            images: As they are; not kept but copied.
            alpha: Likewise.
        """
        if self.keep != "average" or done <= self.steps - self.averaged:
            return
        self._at += 1
        if self.images is None or self.alpha is None:
            self.images, self.alpha = images.detach().clone(), alpha.detach().clone()
        else:  # from a checkpoint they come on the CPU
            share = 1 / self._at
            self.images = self.images.to(images.device).lerp(images.detach(), share)
            self.alpha = self.alpha.to(alpha.device).lerp(alpha.detach(), share)

    def scored(self, done: int, accuracies: list[float], images: Tensor, alpha: Tensor) -> None:
        """Note how fresh networks did, and keep the state if none was better; of equals the latest is kept.

        Args:
            done: How many steps were done.
            accuracies: Of each network, fractions.
            images: The state that was scored, which nobody changes.
            alpha: Likewise.
        """
        best = fmean(self.scores[self._at]) if self._at in self.scores else float("-inf")
        self.scores[done] = accuracies
        if self.keep == "best" and fmean(accuracies) >= best:
            self._at, self.images, self.alpha = done, images, alpha

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        kept = {} if self.images is None else {"images": self.images, "alpha": self.alpha}
        return {"scores": self.scores, "at": self._at, **kept}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.scores, self._at = dict(state["scores"]), state["at"]
        self.images, self.alpha = state.get("images"), state.get("alpha")

    def summary(self) -> Json:
        """For the manifest: what was kept and how every scoring went; nothing where there is nothing to tell."""
        found: Json = {}
        if self.scores:
            found["watched"] = [[done, *(round(a, 6) for a in own)] for done, own in sorted(self.scores.items())]
        if self.keep == "best":
            accuracy = round(fmean(self.scores[self._at]), 6)
            found["kept"] = {"keep": self.keep, "step": self._at, "of": self.steps, "accuracy": accuracy}
        if self.keep == "average":
            found["kept"] = {"keep": self.keep, "averaged": self._at, "of": self.steps}
        return found


def kept_line(summary: Mapping[str, object]) -> str | None:
    """Which state a stage ended with; None if it is the last.

    Args:
        summary: Of the stage's manifest.
    """
    kept = summary.get("kept")
    if not isinstance(kept, dict):
        return None
    if kept.get("keep") == "average":
        return f"kept the mean of the last {kept['averaged']} of {kept['of']} steps" if kept["averaged"] > 1 else None
    if kept["step"] == kept["of"]:
        return None
    return f"kept step {kept['step']} of {kept['of']}, the best at {100 * kept['accuracy']:.1f} %"
