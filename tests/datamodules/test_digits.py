"""scikit-learn's digits: their grey levels, their split and their fingerprint."""

import pytest
import torch

from pdd_lightning.datamodules import DigitsData
from pdd_lightning.errors import ConfigError


def test_grey_levels_and_split() -> None:
    raw = DigitsData().load_raw()
    assert raw.train_images.shape[1:] == (1, 8, 8)
    assert len(raw.train_images) + len(raw.test_images) == 1797
    assert (int(raw.train_images.min()), int(raw.train_images.max())) == (0, 255)
    assert len(set(raw.train_images.flatten().tolist())) == 17
    assert raw.class_names == tuple("0123456789")
    per_class = torch.cat([raw.train_labels, raw.test_labels]).bincount()
    assert torch.equal(raw.test_labels.bincount(), (per_class * 0.2).round().to(torch.int64))


def test_the_seed_decides_the_test_set() -> None:
    first, again, other = (DigitsData(split_seed=seed).load_raw() for seed in (0, 0, 1))
    assert torch.equal(first.test_images, again.test_images)
    assert not torch.equal(first.test_images, other.test_images)


def test_setup_whitens() -> None:
    data = DigitsData(zca=True)
    data.prepare_data()
    data.setup()
    assert data.image_shape == (1, 8, 8)
    assert data.train.images.isfinite().all()
    per_class = torch.cat([data.train.labels, data.validation.labels]).bincount()
    assert torch.equal(data.validation.labels.bincount(), (per_class * 0.1).round().to(torch.int64))


def test_options_reach_the_fingerprint() -> None:
    data, other = DigitsData(), DigitsData(test_fraction=0.3)
    data.setup()
    other.setup()
    assert data.fingerprint != other.fingerprint


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_fraction_outside_its_range(fraction: float) -> None:
    with pytest.raises(ConfigError, match=f"test_fraction={fraction}"):
        DigitsData(test_fraction=fraction)
