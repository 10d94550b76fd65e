"""What curves are said to show, and what is left to chance."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from pdd_lightning.dynamics import StartStates, SyntheticTraining
from pdd_lightning.evaluation.diagnosis import Curves, PhaseCurves, measurements
from pdd_lightning.evaluation.diagnosis_report import diagnosis_lines
from pdd_lightning.evaluation.findings import Finding, dip, findings, overshoot, rising
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.rng import generator
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.training import Recipe

POINTS, NETWORKS, HELD_OUT = 50, 10, 10_000
OPTIONS = StageOptions(ConvNet(), MeanEmbedding(), StartStates(20), stages=2)


def curves(shape: Callable[[float], float], noise: float = 0.005, seed: int = 0, networks: int = NETWORKS) -> Curves:
    """Accuracy along a phase of 100 epochs by its progress from 0 to 1; networks differ, and each jitters."""
    draw = generator(seed, "curves")
    level = 0.01 * torch.randn(networks, 1, generator=draw)
    jitter = noise * torch.randn(networks, POINTS + 1, generator=draw)
    values = torch.tensor([shape(point / POINTS) for point in range(POINTS + 1)]) + level + jitter
    return Curves(tuple(measurements(100, POINTS)), tuple(tuple(own) for own in values.tolist()))


def told(
    bank: Curves, fresh: Curves | None = None, held_out: int = HELD_OUT, options: StageOptions = OPTIONS
) -> list[Finding]:
    return findings(PhaseCurves(2, bank, bank if fresh is None else fresh), options, held_out)


def kinds(found: Sequence[Finding], networks: str = "fresh") -> list[str]:
    return [finding.kind for finding in found if finding.networks == networks]


def settling(progress: float) -> float:
    return 0.6 - 0.4 * math.exp(-12 * progress)


def overshooting(progress: float) -> float:
    return settling(progress) - 0.05 * max(0.0, progress - 0.4)


def worsening(progress: float) -> float:
    return 0.6 - 0.03 * (1 - math.exp(-8 * progress))


def dipping(progress: float) -> float:
    return 0.6 - 0.05 * math.exp(-(((progress - 0.3) / 0.1) ** 2))


def still_rising(progress: float) -> float:
    return 0.3 + 0.2 * progress


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        (settling, []),
        (lambda progress: 0.6, []),
        (overshooting, ["overshoots"]),
        (worsening, ["worsens"]),
        (dipping, ["dips"]),
        (still_rising, ["rising"]),
    ],
)
def test_shapes_are_known(shape: Callable[[float], float], found: list[str]) -> None:
    assert kinds(told(curves(shape))) == found


def test_jitter_is_an_oscillation_once_it_is_large() -> None:
    assert kinds(told(curves(settling, noise=0.03))) == ["oscillates"]
    assert kinds(told(curves(settling, noise=0.005))) == []


def test_the_highest_of_many_noisy_values_is_no_overshoot() -> None:
    flat = [curves(lambda progress: 0.5, noise=0.03, seed=seed) for seed in range(500)]
    seeming = [own.mean(own.best) - own.mean(-1) > 0.01 for own in flat]
    assert sum(seeming) > 250
    for criterion in (overshoot, dip, rising):  # of a 95 % interval, one side
        assert sum(criterion(own, HELD_OUT) is not None for own in flat) <= 0.05 * len(flat)


def test_few_held_out_images_leave_more_to_chance() -> None:
    shallow = curves(lambda progress: settling(progress) - 0.03 * max(0.0, progress - 0.4))
    assert kinds(told(shallow)) == ["overshoots"]
    assert kinds(told(shallow, held_out=143)) == []  # where the error is 4 points


def test_a_sentence_says_where_and_what_to_do() -> None:
    steady = Curves(
        (0, 50, 100), ((0.2, 0.312, 0.289), (0.22, 0.332, 0.309), (0.18, 0.292, 0.269), (0.2, 0.312, 0.289))
    )
    (finding,) = [finding for finding in told(steady) if finding.networks == "fresh"]
    assert finding.text == (
        "stage 2: fresh networks reach their best 31.2 % at epoch 50 of 100 and end at 28.9 %: they overshoot (95 % "
        "interval 2.3 to 2.3 points); fewer model.recipe.epochs or an earlier model.recipe.decay_at would end nearer "
        "to it"
    )
    assert finding.to_json()["difference"] == pytest.approx([0.023] * 3)


def test_a_bank_ahead_names_the_option_of_its_dynamics() -> None:
    ahead, level = curves(lambda progress: settling(progress) + 0.05), curves(settling, seed=1)
    (finding,) = told(ahead, level)
    assert (finding.kind, finding.networks) == ("ahead", "bank")
    assert "points ahead of fresh networks (95 % interval " in finding.text
    assert finding.text.endswith("more start states (model.dynamics.start_states, now 20) help")
    assert not finding.difference.paired  # networks of different beginnings
    assert told(level, ahead) == []
    assert told(curves(settling), curves(settling, seed=1)) == []


@pytest.mark.parametrize(("momentum", "words"), [(0.9, "large for model.recipe.momentum 0.9"), (0.0, "too large")])
def test_momentum_is_named_where_there_is_one(momentum: float, words: str) -> None:
    options = StageOptions(ConvNet(), MeanEmbedding(), SyntheticTraining(), recipe=Recipe(momentum=momentum))
    assert told(curves(dipping), options=options)[0].text.endswith(words)


def test_one_network_says_nothing() -> None:
    found = told(curves(overshooting, networks=1), curves(settling))
    assert found == []


def test_two_measurements_are_enough() -> None:
    first = Curves((0, 1), ((0.1, 0.5), (0.12, 0.55), (0.1, 0.52)))
    assert kinds(told(first)) == ["rising"]


def lines(found: Sequence[Finding], phase: PhaseCurves, **changes: Any) -> list[str]:
    return diagnosis_lines([phase], found, StageOptions(ConvNet(), MeanEmbedding(), StartStates(20), **changes))


def test_what_both_show_is_said_once() -> None:
    both = PhaseCurves(1, curves(still_rising), curves(still_rising, seed=1))
    (line,) = lines(findings(both, OPTIONS, HELD_OUT), both, stages=1)
    assert line.startswith("stage 1: fresh networks still rise")
    assert line.endswith("; so it is with bank members")


def test_lines_say_what_there_is_not() -> None:
    quiet = PhaseCurves(1, curves(settling), curves(settling, seed=1))
    assert lines([], quiet, stages=1) == ["nothing found"]
    assert lines([], quiet, stages=3)[1:] == ["1 of 3 stages are complete, and these alone are shown"]
    alone = PhaseCurves(1, curves(settling, networks=1), curves(settling))
    assert "the bank is a single network" in lines([], alone, stages=1)[1]
