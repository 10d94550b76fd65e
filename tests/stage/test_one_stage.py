"""The baseline of one stage is fitted under what the evaluation expects of it."""

from pathlib import Path

import pytest
from commandline import CONFIG

from pdd_lightning.cli.application import application
from pdd_lightning.stage.one_stage import OneStage

DISCARD = ("--model.discard.epochs", "6", "--model.discard.learning_rate", "0.05", "--model.discard.edges", "[1]")


@pytest.mark.parametrize("more", [(), ("--model.ipc", "[2,1]"), DISCARD], ids=["plain", "ipc", "discard"])
def test_its_arguments_give_what_is_expected(more: tuple[str, ...], tmp_path: Path) -> None:
    args = ["--config", str(CONFIG), "--run_dir", str(tmp_path / "run"), *more]
    with application("fit", args) as run:
        baseline = OneStage.of(run.model)
        with application("fit", [*args, *baseline.arguments()]) as fitted:
            module = fitted.model
            assert (module.stages, module.ipc) == (1, sum(run.model.per_stage))
            assert module.iterations == 2 * run.model.iterations
            assert module.run == baseline.run
            assert module.experts_dir == run.model.experts_dir == tmp_path / "run" / "experts"
            assert module.settings() == baseline.settings(run.model)
            assert module.settings()["discard"] is None
