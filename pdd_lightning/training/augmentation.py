"""Augmentation in two phases: draw the parameters, then apply them to any number of batches.

Applying is differentiable in the images (twice, and in forward mode), keeps their dtype and runs on their
device. It happens at every synthetic step, so every operation is as few tensor operations as it allows.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pdd_lightning.described import Described
from pdd_lightning.errors import ConfigError
from pdd_lightning.types import ImageShape, sent

Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]


@dataclass(frozen=True)
class AugmentParams:
    """What was drawn for one step.

    Attributes:
        values: Tensors by name, in order of use. The first dimension is N, or 1 if every image shares them.

    Example:
        >>> drawn = AugmentParams({"shift": torch.zeros(6)})
        >>> drawn.to("cpu", torch.float64).values["shift"].dtype
        torch.float64
    """

    values: Mapping[str, Tensor]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Self:
        """The same draw on another device, or in another floating-point type."""
        return type(self)({name: sent(value, device, dtype) for name, value in self.values.items()})


class Augmentation(Described, ABC):
    """Random transformations of images. Subclasses are best frozen dataclasses of their options.

    Example:
        >>> class Negative(Augmentation):
        ...     def draw(self, batch_size, image_shape, generator):
        ...         return AugmentParams({"sign": 1 - 2 * torch.randint(2, (batch_size,), generator=generator)})
        ...
        ...     def apply(self, images, params):
        ...         return images * params.values["sign"][:, None, None, None]
        >>> negative, images = Negative(), torch.ones(6, 1, 8, 8)
        >>> drawn = negative.draw(6, (1, 8, 8), torch.Generator().manual_seed(0))
        >>> negative.apply(images, drawn).abs().equal(images)
        True
    """

    @abstractmethod
    def draw(self, batch_size: int, image_shape: ImageShape, generator: torch.Generator) -> AugmentParams:
        """Draw the parameters of one step, from nothing but the generator.

        Args:
            batch_size: Number of images.
            image_shape: Channels, height, width.
            generator: On the CPU.

        Returns:
            Parameters for :meth:`apply`, on the CPU.
        """

    @abstractmethod
    def apply(self, images: Tensor, params: AugmentParams) -> Tensor:
        """Transform images.

        Args:
            images: Shape (N, C, H, W), floating point, on any device.
            params: From :meth:`draw` for N images of this shape, or a draw that every image shares.

        Returns:
            The same shape, dtype and device.
        """


@dataclass(frozen=True)
class NoAugmentation(Augmentation):
    """Leaves images as they are.

    Example:
        >>> images = torch.zeros(6, 1, 8, 8)
        >>> NoAugmentation().apply(images, NoAugmentation().draw(6, (1, 8, 8), torch.Generator())) is images
        True
    """

    def draw(self, batch_size: int, image_shape: ImageShape, generator: torch.Generator) -> AugmentParams:
        """Nothing; the generator is not touched."""
        return AugmentParams({})

    def apply(self, images: Tensor, params: AugmentParams) -> Tensor:
        """The images themselves."""
        return images


@dataclass(frozen=True)
class DSA(Augmentation):
    """Differentiable siamese augmentation (Zhao and Bilen, ICML 2021, section 3.2 and appendix).

    With u uniform in [0, 1), drawn afresh for each number, and for height and width each:

    - color: brightness, x + (u - 0.5) * ``brightness``; then saturation, which scales the distance to the
      pixel's mean over channels by u * ``saturation`` (grey images have none); then contrast, which scales
      the distance to the image's mean by u + ``contrast``.
    - crop: moves by whole pixels, uniform in [-r, r] with r = int(size * ``crop_ratio`` + 0.5), over zeros.
    - cutout: a rectangle of zeros with sides int(size * ``cutout_ratio`` + 0.5), centred anywhere in the
      image and clipped at its borders.
    - flip: left to right, with probability ``flip_probability``.
    - scale: reads at coordinates multiplied by u * (s - 1/s) + 1/s, where s is ``scale_ratio``.
    - rotate: reads at coordinates turned by (u - 0.5) * 2 * ``rotate_degrees``.

    Scale and rotate sample bilinearly, with zeros outside the image. Coordinates run from -1 to 1 between the
    outer edges of the border pixels: ``affine_grid`` and ``grid_sample`` with ``align_corners=False``.

    Attributes:
        operations: What may happen, in order. Leave ``"flip"`` out for digits, which have a handedness.
        one_per_step: Apply one operation, drawn uniformly, to the whole batch; else all of them in order.
        one_of: Where `one_per_step` is false: of these operations one, drawn uniformly, is applied to the whole batch,
            in its place among the others, which always are. As IDC trains networks on its images (Kim et al., ICML
            2022, and its code): flip and color, then one of crop, scale and rotate.
        siamese: Draw one set of parameters for the whole batch, which then fits batches of any size (real and
            synthetic images); else one set per image.
        flip_probability: In [0, 1].
        scale_ratio: At least 1.
        rotate_degrees: In [0, 180].
        crop_ratio: Fraction of the size, in [0, 1].
        cutout_ratio: Fraction of the size, in [0, 1].
        brightness, saturation, contrast: At least 0; brightness in units of the (preprocessed) images.

    Raises:
        ConfigError: If an option is out of its range.

    Example:
        >>> dsa = DSA(operations=("crop", "scale"), siamese=True)
        >>> drawn = dsa.draw(6, (1, 8, 8), torch.Generator().manual_seed(0))
        >>> dsa.apply(torch.zeros(6, 1, 8, 8), drawn).shape, dsa.apply(torch.zeros(2, 1, 8, 8), drawn).shape
        (torch.Size([6, 1, 8, 8]), torch.Size([2, 1, 8, 8]))
    """

    # Plain strings, for the check below says more than a type can.
    operations: tuple[str, ...] = get_args(Operation)
    one_per_step: bool = True
    one_of: tuple[str, ...] = ()
    siamese: bool = False
    flip_probability: float = 0.5
    scale_ratio: float = 1.2
    rotate_degrees: float = 15.0
    crop_ratio: float = 0.125
    cutout_ratio: float = 0.5
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", tuple(self.operations))  # a list would not hash
        if not self.operations:
            raise ConfigError("operations is empty: name at least one, or use NoAugmentation")
        for operation in self.operations:
            if operation == "cutmix":
                raise ConfigError(
                    "operations has 'cutmix', which mixes labels, and an augmentation sees images only: set "
                    "model.recipe.cutmix (transition and evaluation) or model.dynamics.cutmix (training on real data)"
                )
            if operation not in _APPLY:
                raise ConfigError(f"operations has {operation!r}: choose from {', '.join(_APPLY)}")
        if len(set(self.operations)) < len(self.operations):
            raise ConfigError(f"operations is {list(self.operations)}: name each operation once")
        object.__setattr__(self, "one_of", tuple(self.one_of))
        self._check_one_of()
        for option, (low, high) in _RANGES.items():
            value = getattr(self, option)
            if not (low <= value <= high and math.isfinite(value)):
                wanted = f"between {low:g} and {high:g}" if math.isfinite(high) else f"at least {low:g}"
                raise ConfigError(f"{option} is {value}: set it to a number {wanted}")

    def _check_one_of(self) -> None:
        given = list(self.one_of)
        if given and self.one_per_step:
            raise ConfigError(
                f"one_of is {given}, and one_per_step draws one of all operations: set one_per_step to false"
            )
        if unknown := [operation for operation in given if operation not in self.operations]:
            raise ConfigError(f"one_of has {unknown[0]!r}, which operations does not have: {list(self.operations)}")
        if len(set(given)) < len(given):
            raise ConfigError(f"one_of is {given}: name each operation once")

    def draw(self, batch_size: int, image_shape: ImageShape, generator: torch.Generator) -> AugmentParams:
        """See :meth:`Augmentation.draw`."""
        operations = self.operations
        if self.one_per_step:
            chosen = int(torch.randint(len(operations), (), generator=generator))
            operations = operations[chosen : chosen + 1]
        elif self.one_of:
            drawn = self.one_of[int(torch.randint(len(self.one_of), (), generator=generator))]
            operations = tuple(name for name in operations if name == drawn or name not in self.one_of)
        rows = 1 if self.siamese else batch_size
        uniforms = {operation: torch.rand(rows, 3, generator=generator) for operation in operations}
        return AugmentParams({key: _DRAW[key](self, value, image_shape) for key, value in uniforms.items()})

    def apply(self, images: Tensor, params: AugmentParams) -> Tensor:
        """See :meth:`Augmentation.apply`.

        Raises:
            ValueError: If the parameters were drawn for another number of images.
        """
        # Coordinates of pixels are not exact in half precision.
        dtype = torch.promote_types(images.dtype, torch.float32)
        for operation, drawn in params.values.items():
            if drawn.shape[0] not in (1, images.shape[0]):
                raise ValueError(f"parameters for {drawn.shape[0]} images applied to {images.shape[0]}")
            images = _APPLY[operation](self, images, sent(drawn, images.device, dtype))
        return images


_RANGES = {
    **dict.fromkeys(("flip_probability", "crop_ratio", "cutout_ratio"), (0.0, 1.0)),
    **dict.fromkeys(("brightness", "saturation", "contrast"), (0.0, math.inf)),
    "scale_ratio": (1.0, math.inf),
    "rotate_degrees": (0.0, 180.0),
}


# In what follows, uniforms are (B, 3) numbers in [0, 1), what is drawn from them has shape (B, numbers), and
# B is N or 1. Where two numbers are drawn, the first is for the height and the second for the width.


def _integers(uniforms: Tensor, counts: tuple[int, int]) -> Tensor:
    """Whole numbers (B, 2), uniform in [0, count)."""
    count = torch.tensor(counts, dtype=uniforms.dtype)
    # The product can round up to the count itself.
    return (uniforms[:, :2] * count).floor().minimum(count - 1)


def _fractions(image_shape: ImageShape, ratio: float) -> tuple[int, int]:
    """A ratio of height and width in whole pixels."""
    return int(image_shape[1] * ratio + 0.5), int(image_shape[2] * ratio + 0.5)


def _draw_crop(options: DSA, uniforms: Tensor, image_shape: ImageShape) -> Tensor:
    down, right = _fractions(image_shape, options.crop_ratio)
    return _integers(uniforms, (2 * down + 1, 2 * right + 1)) - torch.tensor([down, right])


def _draw_cutout(options: DSA, uniforms: Tensor, image_shape: ImageShape) -> Tensor:
    tall, wide = _fractions(image_shape, options.cutout_ratio)
    # A rectangle with even sides is centred between pixels, which leaves one more place for it.
    return _integers(uniforms, (image_shape[1] + 1 - tall % 2, image_shape[2] + 1 - wide % 2))


def _color(options: DSA, images: Tensor, drawn: Tensor) -> Tensor:
    # All three multiplied out: each is affine in the image, its means over channels and its overall mean.
    brightness, saturation, contrast = drawn.to(images.dtype)[..., None, None, None].unbind(1)
    pixel_means = images.mean(1, keepdim=True)
    image_mean = pixel_means.mean((2, 3), keepdim=True)
    grey = torch.addcmul(brightness, 1 - contrast, image_mean)
    grey = torch.addcmul(grey, contrast * (1 - saturation), pixel_means)
    return torch.addcmul(grey, contrast * saturation, images)


def _crop(options: DSA, images: Tensor, drawn: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    shift = drawn.long()
    rows = (torch.arange(height, device=images.device) + shift[:, :1]).clamp(-1, height)
    columns = (torch.arange(width, device=images.device) + shift[:, 1:]).clamp(-1, width)
    # With a border of zeros, for what is moved in from beside the image.
    index = rows[:, :, None] * (width + 2) + columns[:, None, :] + (width + 3)
    return _gather(F.pad(images, (1, 1, 1, 1)), index.flatten(1)).reshape(images.shape)


def _cutout(options: DSA, images: Tensor, drawn: Tensor) -> Tensor:
    _, channels, height, width = images.shape
    tall, wide = _fractions((channels, height, width), options.cutout_ratio)
    rows = torch.arange(height, device=images.device) - drawn[:, :1] + tall // 2
    columns = torch.arange(width, device=images.device) - drawn[:, 1:] + wide // 2
    cut = _within(rows, tall)[:, :, None] & _within(columns, wide)[:, None, :]
    return images * (~cut)[:, None].to(images.dtype)


def _flip(options: DSA, images: Tensor, drawn: Tensor) -> Tensor:
    return torch.where(drawn[:, :, None, None] > 0, images.flip(-1), images)


def _scale(options: DSA, images: Tensor, drawn: Tensor) -> Tensor:
    # Rows and columns are resampled independently of each other, so two small matrix products do it.
    height, width = images.shape[-2:]
    rows = _zoom(height, drawn[:, :1]).to(images.dtype)[:, None]
    columns = _zoom(width, drawn[:, 1:]).to(images.dtype)[:, None]
    scaled = rows @ images @ columns.mT
    return scaled.to(images.dtype)  # autocast makes products in half precision


def _rotate(options: DSA, images: Tensor, drawn: Tensor) -> Tensor:
    # Four taps for every pixel. grid_sample would do, but its backward pass has no derivative of its own.
    height, width = images.shape[-2:]
    cosine, sine = drawn.cos()[:, :, None], drawn.sin()[:, :, None]
    down, right = _centred(height, drawn)[:, None], _centred(width, drawn)
    # Normalised coordinates are turned, so an image that is not square is sheared by its proportions.
    rows = (sine * (height / width) * right + cosine * down + (height - 1) / 2).flatten(1)
    columns = (cosine * right - sine * (width / height) * down + (width - 1) / 2).flatten(1)
    top, left = rows.floor(), columns.floor()
    row = torch.stack([top, top, top + 1, top + 1], 1)
    column = torch.stack([left, left + 1, left, left + 1], 1)
    weight = (1 - (rows[:, None] - row).abs()) * (1 - (columns[:, None] - column).abs())
    # With a border of zeros, for taps beside the image.
    index = (row.clamp(-1, height) * (width + 2) + column.clamp(-1, width)).long() + (width + 3)
    taps = _gather(F.pad(images, (1, 1, 1, 1)), index.flatten(1)).reshape(*images.shape[:2], 4, -1)
    return (taps * weight.to(images.dtype)[:, None]).sum(2).reshape(images.shape)


def _within(positions: Tensor, size: int) -> Tensor:
    """Which positions are in [0, size)."""
    return (positions >= 0) & (positions < size)


def _gather(images: Tensor, index: Tensor) -> Tensor:
    """Pixels of images (N, C, H, W) at flat positions (B, K), as (N, C, K)."""
    return images.flatten(2).gather(2, index[:, None].expand(*images.shape[:2], -1))


def _centred(size: int, like: Tensor) -> Tensor:
    """Positions (size,) of pixels about the centre of the image."""
    return torch.arange(size, device=like.device, dtype=like.dtype) - (size - 1) / 2


def _zoom(size: int, factor: Tensor) -> Tensor:
    """The matrices (B, size, size) of linear interpolation at centred positions times factors (B, 1)."""
    pixels = _centred(size, factor)
    return (1 - ((pixels * factor)[..., None] - pixels).abs()).clamp(min=0)


_DRAW: dict[str, Callable[[DSA, Tensor, ImageShape], Tensor]] = {
    "color": lambda dsa, u, _: (
        u * torch.tensor([dsa.brightness, dsa.saturation, 1.0])
        + torch.tensor([-0.5 * dsa.brightness, 0.0, dsa.contrast])
    ),
    "crop": _draw_crop,
    "cutout": _draw_cutout,
    "flip": lambda dsa, u, _: (u[:, :1] < dsa.flip_probability).float(),
    "scale": lambda dsa, u, _: u[:, :2] * (dsa.scale_ratio - 1 / dsa.scale_ratio) + 1 / dsa.scale_ratio,
    "rotate": lambda dsa, u, _: (u[:, :1] - 0.5) * (2 * math.radians(dsa.rotate_degrees)),
}


_APPLY: dict[str, Callable[[DSA, Tensor, Tensor], Tensor]] = dict(
    color=_color, crop=_crop, cutout=_cutout, flip=_flip, scale=_scale, rotate=_rotate
)
