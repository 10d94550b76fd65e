"""A baseline of one stage is fitted under what the evaluation expects of it."""

from pathlib import Path

import pytest
from commandline import CONFIG

from pdd_lightning.cli.application import application
from pdd_lightning.dynamics import StartStates
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import MeanEmbedding
from pdd_lightning.stage.one_stage import header, one_stage_arguments, one_stage_options, title
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import ONE_STAGES

DISCARD = ("--model.discard.epochs", "6", "--model.discard.learning_rate", "0.05", "--model.discard.edges", "[1]")


EACH = ("--model.iterations", "[5,8]", "--model.image_lr", "[1e-05,0.3]")


@pytest.mark.parametrize(("baseline", "plain", "each"), [("one-stage", 24, 13), ("one-stage-short", 12, 8)])
@pytest.mark.parametrize(
    "more", [(), ("--model.ipc", "[2,1]"), EACH, DISCARD], ids=["plain", "ipc", "iterations", "discard"]
)
def test_its_arguments_give_what_is_expected(
    more: tuple[str, ...], baseline: str, plain: int, each: int, tmp_path: Path
) -> None:
    args = ["--config", str(CONFIG), "--run_dir", str(tmp_path / "run"), *more]
    with application("fit", args) as run:
        options = run.model.options
        with application("fit", [*args, *one_stage_arguments(options, baseline)]) as fitted:
            found, wanted = fitted.model.options, one_stage_options(options, baseline)
            assert (found.stages, found.per_stage) == (1, [sum(options.per_stage)])
            assert found.iterations == (each if more == EACH else plain)
            assert found.image_lr == (1e-5 if more == EACH else 0.05)  # that of stage 1
            assert found.run == wanted.run
            assert found.run.directory == tmp_path / "run" / baseline.replace("-", "_")
            assert found.experts_folder == wanted.experts_folder == tmp_path / "run" / "experts"
            assert found.settings(1) == wanted.settings(1)
            assert found.settings(1)["discard"] is None


@pytest.mark.parametrize("baseline", ONE_STAGES)
@pytest.mark.parametrize("stages", range(3))
def test_it_is_told_by_the_run_around_it(stages: int, baseline: str, tmp_path: Path) -> None:
    """Not by the name of its folder, which may be that of anybody's run of one stage."""
    around = RunFolder(tmp_path / "run")
    for stage in range(1, stages + 1):
        around.stage(stage).finish({}, "", None, {})
    options = StageOptions(ConvNet(), MeanEmbedding(), StartStates(), stages=2, run_dir=str(around.directory))
    alone = one_stage_options(options, baseline)
    found = [(title(each, 1), header(each)) for each in (options, alone)]
    assert found[0] == ("stage 1", None)
    assert found[1] == ((f"the {baseline} baseline", "one stage") if stages else ("stage 1", None))
