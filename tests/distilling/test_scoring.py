"""Evaluating from Python."""

import json
import shutil
from pathlib import Path

import pytest

import pdd_lightning as pdd
from distilling.small import QUIET, small
from pdd_lightning.cli.main import main
from pdd_lightning.distilling.recorded import recorded_options
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.evaluation.row import Baseline
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import ONE_STAGES

FEW = ("--evaluation.seeds=2", "--evaluation.random_rates=[0.05]", "--evaluation.full.epochs=1")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def test_rows_are_those_of_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    rows = pdd.evaluate(run, trainer=QUIET, seeds=2, random_rates=[0.05], full=pdd.Recipe(epochs=1))
    main(["evaluate", "--run_dir", str(other), *FEW])
    assert [(row.name, row.stage) for row in rows] == [("random", None), ("pdd", 1), ("pdd", 2), ("full", None)]
    files = [json.loads((each / "evaluation" / "results.json").read_text()) for each in (run, other)]
    assert files[0] == files[1]
    printed = capsys.readouterr().out
    assert all(f"{100 * row.mean:.1f}" in str(rows) and f"{100 * row.mean:.1f}" in printed for row in rows)


def test_known_rows_are_not_trained_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pdd.evaluate(run, trainer=QUIET, seeds=2, baselines=[])
    monkeypatch.setattr("pdd_lightning.evaluation.evaluator.EvaluationModule", None)
    again = pdd.evaluate(run, trainer=QUIET, seeds=2, baselines=[])
    assert [row.accuracies for row in again] == [row.accuracies for row in first]


@pytest.mark.parametrize("baseline", ONE_STAGES)
def test_a_baseline_of_one_stage_is_distilled_where_it_is_missing(baseline: Baseline, run: Path) -> None:
    rows = pdd.evaluate(run, trainer=QUIET, seeds=1, baselines=[baseline])
    assert [(row.name, row.images_per_class) for row in rows] == [(baseline, 2.0), ("pdd", 1.0), ("pdd", 2.0)]
    main(["evaluate", "--run_dir", str(run), "--evaluation.seeds=1", f"--evaluation.baselines=[{baseline}]"])


def test_stages_of_their_own_lengths_and_rates(tmp_path: Path) -> None:
    run = tmp_path / "run"
    pdd.distil(run_dir=run, **small(iterations=[2, 3], image_lr=[0.05, 0.02], ipc=[1, 1]))
    options = recorded_options(RunFolder(run))
    assert (options.iterations, options.image_lr) == ([2, 3], [0.05, 0.02])
    pdd.evaluate(run, trainer=QUIET, seeds=1, baselines=["one-stage", "one-stage-short"])
    for baseline, iterations in {"one-stage": 5, "one-stage-short": 3}.items():
        settings = RunFolder(run).one_stage(baseline).stage(1).read_manifest().settings
        assert (settings["iterations"], settings["image_lr"]) == (iterations, 0.05)
    both = "--evaluation.baselines=[one-stage,one-stage-short]"
    main(["evaluate", "--run_dir", str(run), "--evaluation.seeds=1", both])


def test_one_number_is_read_back_as_one(run: Path) -> None:
    options = recorded_options(RunFolder(run))
    assert (options.iterations, options.image_lr) == (12, 0.05)


def test_a_recipe_of_the_evaluation_is_kept(run: Path) -> None:
    pdd.evaluate(run, trainer=QUIET, seeds=1, baselines=[], recipe=pdd.Recipe(epochs=5))
    assert pdd.load(run).about.recipe == pdd.Recipe(epochs=5)
    # Which is the one of later calls, unless they give another.
    assert pdd.evaluate(run, trainer=QUIET, seeds=1, baselines=[])[0].steps == 5


def test_a_notebook_shows_a_table(run: Path) -> None:
    rows = pdd.evaluate(run, trainer=QUIET, seeds=1, baselines=[])
    assert rows._repr_markdown_().startswith("| set | order |")
    assert str(pdd.Results()) == "no results"


def test_mistakes_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"baselines=.*give a list, of random"):
        pdd.evaluate(run, baselines=["rnadom"])
    with pytest.raises(ConfigError, match="orders='union': give a list"):
        pdd.evaluate(run, orders="union")
    with pytest.raises(ConfigError, match="seed: an evaluation has no such option, did you mean seeds"):
        pdd.evaluate(run, seed=5)
    with pytest.raises(ArtifactError, match="holds no complete stage"):
        pdd.evaluate(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert not (run / "evaluation").exists()


def test_data_that_are_not_on_disk_are_asked_for(tmp_path: Path) -> None:
    raw = pdd.DigitsData().load_raw()
    tensors = (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels)
    pdd.distil(run_dir=tmp_path, **small(data=tensors, stages=1))
    with pytest.raises(ArtifactError, match=r"give the data, as in evaluate\(run, data=...\)"):
        pdd.evaluate(tmp_path)
    rows = pdd.evaluate(tmp_path, tensors, trainer=QUIET, seeds=1, baselines=[])
    assert [row.name for row in rows] == ["distilled"]
    with pytest.raises(ArtifactError, match="made from other data"):
        pdd.evaluate(tmp_path, tensors[:2], seeds=1, baselines=[])
