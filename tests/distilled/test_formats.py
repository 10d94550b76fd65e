"""Every format: what is read back, what other libraries make of it, and what is refused."""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import pdd_lightning as pdd
from pdd_lightning.datamodules.preprocessing import Preprocessing
from pdd_lightning.distilled import DistilledSet
from pdd_lightning.distilled.about import About
from pdd_lightning.distilled.eight_bits import Loss
from pdd_lightning.distilled.formats import FORMATS, format_of
from pdd_lightning.distilled.formats.image_folder import folder_names
from pdd_lightning.errors import ArtifactError, ConfigError
from pdd_lightning.networks import ConvNet
from pdd_lightning.rng import generator
from pdd_lightning.stage.subsets import Subset
from pdd_lightning.training import NoAugmentation, Recipe
from pdd_lightning.types import LabelledImages

LOSSLESS = [each.name for each in FORMATS if each.lossless]
PICTURES = [each.name for each in FORMATS if not each.lossless]
NAMES = ("a/b", "..", "chien ü")


@pytest.fixture(scope="module")
def sample() -> DistilledSet:
    """The shipped run, with training short enough for a test."""
    found = pdd.load("checkpoints/sample")
    return replace(found, about=replace(found.about, recipe=replace(found.about.recipe, epochs=2)))


@pytest.fixture(scope="module")
def colours() -> DistilledSet:
    """Whitened RGB in tiles, stages of different sizes, labels in no order, classes that name no files."""
    draws = generator(0, "colours")
    real = torch.randint(0, 256, (300, 3, 6, 8), generator=draws).to(torch.uint8)
    preprocessing = Preprocessing.fit(real, zca=True)
    stages = []
    for k, labels in enumerate(([2, 0, 1], [1, 0, 2, 1, 2]), 1):
        images = torch.randn(len(labels), 3, 6, 8, generator=draws)
        stages.append(Subset(LabelledImages(images, torch.tensor(labels)), rate=0.1 / 3 / k, stage=k, factor=2))
    about = About("pdd", NAMES, (3, 6, 8), Recipe(epochs=2), ConvNet(width=4, depth=2), NoAugmentation(), seed=3)
    return DistilledSet(tuple(stages), preprocessing, about)


@pytest.fixture(params=["sample", "colours"])
def distilled(request: pytest.FixtureRequest) -> DistilledSet:
    found: DistilledSet = request.getfixturevalue(request.param)
    return found


def export(distilled: DistilledSet, name: str, folder: Path) -> Path:
    suffix = next(each.suffix for each in FORMATS if each.name == name)
    return distilled.export(folder / f"set{suffix}", name)


def levels(distilled: DistilledSet, k: int) -> torch.Tensor:
    """Pictures of a stage, by hand."""
    pixels = distilled.preprocessing.invert(distilled.stages[k].data.images)
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_the_set_back(name: str, distilled: DistilledSet, tmp_path: Path) -> None:
    found = pdd.load(export(distilled, name, tmp_path))
    for mine, theirs in zip(distilled.stages, found.stages, strict=True):
        assert torch.equal(mine.data.images, theirs.data.images)
        assert torch.equal(mine.data.labels, theirs.data.labels)
        assert (mine.rate, mine.stage, mine.factor) == (theirs.rate, theirs.stage, theirs.factor)
    assert found.about == distilled.about
    before, after = distilled.preprocessing.tensors(), found.preprocessing.tensors()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_give_clipped_and_rounded_images_back(name: str, distilled: DistilledSet, tmp_path: Path) -> None:
    found = pdd.load(export(distilled, name, tmp_path))
    for k, (mine, theirs) in enumerate(zip(distilled.stages, found.stages, strict=True)):
        assert torch.equal(theirs.data.images, distilled.preprocessing.apply(levels(distilled, k)))
        assert torch.equal(mine.data.labels, theirs.data.labels)
        assert (mine.rate, mine.factor) == (theirs.rate, theirs.factor)
    assert found.about == distilled.about


