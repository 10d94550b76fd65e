"""A path may begin with `~`, wherever an option names one; what is recorded says so too, for another machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import CONFIG, call, fit_into, make_folder

from pdd_lightning.cli import children
from pdd_lightning.cli.main import main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a current folder in which nothing may appear."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(work)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def nothing_here(home: Path) -> Iterator[None]:
    yield
    assert not list(Path.cwd().iterdir())


def test_a_whole_run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What `fit` tells `run` is where the folder is, and the lock is held there."""
    monkeypatch.setattr(children, "call", call)
    (home / "mine.yaml").write_text("run_dir: ~/runs/a\nevaluation: ~/parts/evaluation.yaml")
    (home / "parts").mkdir()
    (home / "parts" / "evaluation.yaml").write_text("baselines: []")
    logger = ("--trainer.logger=CSVLogger", "--trainer.logger.save_dir=~/logs")
    main(["run", "--config", str(CONFIG), "--config=~/mine.yaml", "--experts_dir=~/experts", *logger])
    assert sorted(path.name for path in (home / "runs" / "a").iterdir()) == [
        "evaluation",
        "preprocessing.safetensors",
        "run.lock",
        "stage_01",
        "stage_02",
    ]
    assert list((home / "experts").iterdir())
    assert (home / "logs").is_dir()
    recorded = (home / "runs" / "a" / "stage_01" / "config.yaml").read_text()
    assert all(line in recorded for line in ("run_dir: ~/runs/a", "experts_dir: ~/experts", "save_dir: ~/logs"))
    assert "baselines: []" in recorded
    again = ("--config", str(home / "runs" / "a" / "stage_01" / "config.yaml"))
    main(["fit", *again])
    assert "all stages are complete" in capsys.readouterr().err
    main(["compare", "~/runs/a", "--output=~/table.md"])
    assert "| a" in (home / "table.md").read_text()


def test_the_data(home: Path) -> None:
    make_folder(home / "images")
    data = ("--data=ImageFolderData", "--data.root=~/images", "--data.validation_fraction=0")
    fit_into(Path("~/run"), *data, "--data.cache_dir=~/cache", "--model.stages=1", "--trainer.max_steps=0")
    assert list((home / "cache").iterdir())
    assert (home / "run").is_dir()


@pytest.mark.parametrize(
    "args",
    [
        ("fit", "--config", str(CONFIG), "--run_dir=~nobody-here/run"),
        ("fit", "--config", str(CONFIG), "--data.cache_dir=~nobody-here/run"),
        ("fit", "--config=~nobody-here/run"),
        ("compare", "~nobody-here/run"),
    ],
)
def test_a_home_that_is_not_known(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(args)
    option = args[-1].partition("=")[0].replace("~nobody-here/run", "RUN")
    assert f"error: {option}=~nobody-here/run: there is no home ~nobody-here here" in capsys.readouterr().err
