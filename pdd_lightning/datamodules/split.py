"""Holding out part of a labelled set, class by class."""

import torch
from torch import Tensor

from pdd_lightning.rng import generator


def stratified_split(labels: Tensor, fraction: float, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Hold out a fraction of every class.

    Each class has a stream of its own, so its split does not depend on the other classes.

    Args:
        labels: Shape (N,), int64.
        fraction: Part of each class to hold out, in [0, 1), rounded to whole examples.
        seed: Decides which examples.
        purpose: What the held-out part is for; two purposes draw independently.

    Returns:
        Positions kept and positions held out, both ascending. Every class keeps at least one.
    """
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.bincount().nonzero().flatten().tolist():
        members = (labels == label).nonzero().flatten()
        count = min(round(fraction * len(members)), len(members) - 1)
        order = torch.randperm(len(members), generator=generator(seed, "split", purpose, label))
        held[members[order[:count]]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def at_most(labels: Tensor, positions: Tensor, count: int, seed: int) -> Tensor:
    """Keep a limited number of examples of every class.

    Args:
        labels: Of all examples, shape (N,), int64.
        positions: Those to choose from.
        count: How many of each class at most.
        seed: Decides which.

    Returns:
        Ascending positions.
    """
    chosen = []
    for label in labels[positions].bincount().nonzero().flatten().tolist():
        members = positions[labels[positions] == label]
        order = torch.randperm(len(members), generator=generator(seed, "at most", label))
        chosen.append(members[order[:count]])
    return torch.cat(chosen).sort().values
