"""What the curves of a run say that a person should know, as far as it is more than noise.

A finding needs a difference whose 95 % interval over the networks lies above 0, and which is no less than a point or
than the standard error of an accuracy on so many held-out images. Where a place on a curve is chosen because it is high
or low, chance would make it look so: each half of the networks is compared where the other half chose.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final, TypeVar

from pdd_lightning.evaluation.diagnosis import Curves, PhaseCurves
from pdd_lightning.evaluation.differences import CONFIDENCE, Difference, compared
from pdd_lightning.stage.course import NOTABLE
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.types import Json

LAST: Final = 0.2
"""Part of a phase in whose course a network that is still rising must gain a point."""

FEWEST: Final = 5
"""Measurements in half a phase below which nothing is said of how they jump."""

Place = TypeVar("Place")

_NAMES: Final = {"bank": "bank members", "fresh": "fresh networks"}


@dataclass(frozen=True)
class Finding:
    """Something that a person should know of a phase.

    Attributes:
        stage: Number of the phase.
        networks: "bank" or "fresh".
        kind: "overshoots", "worsens", "dips", "oscillates", "rising" or "ahead".
        difference: That it rests on, in fractions, with its interval.
        text: One sentence.

    Example:
        >>> rise = Difference(0.05, 0.02, 0.08, paired=True)
        >>> Finding(1, "fresh", "rising", rise, "stage 1: fresh networks still rise").to_json()["difference"]
        [0.05, 0.02, 0.08]
    """

    stage: int
    networks: str
    kind: str
    difference: Difference
    text: str

    def to_json(self) -> Json:
        """For programs; the difference as mean and both ends of its interval."""
        difference = [self.difference.mean, self.difference.low, self.difference.high]
        return {"networks": self.networks, "kind": self.kind, "difference": difference, "text": self.text}


def findings(phase: PhaseCurves, options: StageOptions, held_out: int) -> list[Finding]:
    """What is to be said of a phase.

    Args:
        phase: What was measured.
        options: Of the run, for the options that would change it.
        held_out: Images that accuracy was measured on.
    """
    found: list[Finding] = []

    momentum = options.recipe.momentum
    large = "alpha may be too large" + (f" for model.recipe.momentum {momentum:g}" if momentum else "")

    def tell(networks: str, kind: str, difference: Difference, text: str) -> None:
        found.append(Finding(phase.stage, networks, kind, difference, f"stage {phase.stage}: {text}"))

    for networks, curves in phase.named:
        name = _NAMES[networks]
        if (fall := overshoot(curves, held_out)) is not None:
            best, last = curves.best, curves.epochs[-1]
            if best:
                text = (
                    f"{name} reach their best {_percent(curves, best)} at epoch {curves.epochs[best]} of {last} and "
                    f"end at {_percent(curves, -1)}: they overshoot ({_interval(fall)}); fewer model.recipe.epochs or "
                    "an earlier model.recipe.decay_at would end nearer to it"
                )
                tell(networks, "overshoots", fall, text)
            else:
                text = (
                    f"{name} begin at {_percent(curves, 0)} and end at {_percent(curves, -1)}: this phase makes them "
                    f"worse ({_interval(fall)}); look at the images and the alpha of this stage"
                )
                tell(networks, "worsens", fall, text)
        if (dipped := dip(curves, held_out)) is not None:
            (before, low, after), fall = dipped
            text = (
                f"{name} fall from {_percent(curves, before)} at epoch {curves.epochs[before]} to "
                f"{_percent(curves, low)} at epoch {curves.epochs[low]} and are back at {_percent(curves, after)} at "
                f"epoch {curves.epochs[after]} ({_interval(fall)}): {large}"
            )
            tell(networks, "dips", fall, text)
        if (jumps := oscillation(curves, held_out)) is not None:
            half, jump = jumps
            text = (
                f"{name} jump by {100 * jump.mean:.1f} points from one measurement to the next in the {half} half of "
                f"the phase ({_interval(jump)}): they oscillate; {large}"
            )
            tell(networks, "oscillates", jump, text)
        if (rise := rising(curves, held_out)) is not None:
            number, gain = rise
            text = (
                f"{name} still rise when the phase ends: from {_percent(curves, number)} at epoch "
                f"{curves.epochs[number]} to {_percent(curves, -1)} at {curves.epochs[-1]} ({_interval(gain)}); more "
                "model.recipe.epochs would train them further"
            )
            tell(networks, "rising", gain, text)
    if (gap := ahead(phase, held_out)) is not None:
        option, members = options.dynamics.members_option, options.dynamics.members
        which = f"more start states (model.dynamics.{option}, now {members})" if option else "more start states"
        text = (
            f"bank members end {100 * gap.mean:.1f} points ahead of fresh networks ({_interval(gap)}): the images suit "
            f"the start states they were matched with; {which} help"
        )
        tell("bank", "ahead", gap, text)
    return found


def overshoot(curves: Curves, held_out: int) -> Difference | None:
    """How far the best of a phase is above its end, if it is.

    Args:
        curves: Of some networks.
        held_out: Images that accuracy was measured on.
    """
    judged = _where_others_chose(curves, Curves.best_of)
    return _notable([own[best] for own, best in judged], [own[-1] for own, _ in judged], held_out)


def dip(curves: Curves, held_out: int) -> tuple[tuple[int, int, int], Difference] | None:
    """The deepest valley within a phase, if it is one: before, lowest, after; and the lower of its two sides.

    Args:
        curves: Of some networks.
        held_out: Images that accuracy was measured on.
    """
    if (place := _valley(curves.accuracies)) is None:
        return None
    # Where the others have no valley, any place is as good as another: it has no depth.
    judged = _where_others_chose(curves, lambda others: _valley(others) or (0, 0, 0))
    before, low, after = ([own[numbers[part]] for own, numbers in judged] for part in range(3))
    fall, rise = _notable(before, low, held_out), _notable(after, low, held_out)
    return None if fall is None or rise is None else (place, min(fall, rise, key=lambda side: side.mean))


def oscillation(curves: Curves, held_out: int) -> tuple[str, Difference] | None:
    """In which half of a phase accuracy jumps more, and how far, if it is more than luck with the images.

    A jump is the distance of a measurement from the middle between its neighbours, so a steady rise has none.

    Args:
        curves: Of some networks.
        held_out: Images that accuracy was measured on.
    """
    middle = len(curves.epochs) // 2
    halves = {"first": slice(0, middle + 1), "second": slice(middle, None)}
    found: dict[str, list[float]] = {}
    for half, part in halves.items():
        pieces = [own[part] for own in curves.accuracies]
        if len(pieces[0]) >= FEWEST:
            # The median: a single steep place, as where the training begins, is no oscillation.
            found[half] = [median(_jumps(piece)) for piece in pieces]
    if not found:
        return None
    half, jumps = max(found.items(), key=lambda item: fmean(item[1]))
    level = fmean(value for own in curves.accuracies for value in own[halves[half]])
    # Networks that are equally good, and err on images of their own each time, would jump by 0.8 of the error.
    jump = _notable([level + own for own in jumps], [level] * len(jumps), held_out)
    return None if jump is None else (half, jump)


def rising(curves: Curves, held_out: int) -> tuple[int, Difference] | None:
    """Where the last part of a phase begins, and how much is gained in it, if anything is.

    Args:
        curves: Of some networks.
        held_out: Images that accuracy was measured on.
    """
    since = (1 - LAST) * curves.epochs[-1]
    number = max(place for place, epoch in enumerate(curves.epochs) if epoch <= since)
    gain = _notable(curves.at(-1), curves.at(number), held_out)
    return None if gain is None else (number, gain)


def ahead(phase: PhaseCurves, held_out: int) -> Difference | None:
    """How far the bank ends above fresh networks, if it does: these do not come in pairs.

    Args:
        phase: What was measured.
        held_out: Images that accuracy was measured on.
    """
    return _notable(phase.bank.at(-1), phase.fresh.at(-1), held_out, paired=False)


def _notable(
    above: Sequence[float], below: Sequence[float], held_out: int, *, paired: bool = True
) -> Difference | None:
    """How far some accuracies are above others, if that is worth telling."""
    if (found := compared(above, below, paired=paired)) is None or found.low <= 0:
        return None
    level = fmean([*above, *below])
    error = math.sqrt(max(0.0, level * (1 - level)) / held_out)
    return found if found.mean >= max(NOTABLE, error) else None


def _where_others_chose(
    curves: Curves, choose: Callable[[Sequence[Sequence[float]]], Place]
) -> list[tuple[Sequence[float], Place]]:
    """Each network's accuracies with the place that the other half of the networks chose."""
    halves = curves.accuracies[::2], curves.accuracies[1::2]
    if not halves[1]:
        return []
    return [(own, place) for half, others in (halves, halves[::-1]) for place in (choose(others),) for own in half]


def _valley(accuracies: Sequence[Sequence[float]]) -> tuple[int, int, int] | None:
    """Before, lowest and after of the deepest valley of the mean; None if it nowhere falls and rises again."""
    means = [fmean(values) for values in zip(*accuracies, strict=True)]
    deepest, found = 0.0, None
    for low in range(1, len(means) - 1):
        before = max(range(low), key=means.__getitem__)
        after = max(range(low + 1, len(means)), key=means.__getitem__)
        if (depth := min(means[before], means[after]) - means[low]) > deepest:
            deepest, found = depth, (before, low, after)
    return found


def _jumps(values: Sequence[float]) -> list[float]:
    return [abs(here - (left + right) / 2) for left, here, right in zip(values, values[1:], values[2:], strict=False)]


def _percent(curves: Curves, number: int) -> str:
    return f"{100 * curves.mean(number):.1f} %"


def _interval(found: Difference) -> str:
    return f"{100 * CONFIDENCE:.0f} % interval {100 * found.low:.1f} to {100 * found.high:.1f} points"
