"""Splits, limits and fingerprints, which every data set has from its base class."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from pdd_lightning.datamodules import ImageDataModule, Preprocessing, RawData
from pdd_lightning.datamodules.raw import stratified_split
from pdd_lightning.errors import ConfigError, DataError
from pdd_lightning.rng import generator

SIZES = (1, 5, 20, 40)


def raw_data(seed: int = 0) -> RawData:
    draw = generator(seed, "raw")
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(SIZES)])
    labels = labels[torch.randperm(len(labels), generator=draw)]
    images = torch.randint(0, 256, (len(labels) + 8, 3, 4, 4), generator=draw).to(torch.uint8)
    return RawData(images[8:], labels, images[:8], torch.arange(8) % len(SIZES), tuple(f"class {i}" for i in range(4)))


class InMemory(ImageDataModule):
    def __init__(self, raw: RawData | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.raw = raw or raw_data()
        self.loads = 0

    def load_raw(self) -> RawData:
        self.loads += 1
        return self.raw


def ready(raw: RawData | None = None, **kwargs: Any) -> InMemory:
    data = InMemory(raw, **kwargs)
    data.setup()
    return data


def test_splits_and_shapes() -> None:
    data = ready(validation_fraction=0.2)
    assert (data.num_classes, data.image_shape) == (4, (3, 4, 4))
    assert data.class_names == ("class 0", "class 1", "class 2", "class 3")
    assert data.validation.labels.bincount(minlength=4).tolist() == [0, 1, 4, 8]
    assert data.train.labels.bincount(minlength=4).tolist() == [1, 4, 16, 32]
    assert len(data.test) == 8
    for part in (data.train, data.validation, data.test):
        assert part.images.dtype == torch.float32
        assert part.images.device.type == "cpu"


def test_at_most_so_many_of_each_class() -> None:
    few, whole = ready(validation_fraction=0.2, max_per_class=6), ready(validation_fraction=0.2)
    assert few.train.labels.bincount(minlength=4).tolist() == [1, 4, 6, 6]
    assert torch.equal(few.validation.labels, whole.validation.labels)
    assert len(few.test) == len(whole.test)
    pixels, all_pixels = (data.preprocessing.invert(data.train.images) for data in (few, whole))
    for image in pixels:
        assert ((all_pixels - image).abs().amax((1, 2, 3)) < 1e-4).any()


def test_setup_reads_once() -> None:
    data = InMemory()
    data.setup("fit")
    train = data.train
    data.setup("test")
    assert data.loads == 1
    assert data.train is train


@pytest.mark.parametrize(
    "name",
    [
        *("num_classes", "class_names", "image_shape", "preprocessing"),
        *("train", "validation", "test", "fingerprint"),
    ],
)
def test_properties_need_setup(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"InMemory.*setup\(\)"):
        getattr(InMemory(), name)


def test_preprocessing_is_fitted_on_the_training_part() -> None:
    raw = raw_data()
    kept, held = stratified_split(raw.train_labels, 0.4, 3, "validation")
    data = ready(raw, validation_fraction=0.4, split_seed=3, zca=True)
    fitted = Preprocessing.fit(raw.train_images[kept], zca=True)
    assert torch.equal(data.train.images, fitted.apply(raw.train_images[kept]))
    assert torch.equal(data.validation.images, fitted.apply(raw.train_images[held]))
    assert torch.equal(data.test.images, fitted.apply(raw.test_images))
    assert torch.equal(data.validation.labels, raw.train_labels[held])


def test_no_validation() -> None:
    data = ready(validation_fraction=0)
    assert len(data.validation) == 0
    assert data.validation.images.shape == (0, 3, 4, 4)
    assert len(data.train) == sum(SIZES)


def test_every_class_keeps_a_training_image() -> None:
    assert ready(validation_fraction=0.999).train.labels.bincount().tolist() == [1, 1, 1, 1]


def test_the_split_depends_on_seed_and_purpose_alone() -> None:
    labels = raw_data().train_labels
    state = torch.random.get_rng_state()
    kept, held = stratified_split(labels, 0.3, 5, "validation")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(labels)))
    assert torch.equal(stratified_split(labels, 0.3, 5, "validation")[1], held)
    assert not torch.equal(stratified_split(labels, 0.3, 6, "validation")[1], held)
    assert not torch.equal(stratified_split(labels, 0.3, 5, "test")[1], held)


@pytest.mark.parametrize(
    "options",
    [
        {"split_seed": 1},
        {"validation_fraction": 0.3},
        {"max_per_class": 4},
        {"zca": True},
        {"zca": True, "zca_eps": 0.2},
    ],
)
def test_fingerprint_follows_the_settings(options: dict[str, Any]) -> None:
    assert ready(**options).fingerprint != ready().fingerprint
    assert ready(**options).fingerprint == ready(**options).fingerprint


def test_fingerprint_follows_the_data() -> None:
    raw = raw_data()
    images = raw.train_images.clone()
    images[0, 0, 0, 0] ^= 1
    changed = [
        replace(raw, train_images=images),
        replace(raw, test_labels=raw.test_labels.flip(0)),
        replace(raw, class_names=("a", "b", "c", "d")),
    ]
    assert len({ready(data).fingerprint for data in (raw, *changed)}) == 4


def test_the_test_set_has_a_fingerprint_of_its_own() -> None:
    """Runs with one test set can be compared, however the training images were split and preprocessed."""
    raw = raw_data()
    known = ready(raw).test_fingerprint
    ways: list[dict[str, Any]] = [{"zca": True}, {"validation_fraction": 0.3}, {"max_per_class": 3}, {"split_seed": 5}]
    for options in ways:
        assert ready(raw, **options).test_fingerprint == known
    assert ready(replace(raw, train_images=255 - raw.train_images)).test_fingerprint == known
    assert ready(replace(raw, test_images=255 - raw.test_images)).test_fingerprint != known
    assert ready(replace(raw, test_labels=raw.test_labels.flip(0))).test_fingerprint != known


def test_fingerprint_ignores_what_changes_no_number(tmp_path: Path) -> None:
    assert ready(zca_eps=0.5).fingerprint == ready().fingerprint
    assert ready(zca=True, cache_dir=str(tmp_path)).fingerprint == ready(zca=True).fingerprint


def test_whitening_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ready(zca=True, cache_dir=str(tmp_path))
    (file,) = tmp_path.iterdir()
    assert file.name == f"zca-{first.fingerprint}.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(Preprocessing, "fit", None)
        second = ready(zca=True, cache_dir=str(tmp_path))
    assert torch.equal(first.train.images, second.train.images)
    file.write_bytes(b"damaged")
    assert torch.equal(ready(zca=True, cache_dir=str(tmp_path)).train.images, first.train.images)
    assert torch.equal(ready(zca=True).train.images, first.train.images)


def test_one_process_fills_the_cache_before_others_read_it(tmp_path: Path) -> None:
    cached, plain = InMemory(zca=True, cache_dir=str(tmp_path)), InMemory(zca=True)
    for data in (cached, plain):
        data.prepare_data()
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    assert (cached.loads, plain.loads) == (1, 0)


def test_plain_normalisation_needs_no_cache(tmp_path: Path) -> None:
    ready(cache_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_tensors_move_once() -> None:
    data = ready()
    train = data.train_on("meta")
    assert train.images.device.type == "meta"
    assert data.train_on(torch.device("meta")) is train
    assert data.validation_on("meta") is data.validation_on("meta")
    assert data.train_on("cpu").images is data.train.images


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fraction_outside_its_range(fraction: float) -> None:
    with pytest.raises(ConfigError, match=rf"validation_fraction={fraction}.*below 1"):
        InMemory(validation_fraction=fraction)


def test_no_image_of_a_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_per_class=0: must be at least 1"):
        InMemory(max_per_class=0)


def test_eps_outside_its_range() -> None:
    with pytest.raises(ConfigError, match=r"zca_eps=0\.0"):
        InMemory(zca_eps=0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_images": torch.zeros(8, 3, 5, 5, dtype=torch.uint8)}, r"\(3, 4, 4\).*\(3, 5, 5\)"),
        ({"test_images": torch.zeros(8, 3, 4, 4)}, "test images must be uint8"),
        ({"test_images": torch.zeros(0, 3, 4, 4, dtype=torch.uint8)}, "N > 0"),
        ({"train_images": torch.zeros(66, 4, 4, dtype=torch.uint8)}, "train images must be"),
        ({"test_labels": torch.arange(7) % 4}, "one for each of the 8"),
        ({"test_labels": torch.arange(8.0)}, "test labels must be int64"),
        ({"test_labels": torch.arange(8)}, "from 0 to 7, but 4 classes"),
        ({"test_labels": torch.arange(8) % 4 - 1}, "from -1"),
        ({"class_names": ("a", "b", "c", "d", "e")}, "no train image of class e"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(raw_data(), **changes)


# instantiate_classes has a new name, but not in every version of jsonargparse that the package allows.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("DigitsData", {"test_fraction": 0.3}),
        ("CIFAR10Data", {"root": "a", "download": True}),
        ("CIFAR100Data", {"root": "a"}),
        ("TinyImageNetData", {"root": "a"}),
        ("ImageFolderData", {"root": "a", "image_size": 16, "grey": True}),
    ],
)
def test_configurations_can_make_them(name: str, own: dict[str, Any]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    options = own | {"validation_fraction": 0.25, "split_seed": 7, "zca": True, "zca_eps": 0.2}
    options |= {"cache_dir": "cache"}
    config = {"data": {"class_path": f"pdd_lightning.datamodules.{name}", "init_args": options}}
    made = parser.instantiate_classes(parser.parse_object(config)).data
    assert {key: getattr(made, key) for key in options} == options
