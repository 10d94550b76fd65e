"""Many small image files to one tensor."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pdd_lightning.errors import DataError
from pdd_lightning.progress import Progress
from pdd_lightning.store.digests import digest
from pdd_lightning.store.files import cached

_BATCH = 256
"""Files per task: enough that handing out tasks costs nothing, few enough that a bar moves."""

_RULES = "opaque"
"""What was refused: images in the cache are decoded anew where that changes."""

_MOVING = ("AVIF", "GIF", "PNG", "WEBP")
"""Formats of films; in others, further pictures are previews and the like."""

_LONG = 5000
"""Files from which reading takes long enough to want a progress bar."""


def load_images(
    files: Sequence[Path],
    root: Path,
    *,
    image_size: int | None = None,
    grey: bool = False,
    cache_dir: str | None = None,
) -> Tensor:
    """Decode image files, or find them decoded in the cache.

    Args:
        files: At least one file, all below ``root``.
        root: What the cache's key is relative to, so that a data set that was moved is still found.
        image_size: Resize to this many pixels square. None requires that all images are of one square size.
        grey: Whether to read one grey channel instead of red, green and blue.
        cache_dir: Where decoded images are kept, or None.

    Returns:
        Shape (N, C, S, S), uint8, in the order of the files.

    Raises:
        DataError: If a file cannot be read, or sizes differ without ``image_size``.
    """
    if cache_dir is None:
        return _decode(files, image_size, grey)
    listing = [(path.relative_to(root).as_posix(), *_stamp(path)) for path in files]
    # The keyed order is the order of the tensor's rows, so the list enters as it is given.
    name = f"decoded-{digest(_RULES, listing, image_size, grey)}"
    return cached(cache_dir, name, lambda: {"images": _decode(files, image_size, grey)})["images"]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns


def _decode(files: Sequence[Path], image_size: int | None, grey: bool) -> Tensor:
    reference = _size_of(files[0], _read(files[0], image_size, grey))
    out = np.empty((len(files), 1 if grey else 3, reference, reference), dtype=np.uint8)

    def fill(start: int) -> int:
        batch = files[start : start + _BATCH]
        for row, path in enumerate(batch, start):
            pixels = _read(path, image_size, grey)
            if pixels.shape[1:] != out.shape[2:]:
                raise _differ(files[0], reference, path, pixels)
            out[row] = pixels
        return len(batch)

    with (
        Progress(enabled=len(files) >= _LONG) as progress,
        progress.task("reading images", len(files)) as task,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        # Results come in the order of the files, so the first bad file is the one reported, every time.
        for done in pool.map(fill, range(0, len(files), _BATCH)):
            task.advance(done)
    return torch.from_numpy(out)


def _read(path: Path, image_size: int | None, grey: bool) -> NDArray[np.uint8]:
    """One file, shape (C, H, W)."""
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise DataError(f"{path}: has more than 8 bits per value; convert it to an 8-bit image")
            if file.format in _MOVING and getattr(file, "is_animated", False):
                raise DataError(f"{path}: is a film of several pictures; keep one of them")
            if file.has_transparency_data and file.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise DataError(f"{path}: is transparent in places; put it on a background of your choice")
            image = file.convert("L" if grey else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    if image_size is not None:
        # Pillow widens the filter when it shrinks, which is what antialiasing means elsewhere.
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _size_of(path: Path, pixels: NDArray[np.uint8]) -> int:
    height, width = pixels.shape[1:]
    if height != width:
        raise DataError(
            f"{path} is {width}x{height} pixels (width x height): images must be square. Make them so, or "
            "resize them all with `image_size`."
        )
    return int(height)


def _differ(first: Path, reference: int, path: Path, pixels: NDArray[np.uint8]) -> DataError:
    height, width = pixels.shape[1:]
    return DataError(
        f"image sizes differ: {first} is {reference}x{reference} pixels and {path} is {width}x{height} "
        f"(width x height). Resize them all with `image_size`, for example `image_size: {reference}`."
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read as an image ({error}). Replace the file or remove it.")