@pytest.mark.parametrize("name", LOSSLESS)
def test_networks_trained_on_an_export_are_those_of_the_run(name: str, sample: DistilledSet, tmp_path: Path) -> None:
    found = pdd.load(export(sample, name, tmp_path))
    pairs = zip(sample.train(seed=1).parameters(), found.train(seed=1).parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


@pytest.mark.parametrize("name", [each.name for each in FORMATS])
def test_every_format_says_what_the_set_wants(name: str, colours: DistilledSet, tmp_path: Path) -> None:
    """An export of an export is the same set, and a licence stays."""
    first = colours.export(tmp_path / f"a{Path(export(colours, name, tmp_path)).suffix}", name, licence="CC0 1.0")
    again = pdd.load(pdd.load(first).export(tmp_path / "b.npz", "npz"))
    assert again.about == colours.about.under("CC0 1.0")
    assert again.preprocessing.whitening is not None
    pixels = torch.rand(2, 3, 6, 8, generator=generator(1, "pixels"))
    torch.testing.assert_close(again.pixels(again.preprocess(pixels)), pixels, atol=1e-3, rtol=0)
    assert again.rates == colours.rates
    found = format_of(first)
    assert found is not None
    assert found.name == name


def test_image_folders_are_read_by_torchvision(colours: DistilledSet, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]

    root = export(colours, "imagefolder", tmp_path)
    found = ImageFolder(str(root / "stage_2"))
    names = folder_names(NAMES)
    assert found.classes == sorted(names)
    labels = colours.stages[1].data.labels.tolist()
    for path, label in found.samples:
        place = int(Path(path).stem)
        assert names[labels[place]] == found.classes[label]
        picture, _ = found[found.samples.index((path, label))]
        assert np.array_equal(np.array(picture), levels(colours, 1)[place].permute(1, 2, 0).numpy())
    assert len(found) == len(labels)


def test_a_dataset_is_loaded_by_datasets(colours: DistilledSet, tmp_path: Path) -> None:
    from datasets import ClassLabel, load_dataset

    path = colours.export(tmp_path / "set", "huggingface", licence="CC BY-SA 4.0 (mine)")
    found = load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.column_names == ["image", "label", "stage"]
    assert found.features["label"] == ClassLabel(names=list(NAMES))
    assert found["stage"][:] == [1, 1, 1, 2, 2, 2, 2, 2]
    assert found["label"][:] == [2, 0, 1, 1, 0, 2, 1, 2]
    pictures = torch.cat([levels(colours, 0), levels(colours, 1)])
    assert all(
        np.array_equal(np.array(row["image"]), picture.permute(1, 2, 0).numpy())
        for row, picture in zip(found, pictures, strict=True)
    )
    assert "\nlicense: cc-by-sa-4.0\n" in (path / "README.md").read_text()


def test_arrays_are_read_by_numpy(sample: DistilledSet, tmp_path: Path) -> None:
    with np.load(export(sample, "npz", tmp_path), allow_pickle=False) as file:
        assert np.array_equal(file["stage_2.images"], sample.stages[1].data.images.numpy())
        assert file["stage_3.learning_rate"] == np.float32(sample.rates[2])
        assert file["preprocessing.mean"] == sample.preprocessing.mean.numpy()
        told = json.loads(str(file["description"]))
    assert (told["seed"], told["recipe"]["momentum"]) == (0, 0.9)
    assert told["source"]["fingerprint"] == "f801077412c163b93a186bf7fb706793"
    assert told["made"]["torch"]


def test_one_file_of_safetensors_holds_everything(colours: DistilledSet, tmp_path: Path) -> None:
    with safe_open(export(colours, "safetensors", tmp_path), framework="np") as file:
        assert file.get_tensor("preprocessing.zca_inverse").shape == (144, 144)
        assert file.get_tensor("stage_2.labels").tolist() == [1, 0, 2, 1, 2]
        assert json.loads(file.metadata()["description"])["class_names"] == list(NAMES)


def test_a_pair_of_tensors_is_what_other_codes_load(colours: DistilledSet, tmp_path: Path) -> None:
    """As it is stored: a description tells the factor, by which each image holds four."""
    path = export(colours, "pt", tmp_path)
    images, labels = (torch.load(path / f"{part}.pt", weights_only=True) for part in ("images", "labels"))
    assert torch.equal(images, torch.cat([subset.data.images for subset in colours.stages]))
    assert (images.dtype, labels.dtype, labels.tolist()) == (torch.float32, torch.int64, [2, 0, 1, 1, 0, 2, 1, 2])
    assert json.loads((path / "distilled.json").read_text())["stages"][0]["factor"] == 2


@pytest.mark.parametrize("name", PICTURES)
def test_what_a_page_shows_works(
    name: str, sample: DistilledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = export(sample, name, tmp_path)
    text = (path / "README.md").read_text().replace("path/to/this/folder", str(path))
    shown: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, shown)  # what this release has just written
    assert len(shown["first"]) == 10
    assert str(Loss.of(sample)) in text
    *_, row = (row for row in sample.about.results if row["order"] == "progressive")
    assert f"progressive, ConvNet: {100 * float(str(row['mean'])):.1f} %" in text


def test_what_eight_bits_cost_is_measured() -> None:
    about = About("pdd", ("a", "b"), (1, 1, 4), Recipe(), ConvNet(), NoAugmentation(), seed=0)
    networks_read = torch.tensor([-1.0, 0.0, 0.5, 3.0]).view(1, 1, 1, 4)
    stage = Subset(LabelledImages(networks_read, torch.tensor([0])), 0.1, 1)
    distilled = DistilledSet((stage,), Preprocessing(torch.tensor([0.25]), torch.tensor([0.5])), about)
    assert Loss.of(distilled) == Loss(outside=0.5, farthest=0.75)  # pixels -0.25, 0.25, 0.5, 1.75
    within = replace(stage, data=LabelledImages(networks_read.clamp(-0.5, 1.5), torch.tensor([0])))
    assert str(Loss.of(replace(distilled, stages=(within,)))).startswith("8 bits: no pixel value lay outside")


def test_names_of_folders_are_safe_and_apart() -> None:
    names = ["a/b", "..", "", "Cat", "cat", "cat%4", "con.txt", "x" * 300, "x" * 301, "é" * 150, "a ", "日本", "\n?"]
    found = folder_names(names)
    assert len({name.casefold() for name in found}) == len(names)
    assert not any(re.search(r'[<>:"/\\|?*\x00-\x1f]|^[. ]|[. ]$', name) for name in found)
    assert all(0 < len(name.encode()) <= 255 for name in found)
    assert (found[3], found[11]) == ("Cat", "日本")


@pytest.mark.parametrize("name", [each.name for each in FORMATS])
def test_nothing_is_overwritten(name: str, sample: DistilledSet, tmp_path: Path) -> None:
    path = export(sample, name, tmp_path)
    before = sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=f"^path={path}: exists, and nothing is overwritten"):
        sample.export(path, name)
    assert before == sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*"))


