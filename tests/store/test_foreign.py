"""Files of others are read without running what they hold."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pdd_lightning.errors import DataError
from pdd_lightning.store.foreign import read_foreign

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4)


class Crafted:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def save_npz(path: Path, **arrays: Any) -> None:
    np.savez(path, **arrays)


def test_every_form_gives_its_tensors(tmp_path: Path) -> None:
    torch.save(torch.nn.Parameter(IMAGES), tmp_path / "one.pt")
    torch.save({"data": [[IMAGES, LABELS]], "lr": 0.5, "note": "of a method"}, tmp_path / "nested.pt")
    save_npz(tmp_path / "a.npz", images=IMAGES.numpy().astype(">f4"), note=np.array("text"))
    np.save(tmp_path / "labels.npy", LABELS.numpy())
    save_file({"images": IMAGES}, tmp_path / "a.safetensors")
    forms: dict[str, dict[str, torch.Tensor]] = {
        "one.pt": {"": IMAGES},
        "nested.pt": {"data.0.0": IMAGES, "data.0.1": LABELS, "lr": torch.tensor(0.5).double()},
        "a.npz": {"images": IMAGES},
        "labels.npy": {"": LABELS},
        "a.safetensors": {"images": IMAGES},
    }
    for name, wanted in forms.items():
        found = read_foreign(tmp_path / name)
        assert found.keys() == wanted.keys(), name
        assert all(torch.equal(found[key], wanted[key]) and not found[key].requires_grad for key in wanted), name


def crafted_pt(path: Path, marker: Path) -> None:
    torch.save({"images": IMAGES, "more": Crafted(marker)}, path)


def crafted_old_pt(path: Path, marker: Path) -> None:
    torch.save(Crafted(marker), path, _use_new_zipfile_serialization=False)


def a_network(path: Path, marker: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), path)


def numpy_scalars(path: Path, marker: Path) -> None:
    torch.save({"data": IMAGES, "accuracy": np.float64(0.5)}, path)


@pytest.mark.parametrize("write", [crafted_pt, crafted_old_pt, a_network, numpy_scalars])
def test_a_pt_file_with_more_than_tensors_is_refused(write: Callable[[Path, Path], None], tmp_path: Path) -> None:
    path, marker = tmp_path / "images.pt", tmp_path / "marker"
    write(path, marker)
    with pytest.raises(DataError, match=r"holds more than tensors; save images and labels with torch.save\(tensor\)"):
        read_foreign(path)
    assert not marker.exists()


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    save_npz(tmp_path / "a.npz", images=np.array([Crafted(marker)], dtype=object))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Crafted(marker)))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(DataError, match="holds more than arrays of numbers"):
            read_foreign(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["junk.pt", "empty.pt", "junk.safetensors", "junk.npy"])
def test_damaged_files_are_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if name.startswith("empty") else b"junk")
    with pytest.raises(DataError) as raised:
        read_foreign(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path) -> None:
    tensors = {
        "repeats its numbers": torch.zeros(1).expand(10**12),  # a file of a kilobyte
        "no plain array": torch.zeros(3, device="meta"),
        "is no plain array": torch.zeros(3, dtype=torch.complex64),
    }
    for words, tensor in tensors.items():
        torch.save(tensor, tmp_path / "a.pt")
        with pytest.raises(DataError, match=words):
            read_foreign(tmp_path / "a.pt")


def test_other_kinds_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.mat: give \.pt, .*\.safetensors, or a folder"):
        read_foreign(tmp_path / "a.mat")
    with pytest.raises(DataError, match="there is no such file"):
        read_foreign(tmp_path / "a.pt")
