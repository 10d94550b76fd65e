"""`pdd-cli show`: the images of a run as a picture."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pdd_lightning as pdd
from pdd_lightning.cli import show
from pdd_lightning.cli.main import main
from pdd_lightning.stage.pictures import save_grid

SAMPLE = Path(__file__).parents[2] / "checkpoints" / "sample"

Show = Callable[..., str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Runs the command in an empty folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> str:
        capsys.readouterr()
        main(["show", str(SAMPLE), *args])
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return call


def pixels(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.asarray(Image.open(path).convert("RGB"))


def test_it_is_the_picture_that_the_run_has(shown: Show, tmp_path: Path) -> None:
    found = pdd.load(SAMPLE)
    images = found.pixels(found.union().images)
    assert shown() == (
        "sample_stages_1-3.png: 30 images of stages 1 to 3, 59.9 % of their values outside [0, 1] "
        f"({images.min():.2f} to {images.max():.2f}) and cut off\n"
    )
    assert np.array_equal(pixels(tmp_path / "sample_stages_1-3.png"), pixels(SAMPLE / "stage_03" / "synthetic.png"))


def test_stage_and_classes_are_chosen(shown: Show, tmp_path: Path) -> None:
    text = shown("--stage", "2", "--classes", "7, 3,7", "--output", "some/where.png")
    assert text.startswith("some/where.png: 2 images of stage 2, ")
    data = pdd.load(SAMPLE).stages[1].data
    images = pdd.load(SAMPLE).pixels(data.images)[[7, 3]]
    save_grid(tmp_path / "wanted.png", images, torch.tensor([0, 1]), torch.tensor([2, 2]), ["7", "3"])
    assert np.array_equal(pixels(tmp_path / "some" / "where.png"), pixels(tmp_path / "wanted.png"))


def test_raw_images_are_scaled_to_their_range(shown: Show, tmp_path: Path) -> None:
    images = pdd.load(SAMPLE).stages[0].data.images
    low, high = float(images.min()), float(images.max())
    wanted = f"10 images of stage 1, as networks read them: black is {low:.2f}, white is {high:.2f}\n"
    assert shown("--stage=1", "--raw", "true") == f"sample_stage_1_raw.png: {wanted}"
    assert {0, 255} <= set(pixels(tmp_path / "sample_stage_1_raw.png").ravel().tolist())


def test_classes_bear_their_numbers_and_are_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dataclasses import replace

    sample = pdd.load(SAMPLE)
    names = ("cat", "dog, brown", "1", *map(str, range(3, 10)))
    found = replace(sample, about=replace(sample.about, class_names=names))
    given: list[list[str]] = []
    monkeypatch.setattr(show, "load", lambda path: found)
    monkeypatch.setattr(show, "save_grid", lambda *args: given.append(list(args[4])))
    for classes in ("cat", "1,0", "dog, brown"):
        main(["show", str(SAMPLE), f"--classes={classes}", f"--output={tmp_path / 'a.png'}"])
    assert given == [["0: cat"], ["2: 1", "0: cat"], ["1: dog, brown"]]


def test_what_else_can_be_loaded_is_shown_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SAMPLE, "run.one", ignore=shutil.ignore_patterns("stage_02", "stage_03"))
    pdd.load("run.one").export("mine.npz", "npz")
    for path, picture in (("run.one", "run.one_stage_1.png"), ("mine.npz", "mine_stage_1.png")):
        main(["show", path])
        assert capsys.readouterr().out.startswith(f"{picture}: 10 images of stage 1, ")
        assert Path(picture).is_file()


MISTAKES: dict[str, tuple[list[str], str]] = {
    "a stage too many": (["--stage", "4"], "--stage=4: this set has stages 1 to 3"),
    "no number": (["--stage", "two"], "argument --stage: invalid int value: 'two'; `pdd-cli show --help`"),
    "an unknown class": (["--classes", "3,ten"], "--classes: there is no class 'ten'; give numbers from 0 to 9"),
    "a class too many": (["--classes", "10"], "there is no class '10', did you mean 1?"),
    "no truth": (["--raw", "maybe"], "argument --raw: invalid choice: 'maybe'"),
    "no PNG": (["--output", "a.jpg"], "--output=a.jpg: name a file that ends in .png"),
    "a folder": (["--output", "folder.png"], "--output=folder.png: name a file that ends in .png"),
    "below a file": (["--output", "file/a.png"], "--output=file/a.png: cannot write to file"),
    "no set": (["--output", "a.png", "more"], "unrecognized arguments: more"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args, words = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("file").touch()
    with pytest.raises(SystemExit) as exit_:
        main(["show", str(SAMPLE), *args])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pdd-cli: error: ")
    assert words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path)])
    assert f"{tmp_path} is no distilled set" in capsys.readouterr().err


def test_it_needs_no_lightning(tmp_path: Path) -> None:
    code = (
        f"import sys; from pdd_lightning.cli.main import main; main(['show', {str(SAMPLE)!r}]); "
        "assert 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
