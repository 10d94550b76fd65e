"""Nothing that a command reads is unpickled, and no configuration runs code: crafted files have no effect."""

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import CONFIG
from mutations import SUFFIXES, artifacts, make_states

from pdd_lightning.cli.main import main

Pack = Callable[[object], bytes]


class Crafted:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def plain(value: object) -> bytes:
    return pickle.dumps(value)


def as_checkpoint(value: object) -> bytes:
    """As torch stores it: a zip that holds a pickle."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {}, "payload": value}, buffer)
    return buffer.getvalue()


def as_old_checkpoint(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save({"payload": value}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def as_numpy(value: object) -> bytes:
    """As numpy stores objects."""
    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, file.open("images.npy", "w") as member:
        np.lib.format.write_array(member, np.array([value], dtype=object), allow_pickle=True)
    return buffer.getvalue()


PACKS: list[Pack] = [plain, as_checkpoint, as_old_checkpoint, as_numpy]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_states(tmp_path_factory.mktemp("states"))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.mark.parametrize("pack", [plain, as_checkpoint, as_old_checkpoint])
def test_the_crafted_files_would_run_if_they_were_unpickled(pack: Pack, marker: Path) -> None:
    """Otherwise the tests below could not fail."""
    data = pack(Crafted(marker))
    try:
        pickle.loads(data) if pack is plain else torch.load(io.BytesIO(data), weights_only=False)
    finally:
        assert marker.is_dir()


def attempt(*args: str) -> None:
    try:
        main(list(args))
    except SystemExit as stop:
        status = stop.code
        assert status == 2


EVERY = [(state, pack) for state in ("finished", "steps", "transition") for pack in PACKS]
FAST = [("finished", plain), ("steps", as_checkpoint), ("transition", as_numpy)]


@pytest.mark.parametrize(
    ("state", "pack"),
    [pytest.param(*each, marks=[] if each in FAST else pytest.mark.slow) for each in EVERY],
)
def test_no_file_of_a_run_is_unpickled(
    state: str, pack: Pack, states: dict[str, Path], tmp_path: Path, marker: Path
) -> None:
    """Every file at once, and then one after the other: the first would keep the later ones from being read."""
    options = ("--config", str(CONFIG), "--run_dir")
    crafted = pack(Crafted(marker))
    everything = tmp_path / "everything"
    shutil.copytree(states[state], everything)
    for path in artifacts(everything):
        path.write_bytes(crafted)
    for command in ("fit", "evaluate", "select"):
        attempt(command, *options, str(everything))
    # Each kind of file by itself, in a run that is else as it was left.
    kinds = {(path.parent.name[:6], path.name[:6], path.suffix): path for path in artifacts(states[state])}
    for number, path in enumerate(kinds.values()):
        run = tmp_path / str(number)
        shutil.copytree(states[state], run)
        (run / path.relative_to(states[state])).write_bytes(crafted)
        attempt("compare", str(run)) if path.name == "results.json" else attempt(
            "evaluate" if state == "finished" else "fit", *options, str(run)
        )
    assert len(kinds) > 5
    assert not marker.exists()


def test_no_file_of_the_data_is_unpickled(tmp_path: Path, marker: Path) -> None:
    crafted = plain(Crafted(marker))
    cifar = tmp_path / "cifar-10-batches-py"
    cifar.mkdir()
    for name in ("batches.meta", "test_batch", *(f"data_batch_{k}" for k in range(1, 6))):
        (cifar / name).write_bytes(crafted)
    for part in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "folder" / part).mkdir(parents=True)
        (tmp_path / "folder" / part / "1.png").write_bytes(crafted)
    run = ("--config", str(CONFIG), "--run_dir", str(tmp_path / "run"))
    attempt("fit", *run, "--data", "CIFAR10Data", "--data.root", str(tmp_path))
    attempt("fit", *run, "--data", "ImageFolderData", "--data.root", str(tmp_path / "folder"))
    assert not marker.exists()


def test_no_cache_is_unpickled(tmp_path: Path, marker: Path) -> None:
    cache = tmp_path / "cache"
    options = (
        "--config",
        str(CONFIG),
        "--data.zca",
        "true",
        "--data.cache_dir",
        str(cache),
        "--trainer.max_steps",
        "1",
    )
    main(["fit", *options, "--run_dir", str(tmp_path / "one")])
    (path,) = cache.iterdir()
    path.write_bytes(plain(Crafted(marker)))
    main(["fit", *options, "--run_dir", str(tmp_path / "two")])
    assert path.suffix in SUFFIXES
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "run_dir: !!python/object/apply:os.mkdir ['{}']",
        "model: !!python/object/apply:os.mkdir ['{}']",
        "model: {{network: {{class_path: os.mkdir, init_args: {{path: '{}'}}}}}}",
        "model: {{dynamics: {{class_path: subprocess.Popen, init_args: {{args: [mkdir, '{}']}}}}}}",
        "data: {{class_path: pathlib.Path, init_args: {{args: '{}'}}}}",
        "trainer: {{callbacks: [{{class_path: os.mkdir, init_args: {{path: '{}'}}}}]}}",
        "trainer: {{logger: {{class_path: subprocess.Popen, init_args: {{args: [mkdir, '{}']}}}}}}",
        "trainer: {{plugins: [{{class_path: subprocess.Popen, init_args: {{args: [mkdir, '{}']}}}}]}}",
    ],
)
def test_a_configuration_runs_no_code(
    text: str, tmp_path: Path, run: Path, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "crafted.yaml"
    path.write_text(text.format(marker))
    attempt("fit", "--config", str(CONFIG), "--config", str(path), "--run_dir", str(run))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pdd-cli: error: ")
    assert not run.exists()
    assert not marker.exists()
