"""A folder of images: order, sizes, channels, and the cache of what was decoded."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pdd_lightning.datamodules import ImageFolderData, decoding
from pdd_lightning.datamodules.class_folders import natural_key
from pdd_lightning.errors import ConfigError, DataError

CLASSES = ("1", "2", "10")


def save(path: Path, level: int, size: tuple[int, int] = (6, 6)) -> None:
    """Writes an image of one level, with size given as (width, height); the blue is a little off, so it is no grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), level, dtype=np.uint8)
    pixels[:, :, 2] ^= 1
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for label, name in enumerate(CLASSES):
        for number in range(5):
            save(root / "train" / name / f"{number}.png", 50 * label + number)
        for number in range(2):
            save(root / "test" / name / f"{number}.png", 50 * label + 20 + number)
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "1" / ".listing").write_text("not an image")
    (root / "train" / "readme.txt").write_text("not a class")
    return root


def test_reads_classes_in_natural_order(root: Path) -> None:
    raw = ImageFolderData(str(root)).load_raw()
    assert raw.class_names == CLASSES
    assert raw.train_images.shape == (15, 3, 6, 6)
    assert raw.train_images[:, 1, 2, 3].tolist() == [50 * label + n for label in range(3) for n in range(5)]
    assert raw.test_images[:, 1, 2, 3].tolist() == [50 * label + 20 + n for label in range(3) for n in range(2)]
    assert raw.train_labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert raw.test_labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_natural_order() -> None:
    names = ["b", "10", "a10", "2", "a2", "02", "a", "x\N{SUPERSCRIPT TWO}"]
    assert sorted(names, key=natural_key) == ["02", "2", "10", "a", "a2", "a10", "b", "x\N{SUPERSCRIPT TWO}"]


def test_one_grey_channel(root: Path) -> None:
    raw = ImageFolderData(str(root), grey=True).load_raw()
    assert raw.train_images.shape == (15, 1, 6, 6)
    assert int(raw.train_images[7, 0, 0, 0]) == 52


def test_resizes_mixed_sizes(root: Path) -> None:
    save(root / "train" / "2" / "3.png", 53, size=(9, 5))
    raw = ImageFolderData(str(root), image_size=4).load_raw()
    assert raw.train_images.shape == (15, 3, 4, 4)
    assert raw.train_images[:, 0, 1, 1].tolist()[5:10] == [50, 51, 52, 53, 54]


