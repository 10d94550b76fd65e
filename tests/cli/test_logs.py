"""What a run logs, with whatever loggers the trainer names."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from commandline import CONFIG, call, fit_into
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main
from pdd_lightning.evaluation.results import read_results
from pdd_lightning.store.folders import RunFolder

PICTURE = "synthetic images"
FINAL = {f"final accuracy/{name}, ConvNet" for name in ("random union", "pdd progressive")}
STAGE = {"loss", "alpha"}
STAGES = {"validation accuracy/mean", "validation accuracy/std", "validation accuracy/fresh", "alpha"}
EVALUATION = {f"test accuracy {name}" for name in ("progressive, ConvNet/pdd", "union, ConvNet/random")}


def evaluate(run: Path, *args: str) -> None:
    baselines = ("--evaluation.baselines", "[random]")
    main(["evaluate", "--config", str(CONFIG), "--run_dir", str(run), *baselines, *args])


def fit_and_evaluate(run: Path, *args: str) -> None:
    for _ in range(2):
        fit_into(run, *args)
    evaluate(run, *args)


def events(folder: Path) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Steps of the scalars and of the pictures."""
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    tags = found.Tags()
    scalars = {tag: [event.step for event in found.Scalars(tag)] for tag in tags["scalars"]}
    return scalars, {tag: [event.step for event in found.Images(tag)] for tag in tags["images"]}


def test_tensorboard_has_a_folder_for_each_part(two_stages: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_stages, run)
    evaluate(run)
    logs = RunFolder(run).tensorboard
    assert {path.name for path in logs.iterdir()} == {"stage_01", "stage_02", "stages", "evaluation"}
    for stage in ("stage_01", "stage_02"):
        scalars, pictures = events(logs / stage)
        assert (set(scalars), pictures) == (STAGE, {PICTURE: [0, 12]})
    assert events(logs / "stages") == ({name: [1, 2] for name in STAGES}, {})
    steps = {"progressive, ConvNet/pdd": [1, 2], "union, ConvNet/random": [0]}
    wanted = {f"test accuracy {name}": at for name, at in steps.items()}
    wanted |= {name: [0] for name in FINAL}
    assert events(logs / "evaluation") == (wanted, {})


def test_hyperparameters_stand_beside_what_they_reached(two_stages: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_stages, run)
    evaluate(run)
    folder = RunFolder(run).tensorboard / "evaluation"
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    found.Reload()
    told = {}
    for name in ("experiment", "session_start_info"):
        content = found.SummaryMetadata(f"_hparams_/{name}").plugin_data.content
        told[name] = HParamsPluginData.FromString(content)
    options = told["session_start_info"].session_start_info.hparams
    assert options["data"].string_value == "DigitsData"
    assert options["image_lr"].number_value == 0.05
    assert options["network.width"].number_value == 4
    assert options["objective.class_path"].string_value == "pdd_lightning.objectives.TrajectoryMatching"
    assert {info.name.tag for info in told["experiment"].experiment.metric_infos} == FINAL
    rows = read_results(run / "evaluation" / "results.json")
    for row in (rows[0], rows[-1]):  # random, and the last stage
        (event,) = found.Scalars(f"final accuracy/{row.name} {row.order}, ConvNet")
        assert event.value == pytest.approx(row.mean)


def rows(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name."""
    found: dict[str, list[tuple[int, float]]] = {}
    with (folder / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    found.setdefault(name, []).append((step, float(value)))
    return found


def test_csv_holds_the_numbers_and_the_pictures(tmp_path: Path) -> None:
    run, logs = tmp_path / "run", tmp_path / "logs"
    fit_and_evaluate(run, "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(logs))
    assert not RunFolder(run).tensorboard.exists()
    # A command is a version.
    *stages, evaluation = (logs / "lightning_logs" / f"version_{number}" for number in range(3))
    for number, folder in enumerate(stages, start=1):
        found = rows(folder)
        assert found.keys() == STAGE | STAGES
        assert [step for step, _ in found["alpha"]] == [9, 11]
        ((step, mean),) = found["validation accuracy/mean"]
        accuracies: Any = RunFolder(run).stage(number).read_manifest().summary["validation_accuracies"]
        assert step == number
        assert mean == pytest.approx(sum(accuracies) / len(accuracies), abs=1e-5)
        pictures = sorted(folder.glob("*.png"))
        assert [picture.name for picture in pictures] == ["synthetic_images_000000.png", "synthetic_images_000012.png"]
        for picture in pictures:
            with Image.open(picture) as image:
                assert image.height > 10 * 96  # 8 pixels, enlarged
    found = rows(evaluation)
    assert found.keys() == EVALUATION
    assert [step for step, _ in found["test accuracy progressive, ConvNet/pdd"]] == [1, 2]


def test_several_loggers_are_all_told(tmp_path: Path) -> None:
    names = {"CSVLogger": "numbers", "TensorBoardLogger": "board"}
    given = [
        f"{{class_path: {cls}, init_args: {{save_dir: {tmp_path / name}, version: one}}}}"
        for cls, name in names.items()
    ]
    evaluated = tmp_path / "run"
    fit_into(evaluated, f"--trainer.logger=[{', '.join(given)}]")
    assert rows(tmp_path / "numbers" / "lightning_logs" / "one").keys() == STAGE | STAGES
    scalars, pictures = events(tmp_path / "board" / "lightning_logs" / "one")
    assert (set(scalars), pictures) == (STAGE | STAGES, {PICTURE: [0, 12]})


def test_without_a_logger_nothing_is_logged(two_stages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    fit_and_evaluate(run, "--trainer.logger", "false")
    assert not RunFolder(run).tensorboard.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not [path for path in run.rglob("*") if "events" in path.name or path.name == "metrics.csv"]
    assert RunFolder(run).stage(2).synthetic.read_bytes() == RunFolder(two_stages).stage(2).synthetic.read_bytes()


def test_a_plan_tells_no_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "call", call)
    logger = ("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "logs"))
    main(["plan", "--config", str(CONFIG), "--run_dir", str(tmp_path / "run"), "--plan.seconds", "0.1", *logger])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
