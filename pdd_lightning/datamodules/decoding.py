"""Many small image files to one tensor."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pdd_lightning.datamodules.image_file import RULES, read_image, require_file, unreadable
from pdd_lightning.errors import DataError
from pdd_lightning.progress import Progress
from pdd_lightning.store.digests import digest, file_digest
from pdd_lightning.store.files import cached
from pdd_lightning.types import State

_BATCH = 256
"""Files per task: enough that handing out tasks costs nothing, few enough that a bar moves."""

_LONG = 5000
"""Files from which reading takes long enough to want a progress bar."""

_Result = TypeVar("_Result")


def load_images(
    files: Sequence[Path], *, image_size: int | None = None, grey: bool | None = False, cache_dir: str | None = None
) -> tuple[Tensor, int]:
    """Decode image files, or find them decoded in the cache.

    Args:
        files: At least one file.
        image_size: Resize to this many pixels square. None requires that all images are of one square size.
        grey: Whether to read one grey channel instead of red, green and blue. None reads one where all images are
            grey: where in each of them all channels are equal.
        cache_dir: Where decoded images are kept, or None. They are found again by the files' contents: names, sizes
            and times may be those of other images.

    Returns:
        Images, shape (N, C, S, S), uint8, in the order of the files; and how many of the files are grey, which is 0
        if nobody asked.

    Raises:
        DataError: If a file cannot be read, or sizes differ without ``image_size``.
    """
    with _silent():
        if cache_dir is None:
            tensors = _decode(files, image_size, grey)
        else:
            contents = [
                each for batch in _in_threads(_digests, files, "looking for images in the cache") for each in batch
            ]
            # The keyed order is the order of the tensor's rows, so the list enters as it is given.
            name = f"decoded-{digest(RULES, contents, image_size, grey)}"
            tensors = cached(cache_dir, name, lambda: _decode(files, image_size, grey))
    return tensors["images"], int(tensors["grey"].sum())


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Pillow from warning of odd but harmless files, which it does not name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _in_threads(work: Callable[[int, Sequence[Path]], _Result], files: Sequence[Path], doing: str) -> Iterator[_Result]:
    """Hand out the files in batches, each with the number of its first one; results come in the order of the files.

    The first bad file is then the one reported, every time.
    """
    starts = range(0, len(files), _BATCH)
    with (
        Progress(enabled=len(files) >= _LONG) as progress,
        progress.task(doing, len(files)) as task,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        batches = [files[start : start + _BATCH] for start in starts]
        for result, batch in zip(pool.map(work, starts, batches), batches, strict=True):
            task.advance(len(batch))
            yield result


def _digests(_: int, batch: Sequence[Path]) -> list[str]:
    digests = []
    for path in batch:
        require_file(path)
        try:
            digests.append(file_digest(path))
        except OSError as error:
            raise unreadable(path, str(error)) from error
    return digests


def _decode(files: Sequence[Path], image_size: int | None, grey: bool | None) -> State:
    """The images, and for each file whether it is found to be grey."""
    reference = _size_of(files[0], _read(files[0], image_size, grey)[0])
    out = np.empty((len(files), 1 if grey else 3, reference, reference), dtype=np.uint8)
    found = np.zeros(len(files), dtype=np.bool_)

    def fill(start: int, batch: Sequence[Path]) -> None:
        for row, path in enumerate(batch, start):
            pixels, found[row] = _read(path, image_size, grey)
            if pixels.shape[1:] != out.shape[2:]:
                raise _differ(files[0], reference, path, pixels)
            out[row] = pixels

    for _ in _in_threads(fill, files, "reading images"):
        pass
    if found.all():
        out = out[:, :1].copy()  # all channels are equal
    return {"images": torch.from_numpy(out), "grey": torch.from_numpy(found)}


def _read(path: Path, image_size: int | None, grey: bool | None) -> tuple[NDArray[np.uint8], bool]:
    """One file, shape (C, H, W), and whether it is found to be grey."""
    image = read_image(path, grey=grey)
    pixels = np.asarray(image, dtype=np.uint8)
    found = grey is None and _is_grey(pixels)
    if image_size is not None:
        # Pillow widens the filter when it shrinks, which is what antialiasing means elsewhere.
        pixels = np.asarray(image.resize((image_size, image_size), Image.Resampling.BILINEAR), dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), found


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether all channels are equal, shape (H, W) or (H, W, C)."""
    # Most colour images show it in the first row.
    return pixels.ndim == 2 or all(bool((part == part[:, :, :1]).all()) for part in (pixels[:1], pixels[1:]))


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
