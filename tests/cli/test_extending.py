"""The example with an objective, a dynamics, a data set and a network of the user's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commandline import call

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "extending"
CONFIG = FOLDER / "extending.yaml"
SMALL = ("--model.iterations", "6", "--model.recipe.epochs", "2", "--data.per_class", "9")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line does with the folder that it is called in."""
    monkeypatch.syspath_prepend(str(ROOT))


def fit(run: Path, *args: str) -> None:
    main(["fit", "--config", str(CONFIG), "--run_dir", str(run), *args])


def digests(run: Path) -> list[str]:
    stages = [RunFolder(run).stage(stage) for stage in (1, 2)]
    return [file_digest(path) for stage in stages for path in (stage.synthetic, stage.end_states)]


def test_it_runs_as_it_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(children, "call", call)
    main(["run", "--config", str(CONFIG), "--run_dir", str(run)])
    rows = json.loads((run / "evaluation" / "results.json").read_text())["rows"]
    assert [(row["name"], row["stage"]) for row in rows] == [("random", None), ("pdd", 1), ("pdd", 2), ("full", None)]
    means = {(row["name"], row["stage"]): row["mean"] for row in rows}
    assert means["pdd", 2] > means["pdd", 1] > 1 / 3
    assert means["pdd", 2] > means["random", None]


@pytest.mark.slow
def test_its_classes_are_found_from_the_folder_of_the_call(tmp_path: Path) -> None:
    """In a process of its own, which nobody told where to look."""
    run = tmp_path / "run"
    line = [sys.executable, "-m", "pdd_lightning", "fit", "--config", str(CONFIG), "--run_dir", str(run), *SMALL]
    subprocess.run(line, cwd=ROOT, capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    settings = json.loads(RunFolder(run).stage(1).manifest.read_text())["settings"]
    named = {part: settings[part]["class_path"] for part in ("network", "objective", "dynamics")}
    assert named == {
        "network": "examples.extending.my_network.Perceptron",
        "objective": "examples.extending.my_objective.MomentMatching",
        "dynamics": "examples.extending.my_dynamics.PerturbedStates",
    }


@pytest.mark.parametrize("stage", [1, 2])
def test_interrupted_it_comes_out_the_same(stage: int, tmp_path: Path) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for run in (straight, stopped):
        for number in (1, 2):
            if run == stopped and number == stage:
                fit(run, *SMALL, "--trainer.max_steps", "3", "--checkpoint_every", "2")
                assert not RunFolder(run).stage(number).complete
            fit(run, *SMALL)
    assert digests(stopped) == digests(straight)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("objective.variance_weight", "2", "objective.variance_weight: 1.0 then, 2.0 now"),
        ("dynamics.noise", "0.2", "dynamics.noise: 0.1 then, 0.2 now"),
        ("network.width", "8", "network.width: 64 then, 8 now"),
    ],
)
def test_its_options_are_recorded(
    option: str, value: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "run", *SMALL, "--trainer.max_steps", "2", "--checkpoint_every", "1")
    with pytest.raises(SystemExit):
        fit(tmp_path / "run", *SMALL, f"--model.{option}", value)
    assert words in capsys.readouterr().err


def test_each_part_is_a_short_file_that_the_configuration_names() -> None:
    given = yaml.safe_load(CONFIG.read_text())
    paths = [given["data"]["class_path"], *(given["model"][part]["class_path"] for part in ("network", "objective"))]
    paths.append(given["model"]["dynamics"]["class_path"])
    files = {ROOT.joinpath(*path.split(".")[:-1]).with_suffix(".py") for path in paths}
    assert files == set(FOLDER.glob("*.py"))
    assert all(len(file.read_text().splitlines()) < 60 for file in files)