def test_an_empty_file_or_folder_may_be_there(sample: DistilledSet, tmp_path: Path) -> None:
    (tmp_path / "set.npz").touch()
    (tmp_path / "set").mkdir()
    assert len(pdd.load(sample.export(tmp_path / "set.npz", "npz")).stages) == 3
    assert len(pdd.load(sample.export(tmp_path / "set", "pt")).stages) == 3


@pytest.mark.parametrize("name", [each.name for each in FORMATS])
def test_a_full_disk_leaves_nothing(
    name: str, sample: DistilledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fills up with the last bytes: those of the one file, or of a folder's description."""
    real, write_bytes = os.replace, Path.write_bytes

    def full(*args: Any) -> None:
        if Path(args[-1]).name.startswith(("distilled.json", ".set")):
            raise OSError(28, "No space left on device")
        real(*args)

    def full_too(path: Path, data: Any) -> int:
        if path.name.startswith(".set.npz"):
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(Path, "write_bytes", full_too)
    with pytest.raises(ArtifactError, match=r"^path=.*: cannot be written \(No space left on device\)"):
        export(sample, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pyarrow_may_be_missing(sample: DistilledSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"needs pyarrow.*pip install 'pdd-lightning\[huggingface\]'"):
        export(sample, "huggingface", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "name", "message"),
    [
        ("x", "hugingface", "format=hugingface: there is no such format, did you mean huggingface?"),
        ("x", "csv", "format=csv: there is no such format; choose one of safetensors, npz, "),
        ("x", "npz", r"path=.*x: a file of the format npz is called \*.npz"),
        ("file/x", "pt", r"path=.*: cannot write to .* \(.*file is not a folder\)"),
    ],
)
def test_mistakes_are_named(path: str, name: str, message: str, sample: DistilledSet, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=message):
        sample.export(tmp_path / path, name)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_images_of_other_channels_are_no_pictures(sample: DistilledSet, tmp_path: Path) -> None:
    two = Preprocessing(torch.zeros(2), torch.ones(2))
    data = LabelledImages(torch.zeros(1, 2, 8, 8), torch.zeros(1, dtype=torch.int64))
    other = DistilledSet((Subset(data, 0.1, 1),), two, replace(sample.about, image_shape=(2, 8, 8)))
    with pytest.raises(ConfigError, match="2 channels are no pictures: export them as safetensors, npz or pt"):
        export(other, "imagefolder", tmp_path)
    assert pdd.load(export(other, "npz", tmp_path)).about.image_shape == (2, 8, 8)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def smear(path: Path) -> None:
    """Compressed bytes that cannot be expanded."""
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes(50) + data[150:])


