"""Numbers and pictures reach every logger that can take them."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image

from pdd_lightning.stage.logs import hyperparameters, loggers_of, picture, scalars
from pdd_lightning.store.folders import RunFolder

GRID = torch.tensor([0.0, 0.2, 1.0])[:, None, None].expand(3, 4, 6)


class Noting(Logger):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    name, version = "noting", 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.told.append((metrics, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        raise OSError("has none")


class Showing(Noting):
    """Takes pictures, as the logger of Weights & Biases does."""

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.told.append((key, [(image.size, image.getpixel((5, 3))) for image in images], step))


class Failing(Noting):
    def log_image(self, **_: object) -> None:
        raise OSError("no connection")


def test_numbers_reach_all() -> None:
    one, other = Noting(), Noting()
    scalars([one, other], {"a": 1.0, "b": 2.0}, 7)
    assert one.told == other.told == [({"a": 1.0, "b": 2.0}, 7)]
    scalars([], {"a": 1.0}, 7)


class Asking(Noting):
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.told.append((params, args, kwargs))


def test_options_reach_those_that_take_them(caplog: pytest.LogCaptureFixture) -> None:
    deaf, asking = Noting(), Asking()
    with caplog.at_level(logging.WARNING):
        hyperparameters([deaf, asking], {"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]}, {"f": 0.5})
    assert asking.told == [({"a.b": 1, "a.c.d": "None", "e": "[1, 2]"}, (), {})]
    assert "Noting did not take the hyper-parameters: has none" in caplog.text


def test_pictures_reach_those_that_take_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blind, failing, showing, numbers = Noting(), Failing(), Showing(), CSVLogger(tmp_path, "csv", 0)
    with caplog.at_level(logging.WARNING):
        picture([blind, failing, numbers, showing], "My images", GRID, 40)
    assert blind.told == failing.told == []
    assert showing.told == [("My images", [((6, 4), (0, 51, 255))], 40)]
    assert "Failing did not take the picture 'My images': no connection" in caplog.text
    with Image.open(tmp_path / "csv" / "version_0" / "My_images_000040.png") as image:
        assert (image.size, image.getpixel((0, 0))) == ((6, 4), (0, 51, 255))


def test_a_grey_picture_stays_grey(tmp_path: Path) -> None:
    picture([CSVLogger(tmp_path, "csv", 0)], "grey", GRID[1:2], 0)
    with Image.open(tmp_path / "csv" / "version_0" / "grey_000000.png") as image:
        assert (image.mode, image.getpixel((0, 0))) == ("L", 51)


def test_which_loggers_a_part_has(tmp_path: Path) -> None:
    run, mine = RunFolder(tmp_path / "run"), Noting()
    for given in (None, True):
        (logger,) = loggers_of(given, run, "stages")
        assert isinstance(logger, TensorBoardLogger)
        assert Path(logger.log_dir) == run.tensorboard / "stages"
    assert loggers_of(False, run, "stages") == []
    assert loggers_of(mine, run, "stages") == loggers_of([mine], run, "stages") == [mine]
