"""`pdd-cli init`: what it writes fits the data, works, and mistakes are told in a line."""

from pathlib import Path

import pytest
import yaml
from commandline import make_folder
from PIL import Image

from pdd_lightning.cli import init
from pdd_lightning.cli.main import main
from pdd_lightning.distilling.new_data import METHODS, Facts, choose, fitted
from pdd_lightning.planning.estimate import Line


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(["init", *args])
    printed = capsys.readouterr()
    assert (exit_.value.code, printed.out) == (2, "")
    lines = [line for line in printed.err.splitlines() if line.startswith("pdd-cli: error: ")]
    assert len(lines) == 1
    return lines[0]


def images(root: Path, classes: dict[str, int], size: int = 8) -> Path:
    for shade, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.new("L", (size, size), 60 * shade + index).save(root / name / f"{index}.png")
    return root


def written(folder: Path) -> dict[str, object]:
    found = yaml.safe_load((folder / "stage.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_what_is_written_for_a_folder_runs(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = images(tmp_path / "data", {"a": 10, "b": 12})
    main(["init", str(tmp_path / "mine"), "--data", "folder", "--root", str(root), "--method", method, "--ipc", "1"])
    assert "2 classes of at least 8 training images, 1x8x8" in capsys.readouterr().out
    few = ["--model.iterations", "2", "--model.recipe.epochs", "1", "--model.network.width", "4"]
    member = "experts" if method == "mtt" else "start_states"
    main(["fit", "--config", str(tmp_path / "mine" / "stage.yaml"), *few, f"--model.dynamics.{member}", "1"])
    assert (tmp_path / "mine" / "run" / "stage_01" / "stage.json").is_file()


@pytest.mark.parametrize("data", ["digits", "cifar10", "cifar100", "tiny_imagenet"])
@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_data_that_are_known_need_not_be_there(
    data: str, accelerator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["init", "mine", "--data", data, "--accelerator", accelerator])
    file, expected = "mine/stage.yaml", written(tmp_path / "mine")
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--config", file, "--trainer.accelerator", "cpu", "--print_config"])
    assert exit_.value.code in (0, None)
    shown, given = yaml.safe_load(capsys.readouterr().out), expected["model"]
    assert isinstance(given, dict)
    assert (shown["model"]["iterations"], shown["model"]["image_lr"]) == (given["iterations"], given["image_lr"])
    assert all(len(line) <= 120 for line in Path(file).read_text().splitlines())


def test_a_configuration_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stage.yaml").write_text("mine")
    assert "stays as it is" in refused(capsys, str(tmp_path), "--data", "digits")
    assert (tmp_path / "stage.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--data", "digit"], "--data=digit: did you mean digits? Choose one of digits, cifar10"),
        (["--data", "digits", "--method", "dcs"], "--method=dcs: did you mean dc"),
        (["--data", "digits", "--root", "x"], "--root=x: the digits come with scikit-learn"),
        (["--data", "digits", "--image_size", "8"], "--image_size=8: belongs to --data folder"),
        (["--data", "digits", "--stages", "0"], "--stages must be at least 1, got 0"),
        (["--data", "digits", "--ipc", "60"], "--stages=3 of --ipc=60: 180 images per class"),
        (["--data", "digits", "--minutes", "-1"], "--minutes must be positive"),
        (["--data", "digits", "--ipc", "x"], "argument --ipc: invalid int value: 'x'"),
        (["--data", "folder"], "--root: required with --data folder"),
        (["--data", "folder", "--root", "nowhere"], "--root='nowhere': there is no folder nowhere"),
        ([], "the following arguments are required: --data"),
    ],
)
def test_mistakes_are_told(args: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in refused(capsys, str(tmp_path / "mine"), *args)
    assert not (tmp_path / "mine").exists()


def test_folders_that_cannot_be_used_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(root: Path, *more: str) -> str:
        return refused(capsys, str(tmp_path / "mine"), "--data", "folder", "--root", str(root), *more)

    (tmp_path / "none").mkdir()
    assert "there is no folder" in told(tmp_path / "none")
    assert "holds one class only, a" in told(images(tmp_path / "one", {"a": 5}))
    mixed = images(tmp_path / "mixed", {"a": 5, "b": 5})
    Image.new("L", (9, 9)).save(mixed / "a" / "0.png")
    line = told(mixed)
    assert "image sizes differ" in line
    assert line.endswith("; here that is --image_size N")
    assert not (tmp_path / "mine").exists()


def test_images_are_resized_where_asked(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", (12, 10))
    args = ["--data", "folder", "--root", str(root), "--image_size", "8", "--ipc", "1", "--stages", "1"]
    main(["init", str(tmp_path / "mine"), *args])
    data = written(tmp_path / "mine")["data"]
    assert isinstance(data, dict)
    assert data["init_args"]["image_size"] == 8
    assert data["init_args"]["grey"] is False
    assert data["init_args"]["root"] == str(root)


def test_a_match_spans_as_many_steps_however_few_the_images() -> None:
    for images in (40, 400, 4000):
        chosen = choose(Facts((1, 8, 8), 4, images, images // 4), "mtt", stages=1, ipc=1, gpu=False)
        steps = -(-round(0.9 * images) // chosen.batch_size)
        assert 0.6 * 66 <= chosen.match_epochs * steps <= 1.4 * 66
    tiny, large = (
        choose(Facts((3, 64, 64), 200, 100_000, 500), "dm", stages=3, ipc=1, gpu=gpu) for gpu in (False, True)
    )
    assert (tiny.max_per_class, large.max_per_class, tiny.width, large.width) == (50, None, 32, 128)


LINES = [
    *(Line("stage 1", "start", 10.0), Line("stage 1", "preparation", 60.0), Line("stage 1", "distillation", 100.0)),
    *(Line("stage 1", "transition", 30.0), Line("evaluation", "start", 10.0), Line("evaluation", "pdd", 30.0)),
]


@pytest.mark.parametrize("minutes", [2, 3, 5, 30])
def test_a_run_is_fitted_into_the_time(minutes: float) -> None:
    chosen = choose(Facts((1, 8, 8), 10, 1438, 139), "mtt", stages=1, ipc=1, gpu=False)
    found, seconds = fitted(chosen, LINES, minutes)
    assert seconds <= 60 * minutes + 1
    assert (found.iterations > chosen.iterations) == (60 * minutes > 240)
    assert found.iterations <= 5 * chosen.iterations


def test_what_cannot_fit_is_told_by_its_seconds() -> None:
    chosen = choose(Facts((1, 8, 8), 10, 1438, 139), "mtt", stages=1, ipc=1, gpu=False)
    found, seconds = fitted(chosen, LINES, minutes=0.1)
    assert (found.iterations, found.members, found.epochs) == (20, 2, 20)
    assert seconds > 6


@pytest.mark.slow
def test_minutes_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(init, "_SECONDS", 0.1)
    root = images(tmp_path / "data", {"a": 10, "b": 12})
    args = ["--data", "folder", "--root", str(root), "--ipc", "1", "--stages", "1", "--method", "dm"]
    main(["init", str(tmp_path / "mine"), *args, "--minutes", "60"])
    assert "note: takes about " in capsys.readouterr().out
    model = written(tmp_path / "mine")["model"]
    assert isinstance(model, dict)
    assert model["iterations"] == 1000
    assert not (tmp_path / "mine" / "run").exists()
