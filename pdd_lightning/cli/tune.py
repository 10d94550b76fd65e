"""`pdd-cli tune`: a few rates of the images, tried for a few steps of the first stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from tempfile import TemporaryDirectory
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pdd_lightning.cli import children
from pdd_lightning.cli.application import application
from pdd_lightning.cli.plain_parser import PlainParser
from pdd_lightning.errors import ConfigError
from pdd_lightning.process.signals import RESUME
from pdd_lightning.store.folders import RunFolder

FACTOR = 3
"""Between neighbouring rates: a stage hardly tells closer ones apart."""


@dataclass(frozen=True)
class Trial:
    """How a rate did; all but the rate is unknown where the stage failed.

    Attributes:
        rate: Learning rate of the images.
        loss: Matching loss of the last steps.
        accuracies: On held-out images, of networks that the stage never matched, or else of those of the transition.
        outside: Share of pixels that no picture can hold.
    """

    rate: float
    loss: float | None = None
    accuracies: Sequence[float] = ()
    outside: float | None = None

    @property
    def better(self) -> tuple[float, float]:
        """The larger, the better: by accuracy, then by loss, which is all there is without a transition."""
        accuracy = fmean(self.accuracies) if self.accuracies else -1.0
        return accuracy, float("-inf") if self.loss is None else -self.loss


def main(args: Sequence[str]) -> int:
    """Fit the first stage, shortened, with each rate, and name the best one.

    The experts are kept where the run looks for them, and the rest is thrown away.

    Args:
        args: The options of `pdd-cli fit`, ``--rates`` and ``--steps``.

    Returns:
        Exit status: 0, or that of the stage if all failed.

    Raises:
        ConfigError: If an option is wrong.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> few = ["--steps=1", "--model.recipe.epochs=1", "--rates", "0.1", "0.3"]
        >>> with TemporaryDirectory() as run:
        ...     main(["--config=configs/smoke/stage.yaml", f"--run_dir={run}", *few])
        After 1 steps
        ...
        best by held-out accuracy: --model.image_lr 0...
        0
    """
    made = parser()
    options, rest = made.parse_known_args(args)
    if options.steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {options.steps}")
    with application("fit", [*rest, "--stage=1"]) as app:
        chosen, experts = app.model.options, app.model.options.experts_folder
    now, *later = chosen.rates_per_stage
    rates = options.rates or [float(f"{now * FACTOR**power:.3g}") for power in (-1, 0, 1)]
    steps = min(options.steps, chosen.steps_per_stage[0])
    same = ["--stage=1", f"--experts_dir={experts}", f"--model.iterations={steps}"]
    trials, code = list[Trial](), 0
    with TemporaryDirectory(prefix="pdd-tune-") as aside:
        for number, rate in enumerate(rates):
            run = Path(aside) / str(number)
            code = children.call("fit", [*rest, *same, f"--run_dir={run}", f"--model.image_lr={rate}"])
            if code == RESUME:
                return code
            trials.append(Trial(rate) if code else _read(rate, run))
    if all(trial.loss is None for trial in trials):
        return code
    _show(trials, now, later if isinstance(chosen.image_lr, list) else [], steps)
    return 0


def parser() -> PlainParser:
    """Its own options; the others are those of `fit`."""
    made = PlainParser("tune", usage="pdd-cli tune --config FILE [--rates RATE ...] [--steps N] [--OPTION VALUE ...]")
    made.add_argument("--rates", type=float, nargs="+", metavar="RATE", help="Rates to try.")
    made.add_argument("--steps", type=int, default=40, metavar="N", help="Optimiser steps of each trial.")
    return made


def _read(rate: float, run: Path) -> Trial:
    summary: dict[str, Any] = dict(RunFolder(run).stage(1).read_manifest().summary)
    accuracies = summary.get("fresh_accuracies") or summary["validation_accuracies"]
    return Trial(rate, summary["course"]["loss"][1], accuracies, summary["pixels_outside"])


def _show(trials: Sequence[Trial], now: float, later: Sequence[float], steps: int) -> None:
    """The table, and the option to give, with the rates of later stages where these have their own."""
    table = Table(
        "image_lr", "held-out accuracy %", "matching loss", "pixels outside %", title=f"After {steps} steps", box=SIMPLE
    )
    for trial in trials:
        found = trial.accuracies
        accuracy = f"{100 * fmean(found):.1f} ± {100 * pstdev(found):.1f}" if found else "-"
        loss = "failed" if trial.loss is None else f"{trial.loss:.3g}"
        outside = "-" if trial.outside is None else f"{100 * trial.outside:.1f}"
        table.add_row(f"{trial.rate:g}", accuracy, loss, outside)
    Console().print(table)
    best = max(trials, key=lambda trial: trial.better)
    how = "held-out accuracy" if best.accuracies else "matching loss"
    kept = ", as it is" if best.rate == now else ""
    given = ",".join([f"{best.rate:g}", *map(str, later)])
    print(f"best by {how}: --model.image_lr {f'[{given}]' if later else given}{kept}")
    if best.rate in (min(t.rate for t in trials), max(t.rate for t in trials)) and len(trials) > 1:
        print(f"it is at the end of those that were tried: --rates {best.rate:g} and beyond may be better still")
    print("one seed and few steps: differences within the spread are chance")