def enlarge(path: Path) -> None:
    Image.new("L", (9, 8), 7).save(path)


def repaint(path: Path) -> None:
    Image.new("L", (8, 8), 7).save(path)


def swap(path: Path) -> None:
    """The right form and other values."""
    torch.save(torch.zeros_like(torch.load(path, weights_only=True)), path)


def relabel(path: Path) -> None:
    told = json.loads(path.read_text())
    told["stages"][0]["learning_rate"] = 9.0
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("name", "file", "damage", "message"),
    [
        ("safetensors", ".", cut, "is damaged"),
        ("npz", ".", cut, "is damaged or no export"),
        ("npz", ".", smear, "is damaged or no export"),
        ("imagefolder", "stage_2/7/00007.png", Path.unlink, "stage 2 holds 9 images that are not the 10"),
        ("imagefolder", "stage_2/7/00007.png", repaint, "stage 2 holds 10 images that are not the 10"),
        ("imagefolder", "stage_2/7/00007.png", cut, "00007.png is no readable PNG"),
        ("imagefolder", "stage_2/7/00007.png", enlarge, "is no readable PNG .it has 9x8 pixels, expected 8x8"),
        ("imagefolder", "distilled.json", relabel, "was changed after it was written"),
        ("imagefolder", "distilled.json", cut, "is not readable JSON"),
        ("huggingface", "data/train-00000-of-00001.parquet", cut, "is missing or damaged"),
        ("huggingface", "data/train-00000-of-00001.parquet", Path.unlink, "is missing or damaged"),
        ("pt", "images.pt", swap, "stage 1 holds 10 images that are not the 10"),
        ("pt", "labels.pt", cut, "labels.pt is missing, damaged or holds more"),
        ("pt", "preprocessing.safetensors", Path.unlink, "does not exist"),
    ],
)
def test_damage_is_found(
    name: str, file: str, damage: Callable[[Path], None], message: str, sample: DistilledSet, tmp_path: Path
) -> None:
    path = export(sample, name, tmp_path)
    damage(path / file if file != "." else path)
    with pytest.raises(ArtifactError, match=message) as caught:
        pdd.load(path)
    assert str(path) in str(caught.value)


class Crafted:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_nothing_is_unpickled(sample: DistilledSet, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pair = export(sample, "pt", tmp_path)
    torch.save(Crafted(marker), pair / "images.pt")
    with pytest.raises(ArtifactError, match=r"images\.pt is missing, damaged or holds more than a tensor"):
        pdd.load(pair)
    arrays = export(sample, "npz", tmp_path)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Crafted(marker)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(arrays, "a") as file:
        file.writestr("crafted.npy", buffer.getvalue())
    with pytest.raises(ArtifactError, match="damaged or no export"):
        pdd.load(arrays)
    assert not marker.exists()


@pytest.mark.parametrize("path", ["README.md", "configs", "checkpoints/sample/stage_01/synthetic.safetensors"])
def test_what_is_no_set_is_refused(path: str) -> None:
    with pytest.raises(ArtifactError, match=f"^{path} is no distilled set: give the folder of a run"):
        pdd.load(path)


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="none does not exist: give the folder of a run, or an export"):
        pdd.load(tmp_path / "none")
