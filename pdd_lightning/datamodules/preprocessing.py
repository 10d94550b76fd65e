"""From images in [0, 1] to what the networks read, and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from pdd_lightning.errors import ArtifactError, ConfigError, DataError
from pdd_lightning.progress import track
from pdd_lightning.store.files import read_tensors
from pdd_lightning.types import State

_EXACT_CHUNK = 256
"""Rows whose products float32 sums exactly: 256 * 255**2 < 2**24."""

_CHUNK = 1024
"""Images transformed at a time, so that temporaries stay small beside the data."""

_MANY = 10_000
"""Images whose preprocessing may take long enough to want a progress bar."""

_CONSTANT_VARIANCE = 1e-10
"""In squared grey levels: below one differing level among any number of pixels that fits in memory."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """ZCA whitening of flattened images, x -> (x - mean) @ matrix, and the way back.

    ZCA is the whitening that changes the images least (Bell and Sejnowski, "The 'independent components' of
    natural scenes are edge filters", 1997), so whitened images still look like images.

    Attributes:
        mean: Shape (D,), D = C * H * W.
        matrix: Shape (D, D), symmetric.
        inverse: Shape (D, D), the inverse of ``matrix``.

    Example:
        >>> covariance = torch.tensor([[4.0, 0.0], [0.0, 0.25]]).double()
        >>> white = Whitening.from_covariance(torch.zeros(2).double(), covariance, eps=1e-9)
        >>> torch.tensor([2.0, 0.5]).double() @ white.matrix  # both are one standard deviation
        tensor([1.0000, 1.0000], dtype=torch.float64)
    """

    mean: Tensor
    matrix: Tensor
    inverse: Tensor

    @classmethod
    def from_covariance(cls, mean: Tensor, covariance: Tensor, eps: float) -> Self:
        """Whiten a distribution, with eigenvalues l scaled to l / (l + eps).

        Args:
            mean: Shape (D,), float64.
            covariance: Shape (D, D), float64.
            eps: Above 0. Keeps directions without variance from being blown up.
        """
        values, vectors = torch.linalg.eigh(covariance)
        # Rounding leaves the zero eigenvalues of a rank-deficient covariance on either side of zero.
        scale = (values.clamp(min=0) + eps).sqrt()
        return cls(mean, (vectors / scale) @ vectors.T, (vectors * scale) @ vectors.T)

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same map on another device or in another precision."""
        return type(self)(*(t.to(device, dtype) for t in (self.mean, self.matrix, self.inverse)))


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """A reversible map from images in [0, 1] to the space that the networks read.

    Every channel is normalised to mean 0 and variance 1, after which the image is whitened where asked for.

    Attributes:
        mean: Shape (C,), of images in [0, 1].
        std: Shape (C,), positive.
        whitening: Fitted on normalised images, or None.

    Example:
        >>> images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        >>> preprocessing = Preprocessing.fit(images)
        >>> preprocessing.apply(images).flatten()
        tensor([-1.,  1.])
        >>> preprocessing.invert(preprocessing.apply(images)).flatten()
        tensor([0., 1.])
    """

    mean: Tensor
    std: Tensor
    whitening: Whitening | None = None

    @classmethod
    def fit(cls, images: Tensor, *, zca: bool = False, zca_eps: float = 0.1) -> Self:
        """Measure training images.

        Sums of grey levels are integers and kept exact, so the result does not depend on the number of
        threads up to the eigendecomposition. Everything is computed in float64 and stored in float32.

        Args:
            images: Shape (N, C, H, W), uint8.
            zca: Whether to whiten.
            zca_eps: Added to the eigenvalues of the covariance of the normalised images.

        Raises:
            ConfigError: If ``zca_eps`` is not positive.
            DataError: If there is no image.
        """
        if not zca_eps > 0:
            raise ConfigError(f"zca_eps={zca_eps}: must be above 0, and is usually 0.1")
        if images.ndim != 4 or images.dtype != torch.uint8 or len(images) == 0:
            raise DataError(
                "preprocessing is fitted on uint8 images of shape (N, C, H, W) with N > 0, got "
                f"{images.dtype} of shape {tuple(images.shape)}"
            )
        pixel_mean, pixel_square = _moments(images)
        channels = images.shape[1]
        mean = pixel_mean.view(channels, -1).mean(1)
        variance = pixel_square.view(channels, -1).mean(1) - mean.square()
        constant = variance <= _CONSTANT_VARIANCE
        std = torch.where(constant, 255.0, variance.clamp(min=_CONSTANT_VARIANCE).sqrt())
        whitening = None
        if zca:
            pixels = images[0, 0].numel()
            scale = std.repeat_interleave(pixels)
            covariance = _covariance(images, pixel_mean).div_(scale).div_(scale[:, None])
            normalised_mean = (pixel_mean - mean.repeat_interleave(pixels)) / scale
            exact = Whitening.from_covariance(normalised_mean, covariance, zca_eps)
            whitening = exact.to(torch.device("cpu"), torch.float32)
        return cls((mean / 255).float(), (std / 255).float(), whitening)

    def apply(self, images: Tensor) -> Tensor:
        """Images to network space. Keeps no graph.

        Args:
            images: Shape (N, C, H, W), uint8 in 0..255 or floating point in [0, 1], on any device.

        Returns:
            Shape (N, C, H, W), in the images' own precision if they have one, else float32.
        """
        return self._map(images, forward=True)

    def invert(self, images: Tensor) -> Tensor:
        """Network space back to images. Keeps no graph.

        Args:
            images: Shape (N, C, H, W), floating point, on any device.

        Returns:
            Shape (N, C, H, W). Real images come back in [0, 1]. Distilled ones may leave that range and are
            not clamped here: clamp before showing them.
        """
        return self._map(images, forward=False)

    def tensors(self) -> State:
        """Everything needed to rebuild this, for a safetensors file."""
        tensors = {"mean": self.mean, "std": self.std}
        if self.whitening is not None:
            white = self.whitening
            tensors |= {"zca_mean": white.mean, "zca_matrix": white.matrix, "zca_inverse": white.inverse}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: State) -> Self:
        """The inverse of `tensors`.

        Args:
            tensors: As `tensors` returned them; further entries are ignored.

        Raises:
            ArtifactError: If an entry is missing.
        """
        zca_names = ("zca_mean", "zca_matrix", "zca_inverse")
        has_zca = any(name in tensors for name in zca_names)
        missing = {"mean", "std", *(zca_names if has_zca else ())} - tensors.keys()
        if missing:
            raise ArtifactError(
                f"stored preprocessing lacks {', '.join(sorted(missing))}: the file is damaged or not ours; "
                "make it again"
            )
        whitening = Whitening(*(tensors[name] for name in zca_names)) if has_zca else None
        return cls(tensors["mean"], tensors["std"], whitening)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What a run left as `preprocessing.safetensors`.

        Raises:
            ArtifactError: If the file is missing, damaged or of something else.
        """
        tensors, _ = read_tensors(path)
        try:
            return cls.from_tensors(tensors)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error

    @torch.no_grad()
    def _map(self, images: Tensor, *, forward: bool) -> Tensor:
        self._check(images)
        dtype = images.dtype if images.is_floating_point() else torch.float32
        out = torch.empty(images.shape, dtype=dtype, device=images.device)
        mean, std = (t.to(images.device, dtype)[:, None, None] for t in (self.mean, self.std))
        white = self.whitening and self.whitening.to(images.device, dtype)
        pairs = list(zip(torch.split(images, _CHUNK), torch.split(out, _CHUNK), strict=True))
        for chunk, target in track(pairs, description="preprocessing", enabled=len(images) >= _MANY):
            x = chunk.to(dtype) / 255 if chunk.dtype == torch.uint8 else chunk
            if forward:
                x = (x - mean) / std
                target.copy_(x if white is None else ((x.flatten(1) - white.mean) @ white.matrix).view_as(x))
            else:
                x = x if white is None else (x.flatten(1) @ white.inverse + white.mean).view_as(x)
                target.copy_(x * std + mean)
        return out

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise DataError(
                f"images have shape {tuple(images.shape)}, but the preprocessing was fitted on images of "
                f"shape (N, {len(self.mean)}, H, W)"
            )
        if self.whitening is not None and images[0:1].numel() not in (0, len(self.whitening.mean)):
            raise DataError(
                f"images have shape {tuple(images.shape)}, but the whitening was fitted on images of "
                f"{len(self.whitening.mean)} values each"
            )


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of each value in grey levels, both (D,), float64."""
    total = torch.zeros(images[0].numel(), dtype=torch.int64)
    squares = torch.zeros_like(total)
    for chunk in torch.split(images, _CHUNK):
        rows = chunk.flatten(1).to(torch.int64)
        total += rows.sum(0)
        squares += rows.square_().sum(0)
    return total.double() / len(images), squares.double() / len(images)


def _covariance(images: Tensor, pixel_mean: Tensor) -> Tensor:
    """Population covariance of grey levels, (D, D), float64.

    Grey levels are small integers: within a short chunk float32 sums their products without rounding, at
    twice the speed of float64, and reduced-precision matrix products (which still hold 0..255) change
    nothing.
    """
    products = torch.zeros(len(pixel_mean), len(pixel_mean), dtype=torch.float64)
    chunks = torch.split(images, _EXACT_CHUNK)
    for chunk in track(chunks, description="whitening: covariance", enabled=len(images) >= _MANY):
        rows = chunk.flatten(1).float()
        products += rows.T @ rows
    return products.div_(len(images)).sub_(torch.outer(pixel_mean, pixel_mean))
