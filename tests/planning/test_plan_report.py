"""Durations, sizes and tables for people."""

import pytest
from rich.console import Console

from pdd_lightning.dynamics import StartStates
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.planning.estimate import Amounts, Line
from pdd_lightning.planning.report import identity, plan_table
from pdd_lightning.progress import duration, size
from pdd_lightning.stage.module import StageModule

PLAN = Amounts(
    [Line("stage 1", "distillation", 30.0), Line("evaluation", "pdd progressive, ConvNet", 10.0)],
    {"stage 1": {"host": 2**30, "device": None}},
    {"stage 1": 3 * 2**18, "evaluation": 2**18},
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (99.9, "99.9 s"),
        (99.96, "1 min 40 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (5400, "1 h 30 min"),
        (172_800, "2 d 0 h"),
        (270_000, "3 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**41, "2.0 TiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def shown(used: Amounts | None = None) -> list[str]:
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(plan_table(PLAN, used))
    return [" ".join(line.split()) for line in capture.get().splitlines()]


def test_a_plan_names_every_part() -> None:
    lines = shown()
    assert "stage 1 distillation 30.0 s" in lines
    assert "evaluation pdd progressive, ConvNet 10.0 s" in lines
    assert "all time 40.0 s" in lines
    assert lines.count("peak memory 1.0 GiB") == 2  # of the stage, and of the whole
    assert [line for line in lines if line.startswith("disk")] == ["disk 768.0 KiB", "disk 256.0 KiB", "disk 1.0 MiB"]


def test_use_stands_beside_the_plan() -> None:
    used = Amounts([Line("stage 1", "distillation", 40.0), PLAN.lines[1]], PLAN.memory, {"stage 1": 2**19})
    lines = shown(used)
    assert "stage 1 distillation 30.0 s 40.0 s 0.75" in lines
    assert "all time 40.0 s 50.0 s 0.80" in lines
    assert "disk 1.0 MiB 512.0 KiB 2.00" in lines


def test_an_unfinished_run_has_no_totals() -> None:
    lines = shown(Amounts(PLAN.lines[:1], PLAN.memory, PLAN.disk))
    assert "stage 1 distillation 30.0 s 30.0 s 1.00" in lines
    assert "evaluation pdd progressive, ConvNet 10.0 s - -" in lines
    assert "all time 40.0 s - -" in lines


def test_a_plan_is_of_the_steps_and_rates_of_every_stage() -> None:
    parts = {"network": ConvNet(), "objective": MeanEmbedding(), "dynamics": StartStates(), "stages": 2}

    def of(iterations: int | list[int], image_lr: float | list[float] = 0.5) -> str:
        module = StageModule(**parts, iterations=iterations, image_lr=image_lr, run_dir="new")
        return identity(module, "data", Evaluation())

    assert of(5) == of([5, 5]) == of(5, [0.5, 0.5])
    assert len({of(5), of([5, 6]), of(5, [0.5, 6])}) == 3
