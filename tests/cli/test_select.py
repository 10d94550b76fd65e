"""`pdd-cli select`, and the rows of selected images in an evaluation."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commandline import CONFIG, fit_into

from pdd_lightning.cli.main import main
from pdd_lightning.datamodules import DigitsData
from pdd_lightning.evaluation.protocol import TRIALS
from pdd_lightning.evaluation.results import read_results
from pdd_lightning.stage.subsets import read_run
from pdd_lightning.store.digests import file_digest
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.training.learner import Learner

FEW = ("--select.method.epochs", "2", "--select.ipc", "3")


def do(command: str, run: Path, *args: str) -> None:
    main([command, "--config", str(CONFIG), "--run_dir", str(run), *args])


def refused(capsys: pytest.CaptureFixture[str], command: str, run: Path, *args: str) -> str:
    """The one line that a mistake gives."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        do(command, run, *args)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pdd-cli: error: ")
    assert not any(word in line for word in ("Traceback", "Namespace(", "<class '"))
    return line


@pytest.fixture(scope="module")
def data() -> DigitsData:
    data = DigitsData()
    data.setup()
    return data


@pytest.fixture(scope="module")
def herding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of selected images; copy it before changing it."""
    run = tmp_path_factory.mktemp("select") / "run"
    do("select", run, "--select.method", "Herding", *FEW, "--evaluation.random_rates", "[0.01, 0.1]")
    return run


def test_the_result_is_a_finished_run(herding: Path, data: DigitsData) -> None:
    folder = RunFolder(herding)
    (subset,) = read_run(folder)
    assert subset.data.labels.tolist() == [label for label in range(10) for _ in range(3)]
    assert subset.rate in (pytest.approx(0.01), pytest.approx(0.1))
    for image, label in zip(subset.data.images, subset.data.labels, strict=True):
        real = data.train.images[data.train.labels == label]
        assert bool((real == image).flatten(1).all(1).any())
    stage = folder.stage(1)
    manifest = stage.read_manifest()
    assert manifest.data == data.fingerprint
    select: Any = manifest.settings["select"]
    assert select["method"]["class_path"] == "pdd_lightning.selection.Herding"
    assert folder.preprocessing.is_file()
    assert stage.pictures.is_file()
    config = yaml.safe_load(stage.config.read_text())
    assert config["select"]["ipc"] == 3
    assert config["select"]["method"]["init_args"]["epochs"] == 2
    assert not [path for path in herding.rglob("*") if path.name.endswith(".tmp")]


def test_the_rate_is_the_best_on_held_out_images(herding: Path) -> None:
    (path,) = (herding / "evaluation" / "rows").iterdir()
    kept = json.loads(path.read_text())
    assert kept["job"]["name"] == "herding-tuning"
    rates, accuracies = kept["job"]["phases"][0]["rates"], kept["accuracies"][-1]
    assert rates == [0.01] * TRIALS + [0.1] * TRIALS
    best = 0.01 if sum(accuracies[:TRIALS]) >= sum(accuracies[TRIALS:]) else 0.1
    assert read_run(RunFolder(herding))[0].rate == pytest.approx(best)


@pytest.mark.parametrize("stages", [(), ("--model.stages", "1")])
def test_evaluate_takes_it(
    stages: tuple[str, ...], herding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(herding, run)
    do("evaluate", run, "--evaluation.baselines", "[random, herding]", *stages)
    rows = read_results(run / "evaluation" / "results.json")
    assert [(row.name, row.order, row.stage, row.images_per_class) for row in rows] == [
        ("random", "union", None, 3),
        ("herding", "progressive", 1, 3),
    ]
    assert rows[0].steps == rows[1].steps
    assert str(run / "stage_01" / "synthetic.png") in "".join(capsys.readouterr().err.split())


def test_again_it_has_nothing_to_do(
    herding: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in herding.rglob("*")}
    monkeypatch.setattr(Learner, "train", None)
    do("select", herding, "--select.method", "Herding", *FEW, "--evaluation.random_rates", "[0.01, 0.1]")
    assert capsys.readouterr().err.strip().endswith("nothing to do")
    assert {path: path.stat().st_mtime_ns for path in herding.rglob("*")} == before


def test_a_kept_configuration_gives_the_same_images(herding: Path, tmp_path: Path) -> None:
    config = herding / "stage_01" / "config.yaml"
    main(["select", "--config", str(config), "--run_dir", str(tmp_path / "run")])
    assert file_digest(RunFolder(tmp_path / "run").stage(1).synthetic) == file_digest(
        RunFolder(herding).stage(1).synthetic
    )


@pytest.mark.parametrize("method", ["RandomSelection", "KCenter", "Forgetting"])
def test_every_method_runs(method: str, tmp_path: Path) -> None:
    epochs = () if method == "RandomSelection" else ("--select.method.epochs", "1")
    do("select", tmp_path / "run", "--select.method", method, *epochs)
    (subset,) = read_run(RunFolder(tmp_path / "run"))
    # As many as both stages of the distillation.
    assert torch.bincount(subset.data.labels).tolist() == [2] * 10


def test_rows_beside_a_distilled_set(two_stages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_stages, run)
    args = ("--evaluation.baselines", "[forgetting, random, herding, k-center]")
    more = ("--evaluation.seeds", "2", "--evaluation.random_rates", "[0.01, 0.1]")
    do("evaluate", run, *args, *more)
    rows = read_results(run / "evaluation" / "results.json")
    assert [row.name for row in rows] == ["random", "herding", "k-center", "forgetting", "pdd", "pdd"]
    *baselines, _, pdd = rows
    assert {row.images_per_class for row in baselines} == {2}
    assert {row.stored_bytes for row in baselines} == {pdd.stored_bytes}
    assert {row.steps for row in baselines} == {pdd.steps}
    assert all(len(row.accuracies) == 2 and row.learning_rate[0] in (0.01, 0.1) for row in baselines)
    tuned = {path.name.partition("-union")[0] for path in (run / "evaluation" / "rows").glob("*-tuning-*")}
    assert tuned == {"random-tuning", "herding-tuning", "k-center-tuning", "forgetting-tuning"}
    # One training on the real data for all of them, and none when asked again.
    assert len(list((run / "forgetting").iterdir())) == 1
    monkeypatch.setattr(Learner, "train", None)
    do("evaluate", run, *args, *more)
    assert read_results(run / "evaluation" / "results.json") == rows


MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown method": (["--select.method", "Nope"], ["--select.method=Nope", "Herding", "KCenter", "RandomSelection"]),
    "misspelt method": (["--select.method", "Herdin"], ["did you mean Herding?"]),
    "misspelt option": (
        ["--select.method", "KCenter", "--select.method.epoch", "2"],
        ["did you mean --select.method.epochs?"],
    ),
    "out of range": (
        ["--select.method", "Forgetting", "--select.method.epochs", "0"],
        ["select.method.epochs must be at least 1, got 0"],
    ),
    "no images": (["--select.ipc", "0"], ["select.ipc must be at least 1, got 0"]),
    "too many images": (["--select.ipc", "5000"], ["select.ipc=5000", "has only", "lower ipc"]),
    "too many for the model": (
        ["--model.ipc", "5000"],
        ["model.ipc=5000 in each of model.stages=2, 10000 in all: class", "has only"],
    ),
    "nothing held out": (
        ["--data.validation_fraction", "0", "--evaluation.random_rates", "[0.01, 0.1]"],
        ["evaluation.random_rates", "data.validation_fraction=0"],
    ),
    "unknown baseline": (["--evaluation.baselines", "[herdin]"], ["--evaluation.baselines", "herdin", "k-center"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args, words = MISTAKES[mistake]
    line = refused(capsys, "select", tmp_path / "run", *args)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_folders_of_two_kinds_are_told_apart(
    herding: Path, first_stage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "holds distilled images" in refused(capsys, "select", first_stage)
    assert "holds images selected by herding" in refused(capsys, "fit", herding)
    line = refused(capsys, "select", herding, "--select.method", "Herding", "--select.ipc", "2")
    assert "select.ipc: 3 then, 2 now" in line
    fit_into(tmp_path / "unfinished", "--trainer.max_steps", "2", "--checkpoint_every", "2")
    assert "holds an unfinished distillation" in refused(capsys, "select", tmp_path / "unfinished")


def test_changed_files_are_noticed(herding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "copy"
    shutil.copytree(herding, run)
    with (run / "stage_01" / "synthetic.safetensors").open("ab") as file:
        file.write(b" ")
    assert "synthetic.safetensors was changed" in refused(capsys, "evaluate", run)
    assert "was made from other data" in refused(capsys, "evaluate", herding, "--data.split_seed", "3")


def test_the_configuration_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("select", "fit"):
        with pytest.raises(SystemExit):
            main([command, "--config", str(CONFIG), "--select.method", "Forgetting", "--print_config"])
        shown: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
        assert shown["select"]["method"]["class_path"] == "pdd_lightning.selection.Forgetting"
        assert shown["select"]["method"]["init_args"]["epochs"] == 50
