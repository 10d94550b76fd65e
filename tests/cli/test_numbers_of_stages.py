"""Steps and image rates of each stage through the command line."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from commandline import CONFIG, Fit, Refused

from pdd_lightning.cli.main import main
from pdd_lightning.evaluation.results import read_results
from pdd_lightning.store.folders import RunFolder

EACH = ("--model.iterations", "[3,5]", "--model.image_lr", "[0.05,0.02]")


def settings(run: Path, stage: int) -> tuple[Any, Any]:
    found = RunFolder(run).stage(stage).read_manifest().settings
    return found["iterations"], found["image_lr"]


def test_a_list_of_one_number_gives_the_same_images(two_stages: Path, run: Path, fit: Fit) -> None:
    for _ in range(2):
        fit("--model.iterations", "[12,12]", "--model.image_lr", "[0.05,0.05]")
    for stage in (1, 2):
        mine, theirs = (RunFolder(each).stage(stage) for each in (run, two_stages))
        assert mine.synthetic.read_bytes() == theirs.synthetic.read_bytes()
        assert mine.read_manifest().settings == theirs.read_manifest().settings


def test_a_run_goes_on_where_stages_differ(
    run: Path, fit: Fit, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(*EACH)
    assert settings(run, 1) == (3, 0.05)
    # What stage 1 was made with is fixed; the number of a stage that has not begun is not.
    assert "model.iterations: 3 then, 4 now" in refused("--model.iterations", "[4,5]", *EACH[2:])
    fit("--model.iterations", "[3,6]", "--model.image_lr", "[0.05,0.03]", "--trainer.max_steps", "4")
    assert "stage 2 stopped at step 4 of 6" in capsys.readouterr().err
    # A checkpoint fixes it too.
    assert "model.image_lr: 0.03 then, 0.02 now" in refused("--model.iterations", "[3,6]", *EACH[2:])
    fit("--model.iterations", "[3,6]", "--model.image_lr", "[0.05,0.03]")
    assert settings(run, 2) == (6, 0.03)
    course: Any = json.loads(RunFolder(run).stage(2).manifest.read_bytes())["summary"]["course"]
    assert course["steps"] == 3  # the mean of half of the steps: six are known


def test_a_number_becomes_a_list_under_a_finished_stage(first_stage: Path, run: Path, fit: Fit) -> None:
    shutil.copytree(first_stage, run)
    fit("--model.iterations", "[12,2]", "--model.image_lr", "[0.05,0.1]")
    assert [settings(run, stage) for stage in (1, 2)] == [(12, 0.05), (2, 0.1)]


def test_a_whole_run_with_its_baselines(run: Path) -> None:
    both = ("--evaluation.baselines", "[one-stage,one-stage-short]", "--evaluation.seeds", "2")
    main(["run", "--config", str(CONFIG), "--run_dir", str(run), *EACH, *both])
    assert [settings(run, stage) for stage in (1, 2)] == [(3, 0.05), (5, 0.02)]
    assert settings(run / "one_stage", 1) == (8, 0.05)
    assert settings(run / "one_stage_short", 1) == (5, 0.05)  # as the longest stage
    assert all(RunFolder(run / name).stage(1).pictures.is_file() for name in ("one_stage", "one_stage_short"))
    rows = read_results(run / "evaluation" / "results.json")
    assert [(row.name, row.stage) for row in rows] == [
        ("one-stage", None),
        ("one-stage-short", None),
        ("pdd", 1),
        ("pdd", 2),
    ]
    page = (run / "evaluation" / "results.md").read_text()
    assert all(
        re.search(rf"^pdd \(progressive\) is .* {name}: ", page, re.M) for name in ("one-stage", "one-stage-short")
    )
