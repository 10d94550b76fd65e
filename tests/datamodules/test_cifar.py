"""CIFAR's archives: read, fetched, and refused where they are missing or damaged."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100  # type: ignore[import-untyped]

from pdd_lightning.datamodules import CIFAR10Data, CIFAR100Data
from pdd_lightning.errors import DataError

Write = Callable[[type[Any], Path], None]


def rows(count: int, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a small archive in the published format and lets torchvision expect its checksums."""

    def write_archive(source: type[Any], root: Path) -> None:
        folder = root / source.base_folder
        folder.mkdir(parents=True)
        label_key = "fine_labels" if source is CIFAR100 else "labels"

        def dump(name: str, content: dict[str, Any]) -> str:
            content_bytes = pickle.dumps(content)
            (folder / name).write_bytes(content_bytes)
            return hashlib.md5(content_bytes).hexdigest()

        def batch(name: str, seed: int) -> list[str]:
            content = {"data": rows(20, seed), label_key: [i % 10 for i in range(20)]}
            return [name, dump(name, content | {"coarse_labels": [0] * 20})]

        names = [f"name {i}" for i in range(10)]
        train = [batch(name, seed) for seed, (name, _) in enumerate(source.train_list)]
        test = [batch(name, 100) for name, _ in source.test_list]
        md5 = dump(source.meta["filename"], {source.meta["key"]: names})
        monkeypatch.setattr(source, "train_list", train)
        monkeypatch.setattr(source, "test_list", test)
        monkeypatch.setattr(source, "meta", source.meta | {"md5": md5})

    return write_archive


@pytest.mark.parametrize(("data_class", "source", "batches"), [(CIFAR10Data, CIFAR10, 5), (CIFAR100Data, CIFAR100, 1)])
def test_reads_the_archive(
    data_class: type[CIFAR10Data], source: type[Any], batches: int, write: Write, tmp_path: Path
) -> None:
    write(source, tmp_path)
    raw = data_class(str(tmp_path)).load_raw()
    assert raw.train_images.shape == (20 * batches, 3, 32, 32)
    assert raw.train_images.is_contiguous()
    assert torch.equal(raw.train_images[:20].flatten(1), torch.from_numpy(rows(20, 0)))
    assert torch.equal(raw.test_images.flatten(1), torch.from_numpy(rows(20, 100)))
    assert raw.test_labels.tolist() == [i % 10 for i in range(20)]
    assert raw.class_names == tuple(f"name {i}" for i in range(10))


def test_the_place_does_not_reach_the_fingerprint(write: Write, tmp_path: Path) -> None:
    write(CIFAR10, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    data = CIFAR10Data(str(tmp_path / "b"))
    data.setup()
    before = data.fingerprint
    (tmp_path / "b").rename(tmp_path / "c")
    moved = CIFAR10Data(str(tmp_path / "c"))
    moved.setup()
    assert moved.fingerprint == before


def test_an_archive_that_is_there_is_not_fetched(write: Write, tmp_path: Path) -> None:
    write(CIFAR10, tmp_path)
    data = CIFAR10Data(str(tmp_path), download=True)
    data.prepare_data()
    data.setup()
    assert data.num_classes == 10


@pytest.mark.parametrize("data_class", [CIFAR10Data, CIFAR100Data])
def test_a_missing_root(data_class: type[CIFAR10Data], tmp_path: Path) -> None:
    data = data_class(str(tmp_path / "nowhere"))
    data.prepare_data()
    with pytest.raises(DataError, match=r"root=.*nowhere.*`download: true`"):
        data.setup()
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_file(write: Write, tmp_path: Path) -> None:
    write(CIFAR10, tmp_path)
    (tmp_path / CIFAR10.base_folder / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged"):
        CIFAR10Data(str(tmp_path)).setup()


def test_a_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(CIFAR10, "download", fail)
    with pytest.raises(DataError, match=r"download=true.*no route.*`download: false`"):
        CIFAR10Data(str(tmp_path), download=True).prepare_data()
