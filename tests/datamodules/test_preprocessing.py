"""Normalising and whitening, there and back."""

import pytest
import torch
from torch import Tensor

from pdd_lightning.datamodules import Preprocessing, Whitening
from pdd_lightning.datamodules import preprocessing as module
from pdd_lightning.errors import ArtifactError, ConfigError, DataError
from pdd_lightning.rng import generator


def grey_levels(count: int = 700, channels: int = 3, size: int = 4) -> Tensor:
    """Correlated pixels, so that whitening has something to do."""
    draw = generator(0, "preprocessing", channels)
    values = torch.randn(count, channels, size, size, generator=draw).cumsum(3).cumsum(1) * 25 + 120
    return values.clamp(0, 255).to(torch.uint8)


def naive_covariance(images: Tensor) -> Tensor:
    return images.flatten(1).double().T.cov(correction=0)


def test_normalises_every_channel() -> None:
    images = grey_levels()
    out = Preprocessing.fit(images).apply(images)
    assert out.dtype == torch.float32
    assert out.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(out.std((0, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-5)


def test_bytes_and_unit_floats_are_the_same_images() -> None:
    images = grey_levels()
    fitted = Preprocessing.fit(images, zca=True)
    torch.testing.assert_close(fitted.apply(images), fitted.apply(images / 255))


def test_keeps_the_precision_of_floats() -> None:
    images = grey_levels(20)
    fitted = Preprocessing.fit(images, zca=True)
    assert fitted.apply(images.double() / 255).dtype == torch.float64
    assert fitted.invert(images.double()).dtype == torch.float64


def test_a_constant_channel_stays_finite() -> None:
    images = grey_levels()
    images[:, 1] = 77
    for zca in (False, True):
        fitted = Preprocessing.fit(images, zca=zca)
        out = fitted.apply(images)
        assert out.isfinite().all()
        assert out[:, 1].abs().max() < 1e-4
        torch.testing.assert_close(fitted.invert(out), images / 255, rtol=0, atol=1e-5)


def test_eps_for_pixels_in_the_unit_interval_can_be_converted() -> None:
    """Published settings whiten without normalising first: their eps is ours divided by the variance of the pixels."""
    images = grey_levels(channels=1)
    pixels = images.double().flatten(1) / 255
    published = Whitening.from_covariance(pixels.mean(0), pixels.T.cov(correction=0), eps=0.1)
    ours = Preprocessing.fit(images, zca=True, zca_eps=0.1 / pixels.var(correction=0).item())
    wanted = (pixels - published.mean) @ published.matrix
    torch.testing.assert_close(ours.apply(images).flatten(1).double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("zca", [False, True])
def test_invert_undoes_apply(zca: bool) -> None:
    images = grey_levels(channels=1 if zca else 3)
    fitted = Preprocessing.fit(images, zca=zca)
    torch.testing.assert_close(fitted.invert(fitted.apply(images)), images / 255, rtol=0, atol=1e-5)


def test_invert_does_not_clamp() -> None:
    fitted = Preprocessing.fit(grey_levels())
    assert fitted.invert(torch.full((1, 3, 4, 4), 50.0)).min() > 1


def test_sums_of_grey_levels_are_exact() -> None:
    images = torch.full((600, 1, 4, 4), 255, dtype=torch.uint8)
    images[::7, 0, 0, 0] = 254
    pixel_mean, _ = module._moments(images)
    torch.testing.assert_close(module._covariance(images, pixel_mean), naive_covariance(images), rtol=0, atol=1e-9)


def test_whitening_in_double_precision() -> None:
    eps = 0.1
    covariance = naive_covariance(grey_levels()) / 1000
    white = Whitening.from_covariance(torch.zeros(len(covariance), dtype=torch.float64), covariance, eps)
    identity = torch.eye(len(covariance), dtype=torch.float64)
    torch.testing.assert_close(white.matrix @ white.inverse, identity, rtol=0, atol=1e-10)
    torch.testing.assert_close(white.matrix, white.matrix.T, rtol=0, atol=1e-10)
    # Every eigenvalue l shrinks to l / (l + eps), which is C (C + eps I)^-1.
    shrunk = covariance @ (covariance + eps * identity).inverse()
    whitened = white.matrix @ covariance @ white.matrix
    torch.testing.assert_close(whitened, shrunk, rtol=0, atol=1e-10)


def test_whitened_images_have_the_shrunk_covariance() -> None:
    images, eps = grey_levels(), 0.1
    normalised = Preprocessing.fit(images).apply(images).double()
    covariance = naive_covariance(normalised)
    identity = torch.eye(len(covariance), dtype=torch.float64)
    out = Preprocessing.fit(images, zca=True, zca_eps=eps).apply(images)
    assert out.mean(0).abs().max() < 1e-5
    expected = covariance @ (covariance + eps * identity).inverse()
    torch.testing.assert_close(naive_covariance(out), expected, rtol=0, atol=1e-5)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images = grey_levels(100)
    whole = Preprocessing.fit(images, zca=True)
    monkeypatch.setattr(module, "_CHUNK", 7)
    monkeypatch.setattr(module, "_EXACT_CHUNK", 9)
    parts = Preprocessing.fit(images, zca=True)
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(parts.tensors()[name], tensor, rtol=0, atol=0)
    torch.testing.assert_close(parts.apply(images), whole.apply(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("zca", [False, True])
def test_tensors_rebuild_it(zca: bool) -> None:
    images = grey_levels(50)
    fitted = Preprocessing.fit(images, zca=zca)
    again = Preprocessing.from_tensors(fitted.tensors() | {"images": images})
    assert torch.equal(again.apply(images), fitted.apply(images))
    assert (again.whitening is not None) == zca


def test_no_images_map_to_none() -> None:
    fitted = Preprocessing.fit(grey_levels(50), zca=True)
    assert fitted.apply(torch.empty(0, 3, 4, 4, dtype=torch.uint8)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("lost", ["std", "zca_inverse"])
def test_lost_tensors_are_named(lost: str) -> None:
    tensors = Preprocessing.fit(grey_levels(50), zca=True).tensors()
    del tensors[lost]
    with pytest.raises(ArtifactError, match=lost):
        Preprocessing.from_tensors(tensors)


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan")])
def test_eps_must_be_positive(eps: float) -> None:
    with pytest.raises(ConfigError, match="zca_eps"):
        Preprocessing.fit(grey_levels(5), zca=True, zca_eps=eps)


@pytest.mark.parametrize("images", [torch.empty(0, 3, 4, 4, dtype=torch.uint8), torch.rand(5, 3, 4, 4)])
def test_fits_bytes_only(images: Tensor) -> None:
    with pytest.raises(DataError, match="uint8"):
        Preprocessing.fit(images)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 3, 5, 5), (3, 4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    fitted = Preprocessing.fit(grey_levels(50), zca=True)
    with pytest.raises(DataError, match="fitted on images"):
        fitted.apply(torch.zeros(shape))
