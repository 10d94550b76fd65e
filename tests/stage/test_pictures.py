"""The picture of a set: where its images stand, and what happens where it cannot be made."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray
from torch import Tensor

from pdd_lightning.errors import ArtifactError
from pdd_lightning.stage import pictures
from pdd_lightning.stage.pictures import draw_pictures, grid_tensor, save_grid


def read(path: Path) -> NDArray[np.int64]:
    return (imread(path)[..., :3] * 255).round().astype(np.int64)


def constant(colours: Sequence[Sequence[int]], size: tuple[int, int] = (8, 8)) -> Tensor:
    return (torch.tensor(colours) / 255.0)[:, :, None, None].expand(-1, -1, *size)


def box(picture: NDArray[np.int64], colour: Sequence[int]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the rectangle of a colour, which must be filled."""
    found = (picture == np.array(colour)).all(-1)
    rows, columns = found.any(1).nonzero()[0], found.any(0).nonzero()[0]
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert found[top:bottom, left:right].all()
    return int(top), int(bottom), int(left), int(right)


def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the texts that are drawn from now on."""
    texts: list[str] = []
    original = Figure.text

    def text(self: Figure, x: float, y: float, s: str, *args: object, **options: object) -> object:
        texts.append(s)
        return original(self, x, y, s, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "text", text)
    return texts


def test_rows_are_classes_and_columns_are_grouped_by_stage(tmp_path: Path) -> None:
    keys = [(stage, label, copy) for stage in (3, 1) for label in (1, 0) for copy in (0, 1)]  # not in order
    colours = {(stage, label, copy): (60 * stage, 100 * label + 30, 90 * copy + 10) for stage, label, copy in keys}
    path = tmp_path / "new" / "grid.png"
    stages, labels = torch.tensor([key[0] for key in keys]), torch.tensor([key[1] for key in keys])
    save_grid(path, constant([colours[key] for key in keys]), labels, stages, ["cat", "dog"])
    picture = read(path)
    boxes = {key: box(picture, colours[key]) for key in keys}

    assert {(bottom - top, right - left) for top, bottom, left, right in boxes.values()} == {(96, 96)}
    for stage in (1, 3):
        for copy in (0, 1):
            assert boxes[stage, 0, copy][2:] == boxes[stage, 1, copy][2:]
            assert boxes[stage, 0, copy][1] < boxes[stage, 1, copy][0]
    assert len({boxes[stage, 0, copy][:2] for stage in (1, 3) for copy in (0, 1)}) == 1
    within = boxes[1, 0, 1][2] - boxes[1, 0, 0][3]
    between = boxes[3, 0, 0][2] - boxes[1, 0, 1][3]
    assert 0 < within <= 10
    assert between >= 3 * within
    # Something is written to the left of each row and above each group.
    for label in (0, 1):
        top, bottom, _, _ = boxes[1, label, 0]
        assert picture[top:bottom, : boxes[1, label, 0][2] - 4].min() < 100
    for stage in (1, 3):
        assert picture[: boxes[stage, 0, 0][0] - 4, boxes[stage, 0, 0][2] : boxes[stage, 0, 1][3]].min() < 100


def test_pixels_are_enlarged_without_blur_and_grey_stays_grey(tmp_path: Path) -> None:
    image = torch.tensor([[0.2, 1.7], [float("nan"), 0.8]])[None, None].requires_grad_()
    save_grid(tmp_path / "grid.png", image, torch.tensor([0]), torch.tensor([1]), ["only"])
    picture = read(tmp_path / "grid.png")
    frame = (picture == 200).all(-1)  # smoothed text has all other greys too
    left = int((frame.sum(0) >= 98).nonzero()[0][0]) + 1
    bottom = int((frame.sum(1) >= 98).nonzero()[0][-1])
    cell = picture[bottom - 96 : bottom, left : left + 96]
    expected = np.array([[51, 255], [0, 204]]).repeat(48, 0).repeat(48, 1)
    assert (cell == expected[..., None]).all()


def test_large_and_oblong_images_keep_their_shape(tmp_path: Path) -> None:
    colour = (10, 200, 30)
    save_grid(tmp_path / "a.png", constant([colour], (224, 112)), torch.tensor([0]), torch.tensor([1]), ["x"])
    top, bottom, left, right = box(read(tmp_path / "a.png"), colour)
    assert (bottom - top, right - left) == (224, 112)


def test_limits_show_the_first_images_and_are_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = notes(monkeypatch)
    colours = [(40 * copy + 5, 50 * label + 5, 77) for label in range(3) for copy in range(3)]
    labels, stages = torch.arange(3).repeat_interleave(3), torch.ones(9, dtype=torch.int64)
    path, names = tmp_path / "grid.png", ["a", "b", "c"]
    with monkeypatch.context() as small:
        small.setattr(pictures, "_MAX_PER_STAGE", 2)
        small.setattr(pictures, "_MAX_CLASSES", 2)
        save_grid(path, constant(colours), labels, stages, names)
    assert texts[0] == "Showing first 2 of 3 classes, at most 2 of 3 images per class and stage"
    picture = read(path)
    shown = [bool((picture == np.array(colour)).all(-1).any()) for colour in colours]
    assert shown == [True, True, False, True, True, False, False, False, False]

    texts.clear()
    save_grid(path, constant(colours), labels, stages, names)
    assert texts == ["a", "b", "c", "stage 1"]


def test_many_stages_stay_drawable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = notes(monkeypatch)
    stages = torch.arange(60).repeat_interleave(5)
    images = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    save_grid(tmp_path / "grid.png", images, torch.zeros(300, dtype=torch.int64), stages, ["a"])
    assert texts[0] == "Showing at most 1 of 5 images per class and stage"


def test_a_stage_without_shown_classes_is_left_white(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_MAX_CLASSES", 1)
    images, labels = constant([(9, 9, 9), (99, 99, 99)]), torch.tensor([0, 1])
    save_grid(tmp_path / "grid.png", images, labels, torch.tensor([1, 2]), ["a", "b"])
    box(read(tmp_path / "grid.png"), (9, 9, 9))


def test_names_are_not_formulas_and_global_state_is_untouched(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    pyplot = "matplotlib.pyplot" in sys.modules
    image, zero = torch.zeros(1, 3, 8, 8), torch.tensor([0])
    save_grid(tmp_path / "grid.png", image, zero, zero, [r"$\frac$ " + "long " * 20])
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["cat", "dog"], ["cat", "dog"]),
        (["猫", "狗"], ["0: 猫", "1: 狗"]),  # two boxes of one form
        (["cat", "a 猫"], ["cat", "1: a 猫"]),
        (["long " * 9 + "a", "long " * 9 + "b"], [f"{label}: long long long long lon…" for label in (0, 1)]),
        (["a b", "a  b"], ["0: a b", "1: a b"]),
        (["caf\udce9", "b"], [r"caf\udce9", "b"]),  # bytes that are no UTF-8
    ],
)
def test_names_are_told_apart(
    names: list[str], shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = notes(monkeypatch)
    zeros = torch.zeros(2, dtype=torch.int64)
    save_grid(tmp_path / "grid.png", torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), zeros, names)
    assert texts[:2] == shown


@pytest.mark.parametrize("error", [RuntimeError("no\nfont"), OSError(28, "No space left"), MemoryError()])
def test_a_picture_that_fails_is_a_warning_and_leaves_nothing(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("os.fsync" if isinstance(error, OSError) else f"{pictures.__name__}._text", fail)
    zero = torch.tensor([0])
    draw_pictures(tmp_path / "grid.png", torch.zeros(1, 1, 8, 8), zero, zero, ["a"])
    (line,) = caplog.messages
    assert "grid.png could not be made, and the run goes on without it: " in line
    assert "\n" not in line
    assert not list(tmp_path.iterdir())


def test_names_what_is_wrong(tmp_path: Path) -> None:
    image, zero = torch.zeros(1, 3, 8, 8), torch.tensor([0])
    path = tmp_path / "grid.png"
    with pytest.raises(ValueError, match="1 or 3"):
        save_grid(path, torch.zeros(1, 2, 8, 8), zero, zero, ["a"])
    with pytest.raises(ValueError, match="no images"):
        save_grid(path, image[:0], zero[:0], zero[:0], ["a"])
    with pytest.raises(ValueError, match="there are 1 classes"):
        save_grid(path, image, zero + 1, zero, ["a"])
    with pytest.raises(ValueError, match="stages"):
        save_grid(path, image, zero, torch.tensor([0, 1]), ["a"])
    assert not path.exists()


@pytest.mark.parametrize("channels", [1, 3])
def test_loggers_get_the_picture_of_the_file(channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names of classes and stages, and every pixel large enough to see."""
    texts = notes(monkeypatch)
    values = torch.tensor([0.1, 0.2, 0.3, 2.0])
    images, labels = values[:, None, None, None].expand(-1, channels, 4, 5), torch.tensor([2, 0, 2, 2])
    args = (images, labels, torch.full_like(labels, 4), ["cat", "dog", "cow"])
    save_grid(tmp_path / "grid.png", *args)
    grid = grid_tensor(*args)
    assert texts == ["cat", "dog", "cow", "stage 4"] * 2
    assert torch.equal((255 * grid).round().long().permute(1, 2, 0), torch.from_numpy(read(tmp_path / "grid.png")))
    save_grid(tmp_path / "one.png", *args, "one stage")
    assert texts[8:] == ["cat", "dog", "cow", "one stage"]
    assert int((grid[0] == round(0.2 * 255) / 255).sum()) >= (19 * 4) * (19 * 5)  # the names are grey too


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, labels = tmp_path / "grid.png", torch.tensor([0])
    save_grid(path, constant([(10, 20, 30)]), labels, labels, ["cat"])
    before = path.read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(ArtifactError, match=r"cannot write .*grid\.png"):
        save_grid(path, constant([(90, 20, 30)]), labels, labels, ["cat"])
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]
