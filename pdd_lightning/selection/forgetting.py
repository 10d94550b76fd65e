"""Forgetting: how often training forgets each real example, the parts of the data that follow, and a selection.

Source: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pdd_lightning.errors import ConfigError
from pdd_lightning.rng import generator
from pdd_lightning.selection.base import Selection, SelectionContext
from pdd_lightning.selection.trained import TrainingOptions, train_on_real
from pdd_lightning.training.recipe import Recipe

NEVER_LEARNED = torch.iinfo(torch.int64).max
"""Count of an example that was never classified correctly: it stands for infinitely many events."""


def count_events(correct: Tensor) -> Tensor:
    """Forgetting events: correct at one presentation and wrong at the next.

    Args:
        correct: Shape (E, N), bool: E presentations of N examples, in order of time.

    Returns:
        Shape (N,), int64; `NEVER_LEARNED` for examples that were wrong every time.
    """
    events = (correct[:-1] & ~correct[1:]).sum(0)
    return events.masked_fill(~correct.any(0), NEVER_LEARNED)


def forgetting_counts(context: SelectionContext, rate: float, recipe: Recipe) -> Tensor:
    """Forgetting events of every real example, from one training that is stored and read again.

    Args:
        context: The images, and what to train with.
        rate: Initial learning rate.
        recipe: Everything else of the training.

    Returns:
        Shape (N,), int64, on the CPU.

    Raises:
        ConfigError: If the training diverges.
        ArtifactError: If the stored training is damaged.
    """
    return count_events(train_on_real(context, rate, recipe).correct)


def equal_edges(counts: Tensor, parts: int) -> list[int]:
    """Edges for :func:`partitions` in equal steps of the count (PDD section 4.2).

    The steps end at the largest count of an example that was learned; those that never were share the last part.

    Args:
        counts: Shape (N,), from :func:`forgetting_counts`.
        parts: Number of parts.

    Returns:
        parts - 1 increasing edges.

    Raises:
        ConfigError: If there are too few different counts for so many parts.
    """
    learned = counts[counts != NEVER_LEARNED]
    span = (int(learned.max()) if len(learned) else 0) + 1
    if not 1 <= parts <= span:
        raise ConfigError(
            f"model.discard: forgetting counts reach from 0 to {span - 1} and make at most {span} equal parts, not "
            f"{parts}; use fewer stages, count during a longer training, or give model.discard.edges and "
            "model.discard.schedule"
        )
    return [-(-span * part // parts) for part in range(1, parts)]


def partitions(counts: Tensor, edges: Sequence[int]) -> list[Tensor]:
    """Divide examples by their counts, from easy to hard: stage k distils from part k (PDD section 4.2).

    Args:
        counts: Shape (N,), from :func:`forgetting_counts`.
        edges: P - 1 increasing counts. Part k holds the counts c with edges[k-1] <= c < edges[k]; the first part
            begins at 0 and the last one has no end.

    Returns:
        P tensors of ascending positions; together they hold every example once.

    Raises:
        ConfigError: If the edges do not increase from above 0, or a part is empty.
    """
    bounds = [0, *edges, None]
    if any(later <= earlier for earlier, later in zip([0, *edges], edges, strict=False)):
        raise ConfigError(
            f"model.discard.edges={list(edges)}: forgetting counts that divide the data must be above 0 and increase"
        )
    part_of = torch.bucketize(counts, torch.tensor(list(edges), dtype=torch.int64), right=True)
    parts = [(part_of == part).nonzero().flatten() for part in range(len(edges) + 1)]
    for number, part in enumerate(parts):
        if not len(part):
            end = bounds[number + 1]
            raise ConfigError(
                f"model.discard.edges={list(edges)}: no example has a forgetting count of at least {bounds[number]}"
                f"{'' if end is None else f' and below {end}'} (part {number + 1}); choose other edges"
            )
    return parts


def require_classes(
    parts: Sequence[Tensor],
    labels: Tensor,
    class_names: Sequence[str],
    ipc: int = 1,
    used: Collection[int] | None = None,
) -> None:
    """Refuse parts that lack a class: nothing could be distilled for it.

    Args:
        parts: From :func:`partitions`.
        labels: Of all examples, shape (N,).
        class_names: In the order of the labels.
        ipc: Images that every class must have in every part.
        used: Numbers of the parts that are distilled from, from 1; null means all.

    Raises:
        ConfigError: Naming the part and the class.
    """
    for number, part in enumerate(parts, start=1):
        if used is not None and number not in used:
            continue
        held = torch.bincount(labels[part.to(labels.device)], minlength=len(class_names)).tolist()
        for name, count in zip(class_names, held, strict=True):
            if count < ipc:
                raise ConfigError(
                    f"model.discard.edges: part {number} of {len(parts)} by forgetting count has {count} examples of "
                    f"class {name!r}, and {ipc} are needed; choose other edges or fewer stages"
                )


@dataclass(frozen=True)
class Forgetting(TrainingOptions, Selection):
    """Takes the examples with most forgetting events; those that were never learned come first.

    Source: Toneva et al., ICLR 2019. Ties, of which there are many, are broken by a random order.

    Example:
        >>> correct = torch.tensor([[True, True], [False, True], [True, True]])  # three epochs, two examples
        >>> most_forgotten(torch.arange(2), count_events(correct), count=1)
        tensor([0])
        >>> Forgetting(epochs=20, learning_rate=0.05).recipe.epochs
        20
    """

    name = "forgetting"

    def choose(self, context: SelectionContext, classes: Sequence[Tensor], ipc: int) -> list[Tensor]:
        """See :meth:`Selection.choose`."""
        counts = forgetting_counts(context, self.learning_rate, self.recipe)
        chosen = []
        for label, positions in enumerate(classes):
            ties = torch.randperm(len(positions), generator=generator(context.problem.seed, "forgetting ties", label))
            chosen.append(most_forgotten(positions[ties], counts, ipc))
        return chosen


def most_forgotten(positions: Tensor, counts: Tensor, count: int) -> Tensor:
    """The positions with the largest counts; of equal ones those that come first.

    Args:
        positions: Shape (N,), int64.
        counts: Of all examples, int64.
        count: How many to take.

    Returns:
        Shape (count,), the most forgotten first.
    """
    return positions[counts[positions].argsort(descending=True, stable=True)[:count]]
