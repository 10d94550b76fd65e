"""Tensors that are built once and kept."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pdd_lightning.errors import DataError
from pdd_lightning.store.files import cached, remove_unfinished
from pdd_lightning.types import State


class Builder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> State:
        self.calls += 1
        return {"images": torch.arange(12, dtype=torch.uint8), "mean": torch.ones(3)}


def test_builds_once(tmp_path: Path) -> None:
    build = Builder()
    first = cached(str(tmp_path / "new"), "x", build)
    second = cached(str(tmp_path / "new"), "x", build)
    assert build.calls == 1
    assert all(torch.equal(first[name], second[name]) for name in ("images", "mean"))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.safetensors"]


def test_without_a_folder_nothing_is_kept() -> None:
    build = Builder()
    cached(None, "x", build)
    cached(None, "x", build)
    assert build.calls == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage", "empty", "foreign"])
def test_a_damaged_file_is_rebuilt(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    build = Builder()
    cached(str(tmp_path), "x", build)
    path = tmp_path / "x.safetensors"
    content = path.read_bytes()
    if damage == "foreign":
        save_file({"images": torch.zeros(3)}, path)
    else:
        path.write_bytes(
            {
                "truncated": content[:-5],
                "flipped": content[:-1] + bytes([content[-1] ^ 1]),
                "garbage": b"\x00garbage" * 9,
                "empty": b"",
            }[damage]
        )
    again = cached(str(tmp_path), "x", build)
    assert build.calls == 2
    assert torch.equal(again["images"], torch.arange(12, dtype=torch.uint8))
    assert f"Rebuilding a cache file: {path}" in caplog.text
    cached(str(tmp_path), "x", build)
    assert build.calls == 2


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> State:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cached(str(tmp_path), "x", fail)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cache_dir=.*file.*cache_dir: null"):
        cached(str(tmp_path / "file"), "x", Builder())


def kill_while_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a process leaves in a cache that was killed before it renamed its temporary file."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            cached(str(folder), "x", Builder())
    (left,) = folder.iterdir()
    return left


def test_unfinished_files_of_a_cache_in_a_run_are_swept_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = kill_while_writing(tmp_path / "cache", monkeypatch)
    remove_unfinished(tmp_path, tmp_path / "experts")
    assert not left.exists()


def test_unfinished_files_of_a_cache_elsewhere_go_when_they_are_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = kill_while_writing(tmp_path, monkeypatch)
    cached(str(tmp_path), "y", Builder())
    assert left.exists(), "another process may be writing it"
    os.utime(left, (1, 1))
    foreign = tmp_path / ".notes.tmp"
    foreign.touch()
    os.utime(foreign, (1, 1))
    cached(str(tmp_path), "z", Builder())
    assert not left.exists()
    assert foreign.exists()
