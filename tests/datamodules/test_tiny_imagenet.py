"""Tiny ImageNet's archive: read, cached, and refused where it is damaged."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pdd_lightning.datamodules import TinyImageNetData
from pdd_lightning.errors import DataError

WNIDS = ("n02124075", "n01443537", "n04067472")  # in no order, as in the archive
FIRST, SECOND, THIRD = sorted(WNIDS)


def save(path: Path, level: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (8, 8) if mode == "L" else (8, 8, 3)
    Image.fromarray(np.full(shape, level, dtype=np.uint8), mode).save(path, "JPEG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-imagenet-200"
    for label, wnid in enumerate(sorted(WNIDS)):
        for number in range(4):
            grey = "L" if number == 0 else "RGB"
            save(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", 50 * label + number, grey)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("\n")
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (folder / "words.txt").write_text(f"{FIRST}\tgoldfish, Carassius auratus\n{SECOND}\tEgyptian cat\nn0\tx\n")
    lines = []
    for number, label in enumerate([2, 0, 1, 0]):
        save(folder / "val" / "images" / f"val_{number}.JPEG", 50 * label + 20)
        lines.append(f"val_{number}.JPEG\t{sorted(WNIDS)[label]}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("parent", [False, True])
def test_reads_the_archive(folder: Path, parent: bool) -> None:
    raw = TinyImageNetData(str(folder.parent if parent else folder)).load_raw()
    assert raw.train_images.shape == (12, 3, 8, 8)
    assert raw.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert raw.test_labels.tolist() == [2, 0, 1, 0]
    # The levels tell that every image went with its own label.
    assert torch.equal((raw.train_images[:, 0, 0, 0] + 10) // 50, raw.train_labels)
    assert torch.equal(raw.test_images[:, 0, 0, 0] // 50, raw.test_labels)
    assert raw.class_names == ("goldfish", "Egyptian cat", THIRD)


def test_words_are_optional(folder: Path) -> None:
    (folder / "words.txt").unlink()
    assert TinyImageNetData(str(folder)).load_raw().class_names == (FIRST, SECOND, THIRD)


def test_the_cache_gives_the_same(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = TinyImageNetData(str(folder), cache_dir=str(tmp_path / "cache"))
    data.prepare_data()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    again = TinyImageNetData(str(folder), cache_dir=str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        again.setup()
    fresh = TinyImageNetData(str(folder))
    fresh.setup()
    for read in (data, again):
        assert torch.equal(read.train.images, fresh.train.images)
        assert read.fingerprint == fresh.fingerprint


def test_the_cache_notices_an_image_edited_in_place(folder: Path, tmp_path: Path) -> None:
    path = folder / "train" / FIRST / "images" / f"{FIRST}_1.JPEG"

    def level() -> int:
        data = TinyImageNetData(str(folder), cache_dir=str(tmp_path / "cache"))
        data.setup()
        return int(data.load_raw().train_images[1, 0, 0, 0])

    assert level() == 1
    size = path.stat().st_size
    os.utime(path, (1, 1))
    save(path, 9)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    os.utime(path, (1, 1))
    assert level() == 9


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"root=.*nowhere.*wnids\.txt"):
        TinyImageNetData(str(tmp_path / "nowhere")).setup()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no class", rf"train/{SECOND}/images"),
        ("no annotations", "val_annotations.txt"),
        ("empty annotations", "val_annotations.txt is empty"),
        ("unknown class", "'n999', which wnids.txt lacks"),
        ("no val image", r"val_2\.JPEG: cannot be read"),
        ("binary wnids", "cannot read .*wnids.txt"),
    ],
)
@pytest.mark.parametrize("cache", [False, True])
def test_damaged_archives(folder: Path, tmp_path: Path, damage: str, message: str, cache: bool) -> None:
    annotations = folder / "val" / "val_annotations.txt"
    if damage == "no class":
        for path in (folder / "train" / SECOND / "images").iterdir():
            path.unlink()
    elif damage == "no annotations":
        annotations.unlink()
    elif damage == "empty annotations":
        annotations.write_text("")
    elif damage == "unknown class":
        annotations.write_text("val_0.JPEG\tn999\t0\t0\t1\t1\n")
    elif damage == "no val image":
        (folder / "val" / "images" / "val_2.JPEG").unlink()
    else:
        (folder / "wnids.txt").write_bytes(b"\xff\xfe\xff")
    cache_dir = str(tmp_path / "cache") if cache else None
    with pytest.raises(DataError, match=message):
        TinyImageNetData(str(folder), cache_dir=cache_dir).setup()
