"""Files: whole or not there, and checked when read."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pdd_lightning.errors import ArtifactError
from pdd_lightning.store.files import (
    FORMAT,
    atomic_write,
    folder_bytes,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)

TENSORS = {"weight": torch.randn(3, 4), "count": torch.tensor([1, 2])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.safetensors"


# Writing


def no_space(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("module", "function"), [(os, "replace"), (os, "fsync")], ids=str)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    module: Any, function: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write(path, b"old")
    monkeypatch.setattr(module, function, no_space)
    with pytest.raises(ArtifactError, match=f"cannot write {path}: No space left on device.*--run_dir"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"cannot write .*file/below/it"):
        atomic_write(tmp_path / "file" / "below" / "it", b"")


def test_files_have_the_permissions_that_the_user_gives_new_files(path: Path, tmp_path: Path) -> None:
    atomic_write(path, b"")
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


# Tensors


def test_tensors_and_metadata_come_back(path: Path) -> None:
    write_tensors(path, TENSORS, {"who": "me"})
    tensors, metadata = read_tensors(path, TENSORS)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert metadata == {"format": str(FORMAT), "who": "me"}


def test_tensors_of_any_layout_are_written(path: Path) -> None:
    turned, leaf, part = torch.randn(2, 3).T, torch.randn(2).requires_grad_(), torch.randn(4, 2)[1:3]
    write_tensors(path, {"turned": turned, "leaf": leaf, "part": part})
    tensors, _ = read_tensors(path)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in {"turned": turned, "part": part}.items())
    assert torch.equal(tensors["leaf"], leaf.detach())


def test_the_same_content_gives_the_same_bytes(path: Path) -> None:
    """A stage that is made again as it was has the old digest, and the later stages still suit it."""
    files = set()
    for _ in range(10):
        write_tensors(path, TENSORS, {"a": "x", "b": "\u00fc", "c": "z"})
        files.add(path.read_bytes())
    assert len(files) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def truncate_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit_of_the_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] ^= 1  # where the header's JSON opens
    path.write_bytes(data)


def make_newer(path: Path) -> None:
    save_file(TENSORS, path, {"format": str(FORMAT + 1)})


def make_foreign(path: Path) -> None:
    save_file(TENSORS, path)


def remove(path: Path) -> None:
    path.unlink()


def store_others(path: Path) -> None:
    write_tensors(path, {"weight": torch.ones(2)})


def store_nan(path: Path) -> None:
    write_tensors(path, {**TENSORS, "weight": torch.tensor([1.0, float("nan")])})


def store_infinity(path: Path) -> None:
    write_tensors(path, {**TENSORS, "weight": torch.tensor([1.0, float("inf")])})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "is damaged .*restore it"),
        (truncate_to_nothing, "is damaged .*restore it"),
        (flip_a_bit_of_the_header, "is damaged .*restore it"),
        (make_newer, f"has format {FORMAT + 1}, written by another release, and this one reads format {FORMAT}"),
        (make_foreign, "has format None"),
        (remove, "does not exist; restore it"),
        (store_others, r"holds \['weight'\], expected \['count', 'weight'\]; restore it"),
        (store_nan, "weight has values that are not finite; restore it"),
        (store_infinity, "weight has values that are not finite; restore it"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_file_is_named_with_a_remedy(harm: Any, message: str, path: Path) -> None:
    write_tensors(path, TENSORS)
    harm(path)
    with pytest.raises(ArtifactError, match=f"{path}.*{message}"):
        read_tensors(path, TENSORS)


# JSON


def test_json_comes_back(path: Path) -> None:
    write_json(path, {"a": [1, None, "x"]})
    assert read_json(path) == {"a": [1, None, "x"]}


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_bad_json_is_named_with_a_remedy(text: str, path: Path) -> None:
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=f"{path} .*delete it"):
        read_json(path)


def test_json_refuses_what_is_not_a_number(path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"accuracy": float("nan")})


# Sizes


def test_bytes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"1")
    assert folder_bytes(tmp_path) == 6
    assert folder_bytes(tmp_path / "missing") == 0
