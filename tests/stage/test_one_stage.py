"""The baseline of one stage is fitted under what the evaluation expects of it."""

from pathlib import Path

import pytest
from commandline import CONFIG

from pdd_lightning.cli.application import application
from pdd_lightning.stage.one_stage import header, one_stage_arguments, one_stage_options

DISCARD = ("--model.discard.epochs", "6", "--model.discard.learning_rate", "0.05", "--model.discard.edges", "[1]")


@pytest.mark.parametrize("more", [(), ("--model.ipc", "[2,1]"), DISCARD], ids=["plain", "ipc", "discard"])
def test_its_arguments_give_what_is_expected(more: tuple[str, ...], tmp_path: Path) -> None:
    args = ["--config", str(CONFIG), "--run_dir", str(tmp_path / "run"), *more]
    with application("fit", args) as run:
        options = run.model.options
        with application("fit", [*args, *one_stage_arguments(options)]) as fitted:
            found, wanted = fitted.model.options, one_stage_options(options)
            assert (found.stages, found.per_stage) == (1, [sum(options.per_stage)])
            assert found.iterations == 2 * options.iterations
            assert found.run == wanted.run
            assert found.run.directory == tmp_path / "run" / "one_stage"
            assert found.experts_folder == wanted.experts_folder == tmp_path / "run" / "experts"
            assert found.settings(1) == wanted.settings(1)
            assert found.settings(1)["discard"] is None
            assert (header(options), header(found)) == (None, "one stage")
