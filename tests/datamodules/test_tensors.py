"""Data that are in memory."""

from typing import Any

import numpy as np
import pytest
import torch

from pdd_lightning.datamodules import DigitsData, TensorData
from pdd_lightning.errors import ConfigError, DataError

IMAGES = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 1, 4, 4)
LABELS = torch.arange(40) % 4


def test_tensors_are_the_data_that_a_module_would_read() -> None:
    raw, digits = DigitsData().load_raw(), DigitsData()
    mine = TensorData(raw.train_images, raw.train_labels, raw.test_images, raw.test_labels)
    for data in (digits, mine):
        data.setup()
    assert mine.fingerprint == digits.fingerprint
    assert mine.class_names == digits.class_names


def test_arrays_of_numpy_and_other_integers_do_too() -> None:
    mine, theirs = TensorData(IMAGES, LABELS), TensorData(IMAGES.numpy(), LABELS.numpy().astype(np.uint8))
    for data in (mine, theirs):
        data.setup()
    assert mine.fingerprint == theirs.fingerprint


def test_a_test_set_is_split_off_each_class() -> None:
    data = TensorData(IMAGES, LABELS, validation_fraction=0, test_fraction=0.3)
    data.setup()
    assert data.test.labels.bincount().tolist() == [3, 3, 3, 3]
    assert data.train.labels.bincount().tolist() == [7, 7, 7, 7]
    pixels = [data.preprocessing.invert(part.images)[:, 0, 0, 0].mul(255).round() for part in (data.train, data.test)]
    assert torch.cat(pixels).sort().values.tolist() == list(range(40))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((IMAGES.float(), LABELS), DataError, "train_images are torch.float32: give grey levels"),
        ((IMAGES[:, 0], LABELS), DataError, r"x\[:, None\]"),
        ((IMAGES.permute(0, 2, 3, 1), LABELS), DataError, r"x.permute\(0, 3, 1, 2\)"),
        (("images", LABELS), DataError, "train_images is a str: give a tensor"),
        ((IMAGES, LABELS.float()), DataError, "train_labels are torch.float32"),
        ((IMAGES, LABELS - 1), DataError, "train_labels begin at -1"),
        ((IMAGES, LABELS[:3]), DataError, "train_images are 40 and train_labels 3"),
        ((IMAGES, LABELS, IMAGES), ConfigError, "test_images and test_labels belong together"),
        ((IMAGES, LABELS, None, None, ["a", "b"]), DataError, "2 classes are named"),
        ((IMAGES, LABELS, None, None, None, 1.5), ConfigError, "test_fraction=1.5"),
    ],
)
def test_other_forms_are_refused_with_the_remedy(given: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        TensorData(*given).setup()
