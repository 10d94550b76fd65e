"""Which folders are classes and which files their images: nothing is dropped without a word."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
import torch
from PIL import Image

from pdd_lightning.datamodules import ImageFolderData, TinyImageNetData
from pdd_lightning.datamodules.class_folders import class_names, printable
from pdd_lightning.datamodules.raw import RawData
from pdd_lightning.errors import ConfigError, DataError


def save(path: Path, level: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8), (level, 0, 9) if mode == "RGB" else level).save(path, "PNG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, count in (("train", 4), ("test", 2)):
        for label, name in enumerate("abc"):
            for number in range(count):
                save(tmp_path / "set" / part / name / f"{number}.png", 60 * label + number + 1)
    return tmp_path / "set"


@pytest.fixture
def flat(root: Path, tmp_path: Path) -> Path:
    return (root / "train").rename(tmp_path / "flat")


def rename(root: Path, old: str, new: str) -> None:
    for part in ("train", "test"):
        (root / part / old).rename(root / part / new)


def test_a_name_that_is_no_text_is_made_readable(root: Path) -> None:
    """Bytes that are no UTF-8 come as lone surrogates, which neither a font nor UTF-8 knows."""
    rename(root, "a", os.fsdecode(b"caf\xe9"))
    data = ImageFolderData(str(root))
    data.setup()
    assert data.class_names == ("b", "c", r"caf\xe9")
    assert json.loads(json.dumps(data.class_names, ensure_ascii=False).encode()) == ["b", "c", r"caf\xe9"]


def test_names_stay_different() -> None:
    odd = os.fsdecode(b"caf\xe9")
    assert class_names([r"caf\xe9", odd, "a"]) == (r"caf\xe9", r"caf\xe9 (2)", "a")
    assert class_names([r"caf\xe9", odd, r"caf\xe9 (2)"]) == (r"caf\xe9", r"caf\xe9 (2)", r"caf\xe9 (2) (2)")
    assert printable("猫 é") == "猫 é"


@pytest.mark.parametrize("link", ["train", "test", "train/b", "test/b", "train/b/1.png", "test/b/1.png"])
def test_a_link_that_leads_nowhere_is_named(link: str, root: Path) -> None:
    check_link(root, root / link)


@pytest.mark.parametrize("link", ["b", "b/1.png"])
def test_a_link_that_leads_nowhere_is_named_in_a_flat_folder(link: str, flat: Path) -> None:
    check_link(flat, flat / link)


def check_link(root: Path, link: Path) -> None:
    shutil.rmtree(link) if link.is_dir() else link.unlink()
    link.symlink_to("gone/away")
    with pytest.raises(DataError, match=rf"{link}: is a link to gone/away, which does not exist\. Bring back"):
        ImageFolderData(str(root)).load_raw()


@pytest.mark.parametrize("below", ["", "below"])
def test_a_root_that_leads_nowhere_is_named(below: str, tmp_path: Path) -> None:
    (tmp_path / "set").symlink_to("gone/away")
    with pytest.raises(DataError, match=rf"{tmp_path / 'set'}: is a link to gone/away, which does not exist"):
        ImageFolderData(str(tmp_path / "set" / below)).load_raw()


def test_links_that_lead_somewhere_are_followed(root: Path, tmp_path: Path) -> None:
    expected = ImageFolderData(str(root)).load_raw()
    (root / "train" / "b").rename(tmp_path / "elsewhere")
    (root / "train" / "b").symlink_to(tmp_path / "elsewhere")
    assert torch.equal(ImageFolderData(str(root)).load_raw().train_images, expected.train_images)


def test_one_class_is_refused_before_a_file_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("train", "test"):
        for name in "bc":
            shutil.rmtree(root / part / name)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(DataError, match=rf"root='{root}': holds one class only, a\. Add images of at least one other"):
        ImageFolderData(str(root)).load_raw()


def test_no_data_set_has_one_class() -> None:
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(DataError, match=r"\['a'\]: at least two are needed"):
        RawData(images, labels, images, labels, ("a",))


def test_names_are_compared_in_one_unicode_form(root: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    (root / "train" / "a").rename(root / "train" / composed)
    (root / "test" / "a").rename(root / "test" / decomposed)
    raw = ImageFolderData(str(root)).load_raw()
    assert raw.class_names == ("b", "c", composed)
    assert raw.test_images[:, 0, 0, 0].tolist() == [61, 62, 121, 122, 1, 2]
    (root / "train" / "b").rename(root / "train" / decomposed)
    with pytest.raises(DataError, match=rf"{root / 'train'} holds two folders .* called {composed}, .*Move the images"):
        ImageFolderData(str(root)).load_raw()


def test_notes_beside_the_images_are_passed_over(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = ImageFolderData(str(root)).load_raw()
    assert not caplog.text
    note = root / "train" / "a" / "notes.txt"
    note.write_text("not an image")
    (root / "train" / "a" / "README").write_text("not an image")
    (root / "test" / "labels.csv").write_text("not a class")
    data = ImageFolderData(str(root))
    data.setup()
    assert torch.equal(data.load_raw().train_images, expected.train_images)
    line = f"passed over, as no images by their names or in no class folder: {note.with_name('README')} and 2 more"
    assert caplog.messages[0] == f"ImageFolderData: {line}"


@pytest.mark.parametrize("name", ["x.png", "x.JPG", "x.heic", "x.svg", "x.jxl", "x.CR2", "x.dng", "x.exr", "x.hif"])
def test_what_is_called_an_image_must_be_one(name: str, root: Path) -> None:
    (root / "train" / "a" / name).write_text("not an image")
    with pytest.raises(DataError, match=rf"train/a/{name}: cannot be read as an image"):
        ImageFolderData(str(root)).load_raw()


def test_pictures_of_a_camera_for_two_eyes_are_read(root: Path) -> None:
    """Pillow knows their contents, not their name."""
    Image.new("RGB", (8, 8)).save(root / "train" / "a" / "x.mpo")
    assert len(ImageFolderData(str(root)).load_raw().train_images) == 13


@pytest.mark.parametrize("cached", [False, True])
def test_a_pipe_is_not_waited_for(cached: bool, root: Path, tmp_path: Path) -> None:
    pipe = root / "train" / "a" / "x"
    os.mkfifo(pipe)
    data = ImageFolderData(str(root), cache_dir=str(tmp_path / "cache") if cached else None)
    assert len(data.load_raw().train_images) == 12
    pipe.rename(pipe.with_suffix(".png"))
    with pytest.raises(DataError, match=r"train/a/x\.png: cannot be read as an image \(it is a pipe or a device"):
        data.load_raw()


def test_an_image_needs_no_ending(root: Path) -> None:
    (root / "train" / "a" / "0.png").rename(root / "train" / "a" / "0")
    assert len(ImageFolderData(str(root)).load_raw().train_images) == 12


def test_a_class_of_notes_only_is_empty(root: Path) -> None:
    shutil.rmtree(root / "test" / "b")
    (root / "test" / "b").mkdir()
    (root / "test" / "b" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"test/b holds no images, only files such as notes\.txt\. Add some"):
        ImageFolderData(str(root)).load_raw()


def test_a_folder_among_the_images_is_refused(root: Path) -> None:
    (root / "train" / "b" / "more").mkdir()
    with pytest.raises(DataError, match=r"train/b/more: cannot be read as an image \(it is a folder"):
        ImageFolderData(str(root)).load_raw()


def test_a_flat_folder_is_split_by_seed(flat: Path, caplog: pytest.LogCaptureFixture) -> None:
    def read(**options: float) -> ImageFolderData:
        data = ImageFolderData(str(flat), validation_fraction=0, **options)  # type: ignore[arg-type]
        data.setup()
        return data

    half = read(test_fraction=0.5)
    assert half.class_names == ("a", "b", "c")
    assert half.train.labels.tolist() == half.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    levels = half.preprocessing.invert(torch.cat([half.train.images, half.test.images]))[:, 0, 0, 0].mul(255).round()
    assert sorted(levels.tolist()) == [60 * label + n + 1 for label in range(3) for n in range(4)]
    assert len(caplog.messages) == 1
    assert (
        "6 of 12 images, test_fraction=0.5 of each class, are held out as the test set by split_seed=0" in caplog.text
    )
    assert half.fingerprint == read(test_fraction=0.5).fingerprint
    assert half.fingerprint != read(test_fraction=0.25).fingerprint
    assert half.fingerprint != read(test_fraction=0.5, split_seed=1).fingerprint


def test_a_flat_folder_must_leave_a_test_image_of_each_class(flat: Path) -> None:
    (flat / "b" / "3.png").unlink()
    (flat / "b" / "2.png").unlink()
    with pytest.raises(
        DataError, match=r"test_fraction=0\.2: leaves class b without a test image, for it has 2 in all"
    ):
        ImageFolderData(str(flat)).load_raw()


@pytest.mark.parametrize("missing", ["train", "test"])
def test_half_a_data_set_is_not_split(missing: str, root: Path) -> None:
    shutil.rmtree(root / missing)
    with pytest.raises(DataError, match=f"there is no folder {root / missing}"):
        ImageFolderData(str(root)).load_raw()


def test_the_folder_above_a_data_set_is_not_taken_for_one(root: Path) -> None:
    with pytest.raises(DataError, match=f"there is no folder {root.parent / 'train'}"):
        ImageFolderData(str(root.parent)).load_raw()


def test_test_fraction_outside_its_range() -> None:
    with pytest.raises(ConfigError, match=r"test_fraction=1\.0: must be above 0 and below 1"):
        ImageFolderData("anywhere", test_fraction=1.0)


def make_grey(root: Path, keep: int = 0) -> None:
    for path in sorted(root.rglob("*.png"))[keep:]:
        Image.open(path).convert("L").save(path)


def test_grey_images_are_read_as_grey_and_said_to_be(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_grey(root)
    data = ImageFolderData(str(root), cache_dir=str(tmp_path / "cache"))
    data.prepare_data()
    data.setup()
    assert data.image_shape == (1, 8, 8)
    assert caplog.messages == [
        "ImageFolderData: all 18 images are grey and read as one channel; grey=false reads them as colour"
    ]
    colour = ImageFolderData(str(root), grey=False)
    colour.setup()
    assert colour.image_shape == (3, 8, 8)
    forced = ImageFolderData(str(root), grey=True)
    forced.setup()
    assert forced.fingerprint == data.fingerprint
    assert len(caplog.messages) == 1


def test_mostly_grey_images_are_read_as_colour_and_said_to_be(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_grey(root, keep=2)
    assert ImageFolderData(str(root)).load_raw().train_images.shape[1] == 3
    assert "16 of 18 images are grey, the others are not: all are read as colour; grey=true" in caplog.text


def test_only_the_first_process_speaks(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_grey(root)
    monkeypatch.setenv("LOCAL_RANK", "1")
    ImageFolderData(str(root)).setup()
    assert not caplog.messages


def test_tiny_imagenet_stays_in_colour(tmp_path: Path) -> None:
    lines = []
    for wnid in ("n1", "n2"):
        save(tmp_path / "train" / wnid / "images" / "0.JPEG", 9, "L")
        save(tmp_path / "val" / "images" / f"{wnid}.JPEG", 9, "L")
        lines.append(f"{wnid}.JPEG\t{wnid}\n")
    (tmp_path / "wnids.txt").write_text("n1\nn2\n")
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    assert TinyImageNetData(str(tmp_path)).load_raw().train_images.shape == (2, 3, 8, 8)
