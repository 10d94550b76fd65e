"""Whether images of others suit the data, and in which space they are."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

import torch
from torch import Tensor

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.errors import ConfigError, DataError, suggest
from pdd_lightning.evaluation.imported_files import ImportedFiles
from pdd_lightning.process.ranks import is_first
from pdd_lightning.types import LabelledImages

log = logging.getLogger(__name__)

Space = Literal["pixels", "normalised"]
"""Pixels are what a picture holds; normalised is what networks read: whitened too, where the data are."""

_MANY: Final = 5000
"""Real images that statistics are taken from."""


def labelled_images(found: ImportedFiles, data: ImageDataModule, space: Space | None) -> tuple[LabelledImages, Space]:
    """The images as networks read them, and the space that they came in.

    Args:
        found: What the files hold.
        data: The real data, set up.
        space: That the images are in; None finds it out.

    Raises:
        DataError: If images or labels do not suit the data.
        ConfigError: If the space is not clear, or not the one that is given.
    """
    if found.classes is not None and found.images.shape[1] == 1:  # a grey picture is one of colours too
        found = replace(found, images=found.images.expand(-1, data.image_shape[0], -1, -1))
    images, labels = found.images, _labels(found, data.class_names)
    _check_images(found, data)
    if len(labels) != len(images):
        raise DataError(f"{found.source}: {len(images)} images have {len(labels)} labels; give one label per image")
    images = images if images.dtype == torch.uint8 else images.float()
    chosen = _space(images, data, space, found)
    seen = data.preprocessing.apply(images) if chosen == "pixels" else images
    _warn(seen, labels, data, found.source)
    return LabelledImages(seen.contiguous(), labels), chosen


def _check_images(found: ImportedFiles, data: ImageDataModule) -> None:
    images, (channels, height, width) = found.images, data.image_shape
    wanted, shape = f"(N, {channels}, {height}, {width})", tuple(images.shape)
    if not (images.is_floating_point() or images.dtype == torch.uint8):
        raise DataError(f"{found.source}: images are {images.dtype}; save them as floating point or uint8")
    if shape[1:] != data.image_shape or not shape[0]:
        remedy = "name the data that they were made of (--data), or resize them"
        if shape[1:] == (height, width, channels):
            remedy = "channels come last: transpose them, images.permute(0, 3, 1, 2)"
        elif channels == 1 and shape[1:] == (height, width):
            remedy = "the channel is missing: images[:, None]"
        raise DataError(f"{found.source}: images have shape {shape}, the data {wanted}; {remedy}")
    if images.is_floating_point() and (bad := int((~torch.isfinite(images)).sum())):
        raise DataError(f"{found.source}: {bad} values of the images are NaN or infinite; get the images again")


def _labels(found: ImportedFiles, names: Sequence[str]) -> Tensor:
    """One class of the data for each image, int64."""
    labels, classes = found.labels, len(names)
    if found.classes is not None:
        return torch.tensor([_class(name, names, found.source) for name in found.classes])[labels]
    if labels.ndim != 1:
        remedy = "labels.argmax(1) turns one-hot ones into numbers" if labels.ndim == 2 else "save one number per image"
        if labels.ndim == 2 and labels.shape[1] == 1:
            remedy = "labels.flatten()"
        raise DataError(
            f"{found.source}: labels have shape {tuple(labels.shape)}, expected the number of a class for each image, "
            f"not soft or one-hot ones; {remedy}"
        )
    if labels.dtype == torch.bool or (labels.is_floating_point() and not bool((labels == labels.round()).all())):
        raise DataError(f"{found.source}: labels are not whole numbers; give the number of a class for each image")
    labels = labels.long()
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"{found.source}: labels run from {int(labels.min())} to {int(labels.max())}, but the data have the "
            f"classes 0 to {classes - 1}; number them from 0 and name the data that they were made of (--data)"
        )
    return labels


def _class(name: str, names: Sequence[str], source: str) -> int:
    if name in names:
        return names.index(name)
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise DataError(f"{source}/{name}: there is no such class{suggest(name, names)}; the data have {shown}")


def _space(images: Tensor, data: ImageDataModule, space: Space | None, found: ImportedFiles) -> Space:
    if images.dtype == torch.uint8:
        if space == "normalised":
            raise ConfigError(f"--space=normalised: {found.source} holds uint8 pixels; leave --space out")
        return "pixels"
    low, high, mean = float(images.min()), float(images.max()), float(images.mean())
    if space != "normalised" and low >= 0 and high > 16 and bool((images == images.round()).all()):
        raise DataError(f"{found.source}: pixels run to {high:g}; save them as uint8, or divide them by 255")
    if space is not None:
        return space
    pixel, inside = data.preprocessing, low >= 0 and high <= 1
    if inside and abs(mean - float(pixel.mean.mean())) <= float(pixel.std.mean()):
        return "pixels"
    deviation, (_, real) = float(images.std()), _moments(_real(data))
    if not inside and abs(mean) <= 0.25 and 0.5 * real <= deviation <= 2.5 * max(1.0, real):
        return "normalised"
    raise ConfigError(
        f"{found.source}: values from {low:.4g} to {high:.4g}, with mean {mean:.4g} and deviation {deviation:.4g}, may "
        "be pixels or what networks read; say which, --space pixels or --space normalised"
    )


def _real(data: ImageDataModule) -> Tensor:
    """Real images as networks read them, of all classes."""
    images = data.train.images
    return images[:: max(1, len(images) // _MANY)]


def _moments(images: Tensor) -> tuple[float, float]:
    return float(images.mean()), float(images.std())


def _warn(images: Tensor, labels: Tensor, data: ImageDataModule, source: str) -> None:
    """Say what is odd about images in the networks' space, and can be meant."""
    if not is_first():
        return
    counts = labels.bincount(minlength=data.num_classes).tolist()
    if missing := [name for name, count in zip(data.class_names, counts, strict=True) if not count]:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        log.warning("%s holds no image of %d of %d classes: %s", source, len(missing), len(counts), shown)
    real = _real(data)
    (mean, deviation), (_, usual) = _moments(images), _moments(real)
    if abs(mean) > 0.5 or not 0.5 * usual <= deviation <= 2.5 * max(1.0, usual):
        log.warning(
            "%s: where networks read them, the images have mean %.2f and deviation %.2f, the real ones 0.00 and %.2f: "
            "are data and --space those that they were made with?",
            source,
            mean,
            deviation,
            usual,
        )
    if data.zca:
        invert = data.preprocessing.invert
        (_, pictured), (_, true) = _moments(invert(images)), _moments(invert(real))
        if pictured > 4 * true:  # low frequencies, which whitening has not reduced
            log.warning(
                "%s: as pictures, the images have deviation %.2f, the real ones %.2f: they seem not to be whitened; if "
                "so, leave out data.zca",
                source,
                pictured,
                true,
            )
