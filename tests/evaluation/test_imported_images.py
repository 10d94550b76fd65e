"""Images of others beside the data that they were made of: in which space they are, and what is odd about them."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pdd_lightning.datamodules import ImageDataModule, RawData
from pdd_lightning.errors import ConfigError, DataError
from pdd_lightning.evaluation.imported_files import ImportedFiles
from pdd_lightning.evaluation.imported_images import Space, labelled_images
from pdd_lightning.rng import generator


class Smooth(ImageDataModule):
    """Images whose neighbouring pixels are much alike, as those of photographs are."""

    def load_raw(self) -> RawData:
        coarse = torch.rand(400, 3, 2, 2, generator=generator(0, "smooth"))
        images = torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear", align_corners=True)
        levels, labels = (images * 255).round().byte(), torch.arange(400) % 2
        return RawData(levels[:300], labels[:300], levels[300:], labels[300:], ("cat", "dog"))


def set_up(*, zca: bool = False) -> Smooth:
    data = Smooth(zca=zca, zca_eps=0.01)
    data.setup()
    return data


@pytest.fixture(scope="module")
def plain() -> Smooth:
    return set_up()


@pytest.fixture(scope="module")
def whitened() -> Smooth:
    return set_up(zca=True)


def files(images: Tensor) -> ImportedFiles:
    return ImportedFiles(images, torch.arange(len(images)) % 2, source="theirs")


def noisy(data: Smooth, amount: float) -> Tensor:
    """Real images after a distillation, which leaves noise."""
    images = data.train.images[:20]
    return images + amount * torch.randn(images.shape, generator=generator(0, "noise"))


def test_the_space_is_found_out(plain: Smooth, whitened: Smooth, caplog: pytest.LogCaptureFixture) -> None:
    for data in (plain, whitened):
        normalised = noisy(data, 1.0)
        pixels = data.preprocessing.invert(data.train.images[:20]).clamp(0, 1)
        cases: list[tuple[Tensor, Space]] = [
            (normalised, "normalised"),
            (normalised.double(), "normalised"),
            (pixels, "pixels"),
            ((pixels * 255).round().byte(), "pixels"),
        ]
        for images, space in cases:
            found, said = labelled_images(files(images), data, None)
            assert said == space
            wanted = normalised if space == "normalised" else data.train.images[:20]
            torch.testing.assert_close(found.images, wanted, rtol=0, atol=0.3)  # a grey level is much when whitened
    assert not caplog.records


@pytest.mark.parametrize("shift", [0.6, 5.0])
def test_where_it_is_not_clear_it_is_asked_for(shift: float, plain: Smooth) -> None:
    images = plain.train.images[:20] * 0.3 + shift
    with pytest.raises(ConfigError, match="say which, --space pixels or --space normalised"):
        labelled_images(files(images), plain, None)
    assert labelled_images(files(images), plain, "normalised")[0].images.equal(images)


def test_pixels_cannot_be_called_normalised(plain: Smooth) -> None:
    with pytest.raises(ConfigError, match="--space=normalised: theirs holds uint8 pixels"):
        labelled_images(files(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)), plain, "normalised")


def test_the_other_space_is_warned_of(plain: Smooth, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    labelled_images(files(plain.preprocessing.invert(plain.train.images[:20])), plain, "normalised")
    labelled_images(files(noisy(plain, 1.0)), plain, "pixels")
    assert ["--space" in record.getMessage() for record in caplog.records] == [True, True]


def test_images_that_are_not_whitened_are_warned_of(
    plain: Smooth, whitened: Smooth, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    labelled_images(files(noisy(plain, 0.5)), whitened, "normalised")
    assert "they seem not to be whitened; if so, leave out data.zca" in caplog.records[-1].getMessage()


def test_folders_are_matched_by_the_names_of_classes(plain: Smooth) -> None:
    pixels = torch.full((2, 1, 16, 16), 128, dtype=torch.uint8)  # grey pictures beside data in colour
    found = replace(files(pixels), labels=torch.tensor([0, 1]), classes=("dog", "cat"))
    assert labelled_images(found, plain, None)[0].labels.tolist() == [1, 0]
    with pytest.raises(DataError, match="theirs/cats: there is no such class, did you mean cat"):
        labelled_images(replace(found, classes=("dog", "cats")), plain, None)