def test_shrinking_averages(tmp_path: Path) -> None:
    stripes = np.zeros((16, 16, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    for part in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / part).mkdir(parents=True)
        Image.fromarray(stripes).save(tmp_path / part / "0.png")
    raw = ImageFolderData(str(tmp_path), image_size=4).load_raw()
    assert (raw.train_images.float() - 100).abs().max() < 15


def test_order_survives_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BATCH", 3)
    files = [tmp_path / f"{number}.png" for number in range(50)]
    for number, path in enumerate(files):
        save(path, number)
    assert decoding.load_images(files)[0][:, 0, 0, 0].tolist() == list(range(50))


def test_cache(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    plain = ImageFolderData(str(root))
    plain.setup()
    first = ImageFolderData(str(root), cache_dir=str(cache))
    first.prepare_data()
    (file,) = cache.iterdir()
    second = ImageFolderData(str(root), cache_dir=str(cache))
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", None)
        second.setup()
    file.write_bytes(file.read_bytes()[:100])
    rebuilt = ImageFolderData(str(root), cache_dir=str(cache))
    rebuilt.setup()
    for data in (first, second, rebuilt):
        assert torch.equal(data.train.images, plain.train.images)
        assert torch.equal(data.test.images, plain.test.images)
        assert data.fingerprint == plain.fingerprint


def test_cache_follows_files_and_settings_but_not_the_place(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def entries(place: Path, image_size: int | None = None, grey: bool | None = None) -> int:
        ImageFolderData(str(place), image_size=image_size, grey=grey, cache_dir=str(cache)).load_raw()
        return len(list(cache.iterdir()))

    assert entries(root) == 1
    moved = root.rename(tmp_path / "moved")
    assert entries(moved) == 1
    assert entries(moved, image_size=3) == 2
    assert entries(moved, grey=True) == 3
    assert entries(moved, grey=False) == 4
    os.utime(moved / "train" / "2" / "0.png", (1, 1))
    assert entries(moved) == 4
    save(moved / "train" / "2" / "0.png", 99)
    assert entries(moved) == 5
    (moved / "train" / "2" / "0.png").rename(moved / "train" / "2" / "9.png")
    assert entries(moved) == 6, "the images have another order"


@pytest.mark.parametrize("change", ["another data set", "edited in place"])
@pytest.mark.parametrize("zca", [False, True])
def test_a_cache_is_known_by_contents_not_by_names_sizes_and_times(
    change: str, zca: bool, root: Path, tmp_path: Path
) -> None:
    """Archives that can be made again bear one time throughout, and uncompressed images have one size."""

    def write(place: Path, mirror: bool) -> None:
        for path in [*root.rglob("*.png")]:
            bitmap = (place / path.relative_to(root)).with_suffix(".bmp")
            bitmap.parent.mkdir(parents=True, exist_ok=True)
            image = Image.open(path)
            (ImageOps.invert(image) if mirror else image).save(bitmap)
            os.utime(bitmap, (1, 1))

    def fingerprint(place: Path, cache_dir: Path | None) -> str:
        data = ImageFolderData(str(place), zca=zca, cache_dir=None if cache_dir is None else str(cache_dir))
        data.prepare_data()
        data.setup()
        return data.fingerprint

    first = tmp_path / "first"
    second = tmp_path / "second" if change == "another data set" else first
    write(first, False)
    before = fingerprint(first, tmp_path / "cache")
    assert before == fingerprint(first, None)
    write(second, True)
    assert fingerprint(second, tmp_path / "cache") == fingerprint(second, None) != before


def test_the_fingerprint_ignores_the_place(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    first, second = ImageFolderData(str(root)), ImageFolderData(str(tmp_path / "copy"))
    first.setup()
    second.setup()
    assert first.fingerprint == second.fingerprint


def test_sizes_that_differ_are_named(root: Path) -> None:
    save(root / "test" / "10" / "1.png", 0, size=(9, 6))
    with pytest.raises(DataError, match=r"train/1/0\.png is 6x6 .*test/10/1\.png is 9x6.*`image_size: 6`"):
        ImageFolderData(str(root)).load_raw()


def test_images_that_are_not_square(tmp_path: Path) -> None:
    for part in ("train/a", "train/b", "test/a", "test/b"):
        save(tmp_path / part / "0.png", 0, size=(9, 6))
    with pytest.raises(DataError, match=r"0\.png is 9x6 .*square.*`image_size`"):
        ImageFolderData(str(tmp_path)).load_raw()
    assert ImageFolderData(str(tmp_path), image_size=6).load_raw().test_images.shape == (2, 3, 6, 6)


@pytest.mark.parametrize("damage", ["text", "truncated", "folder"])
@pytest.mark.parametrize("position", [("1", 0), ("10", 4)])
def test_unreadable_files_are_named(root: Path, damage: str, position: tuple[str, int]) -> None:
    path = root / "train" / position[0] / f"{position[1]}.png"
    if damage == "text":
        path.write_text("not an image")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-25])
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(DataError, match=rf"train/{position[0]}/{position[1]}\.png: cannot be read"):
        ImageFolderData(str(root)).load_raw()


def test_classes_that_differ_are_listed(root: Path) -> None:
    (root / "test" / "10").rename(root / "test" / "11")
    save(root / "test" / "3" / "0.png", 0)
    with pytest.raises(DataError, match=r"Only in train: 10; only in test: 3, 11\."):
        ImageFolderData(str(root)).load_raw()


@pytest.mark.parametrize("missing", ["", "train", "test"])
def test_missing_folders_are_named(root: Path, missing: str) -> None:
    shutil.rmtree(root / missing)
    with pytest.raises(DataError, match=rf"root='{root}': there is no folder {root / missing}\."):
        ImageFolderData(str(root)).load_raw()


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_classes_are_named(root: Path, part: str) -> None:
    shutil.rmtree(root / part / "2")
    (root / part / "2").mkdir()
    with pytest.raises(DataError, match=rf"{part}/2 holds no images"):
        ImageFolderData(str(root)).load_raw()


def test_no_classes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train holds no class folders"):
        ImageFolderData(str(tmp_path)).load_raw()


def test_image_size_outside_its_range() -> None:
    with pytest.raises(ConfigError, match="image_size=0"):
        ImageFolderData("anywhere", image_size=0)
