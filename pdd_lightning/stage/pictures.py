"""Pictures of synthetic images: labelled, as a PNG and for logs."""

import io
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from numpy.typing import NDArray
from torch import Tensor

from pdd_lightning.errors import one_line
from pdd_lightning.store.files import atomic_write
from pdd_lightning.types import stage_title

log = logging.getLogger(__name__)


# Lengths are pixels.
_DPI: Final = 144


_CELL: Final = 96  # edge to which small images are enlarged


_CELL_GAP: Final = 4


_STAGE_GAP: Final = 30


_MARGIN: Final = 24


_MAX_GROUPS_WIDTH: Final = 12_000  # Agg stops at 65536, viewers and memory well before


_MAX_PER_STAGE: Final = 10  # images of a class from a stage, the first ones


_MAX_CLASSES: Final = 20  # the first ones


_NAME_LENGTH: Final = 24  # characters


_FRAME: Final = 200  # grey level


_INK: Final = "#222222"


_FAINT: Final = "#767676"


def draw_pictures(
    path: Path, images: Tensor, labels: Tensor, stages: Tensor, class_names: Sequence[str], header: str | None = None
) -> None:
    """Save the images of a run by :func:`save_grid`, or warn: nothing is computed from a picture.

    Args:
        path: The PNG to write.
        images: See :func:`save_grid`, as for the others.
        labels: Of the images.
        stages: Of the images.
        class_names: One per class.
        header: Of images that are no stage of a run.
    """
    try:
        save_grid(path, images, labels, stages, class_names, header)
    except Exception as error:  # a font, the drawing library, the disk: none is worth the work of a stage
        reason = one_line(error) or type(error).__name__
        log.warning("%s could not be made, and the run goes on without it: %s", path, reason)


def save_grid(
    path: Path,
    images: Tensor,
    labels: Tensor,
    stages: Tensor,
    class_names: Sequence[str],
    header: str | None = None,
) -> None:
    """Save the synthetic images as a PNG, whole or not at all: one row per class, the columns grouped by stage.

    Images are enlarged by a whole factor without interpolation. A note above them says what is left out. A class
    whose name would look like another's, or that the font cannot draw, bears its number too.

    Args:
        path: The PNG to write; its folder is made if need be.
        images: Shape (N, C, H, W), floating point in [0, 1], C = 1 (drawn grey) or 3. Clamped; NaN is black.
        labels: Shape (N,), int64, in [0, len(class_names)).
        stages: Shape (N,), int64, the stage each image came from; shown as given, in ascending order.
        class_names: One per class.
        header: Above the one group of images that are no stage of a run.

    Raises:
        ValueError: If there are no images, or the shapes, channels or labels are not as above.
        ArtifactError: If the file cannot be written.
    """
    figure = _grid(images, labels, stages, class_names, header)
    picture = io.BytesIO()
    # Not savefig, which would obey the user's settings (a tight bounding box, another resolution).
    FigureCanvasAgg(figure).print_png(picture)  # type: ignore[no-untyped-call]
    atomic_write(path, picture.getbuffer())


def grid_tensor(
    images: Tensor, labels: Tensor, stages: Tensor, class_names: Sequence[str], header: str | None = None
) -> Tensor:
    """The picture of :func:`save_grid` for a logger.

    Args:
        images: See :func:`save_grid`, as for the others.
        labels: Of the images.
        stages: Of the images.
        class_names: One per class.
        header: See :func:`save_grid`.

    Returns:
        Shape (3, height, width), floating point in [0, 1], on the CPU.

    Raises:
        ValueError: See :func:`save_grid`.
    """
    canvas = FigureCanvasAgg(_grid(images, labels, stages, class_names, header))
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    return torch.from_numpy(drawn.copy()).permute(2, 0, 1).float() / 255


def _grid(images: Tensor, labels: Tensor, stages: Tensor, class_names: Sequence[str], header: str | None) -> Figure:
    """What :func:`save_grid` saves."""
    _check(images, labels, len(class_names))
    if stages.shape != labels.shape:
        raise ValueError(f"expected stages {tuple(labels.shape)}, got {tuple(stages.shape)}")
    labels, stages = labels.cpu(), stages.cpu()
    numbers = sorted({int(stage) for stage in stages.tolist()})
    num_rows = min(len(class_names), _MAX_CLASSES)

    stride = _enlarged_size(images)[1] + _CELL_GAP
    limit = min(_MAX_PER_STAGE, max(1, _MAX_GROUPS_WIDTH // (stride * len(numbers))))
    counts = torch.zeros(len(numbers), len(class_names), dtype=torch.int64)
    positions = torch.searchsorted(torch.tensor(numbers), stages)
    counts.index_put_((positions, labels), torch.ones_like(labels), accumulate=True)
    pixels, size = _pixels(images), _enlarged_size(images)
    groups = [
        _group(pixels, size, labels, stages == number, num_rows, min(limit, int(counts[k, :num_rows].max())))
        for k, number in enumerate(numbers)
    ]
    notes = []
    if num_rows < len(class_names):
        notes.append(f"first {num_rows} of {len(class_names)} classes")
    if limit < int(counts.max()):
        notes.append(f"at most {limit} of {int(counts.max())} images per class and stage")
    headers = [stage_title(number) for number in numbers] if header is None else [header]
    return _draw(groups, headers, class_names[:num_rows], "Showing " + ", ".join(notes) if notes else None)


def _check(images: Tensor, labels: Tensor, num_classes: int) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"expected images (N, 1 or 3, H, W) and labels (N,), got {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    if images.numel() == 0:
        raise ValueError("there are no images to show")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, but there are {num_classes} classes"
        )


def _enlarged_size(images: Tensor) -> tuple[int, int, int]:
    """Height and width of a framed picture, and the factor by which the image is enlarged."""
    height, width = images.shape[2:]
    factor = max(1, round(_CELL / max(height, width)))
    return height * factor + 2, width * factor + 2, factor


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    """Images as they are shown, shape (N, H, W, 3)."""
    clean = images.detach().cpu().float().nan_to_num(0.0).clamp(0, 1)
    pixels: NDArray[np.uint8] = (clean * 255).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    return pixels


def _enlarge(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Repeat each pixel of an image (H, W, 3) and frame it, shape (H', W', 3)."""
    enlarged = image.repeat(factor, axis=0).repeat(factor, axis=1)
    # Without a frame, an image with a white edge runs into the paper.
    return np.pad(enlarged, ((1, 1), (1, 1), (0, 0)), constant_values=_FRAME)


def _group(
    pixels: NDArray[np.uint8],
    size: tuple[int, int, int],
    labels: Tensor,
    chosen: Tensor,
    num_rows: int,
    columns: int,
) -> NDArray[np.uint8]:
    """One stage's images, shape (height, width, 3); where a class has fewer, cells stay white."""
    height, width, factor = size
    columns = max(columns, 1)
    shape = (num_rows * (height + _CELL_GAP) - _CELL_GAP, columns * (width + _CELL_GAP) - _CELL_GAP, 3)
    group: NDArray[np.uint8] = np.full(shape, 255, dtype=np.uint8)
    for row in range(num_rows):
        members = (chosen & (labels == row)).nonzero().flatten().tolist()[:columns]
        for column, index in enumerate(members):
            top, left = row * (height + _CELL_GAP), column * (width + _CELL_GAP)
            group[top : top + height, left : left + width] = _enlarge(pixels[index], factor)
    return group


def _draw(
    groups: Sequence[NDArray[np.uint8]],
    titles: Sequence[str],
    class_names: Sequence[str],
    note: str | None,
) -> Figure:
    """Place the groups, their headers, the class names and the note, pixel for pixel."""
    figure = Figure(dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)  # attaches itself, so that texts are measured as Agg will draw them
    heading = [_text(figure, note, 9, colour=_FAINT)] if note else []
    names = [_text(figure, name, 9, ha="right", va="center") for name in _shown(class_names)]
    headers = [_text(figure, title, 9, ha="center", weight="bold") for title in titles]

    def extent(text: Text) -> tuple[int, int]:
        box = text.get_window_extent()
        return int(np.ceil(box.width)), int(np.ceil(box.height))

    images_left = _MARGIN + max(extent(text)[0] for text in names) + _MARGIN // 2
    heights = [extent(text)[1] + 10 for text in heading]
    images_top = _MARGIN + sum(heights) + (8 if heading else 0) + max(extent(text)[1] for text in headers) + 18
    widths = [max(group.shape[1], extent(text)[0]) for group, text in zip(groups, headers, strict=True)]
    content = images_left + sum(widths) + _STAGE_GAP * (len(groups) - 1)
    width = _MARGIN + max(content, *(_MARGIN + extent(text)[0] for text in heading), 0)
    height = images_top + groups[0].shape[0] + _MARGIN
    figure.set_size_inches(width / _DPI, height / _DPI)

    top = _MARGIN
    for text, used in zip(heading, heights, strict=True):
        text.set_position((_MARGIN, height - top))
        top += used
    stride = (groups[0].shape[0] + _CELL_GAP) / len(names)
    for row, text in enumerate(names):
        centre = images_top + row * stride + (stride - _CELL_GAP) / 2
        text.set_position((images_left - _MARGIN // 2, height - centre))
    left = images_left
    for group, text, used in zip(groups, headers, widths, strict=True):
        text.set_position((left + used / 2, height - images_top + 16 + extent(text)[1]))
        rule = [left, left + used], [height - images_top + 8] * 2
        figure.add_artist(Line2D(*rule, color="#c8c8c8", linewidth=0.8, transform=None))
        # figimage copies the array into the canvas as it is; an axes would resample it.
        figure.figimage(group, left + (used - group.shape[1]) // 2, _MARGIN, origin="upper")
        left += used + _STAGE_GAP
    return figure


def _text(
    figure: Figure,
    text: str,
    size: float,
    *,
    ha: str = "left",
    va: str = "top",
    weight: str = "normal",
    colour: str = _INK,
) -> Text:
    # A class may be called "$5 bill", which is not a formula. transform=None makes positions pixels.
    style: dict[str, Any] = {"fontsize": size, "ha": ha, "va": va, "fontweight": weight, "color": colour}
    return figure.text(0, 0, text, transform=None, parse_math=False, **style)


def _shown(class_names: Sequence[str]) -> list[str]:
    """What is written beside the rows."""
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    names = [_shorten(name) for name in class_names]
    # What the font lacks becomes one and the same box.
    drawn = ["".join(c if font.get_char_index(ord(c)) else "\0" for c in name) for name in names]
    counts = Counter(drawn)
    return [
        f"{label}: {name}" if "\0" in seen or counts[seen] > 1 else name
        for label, (name, seen) in enumerate(zip(names, drawn, strict=True))
    ]


def _shorten(name: str) -> str:
    """A name on one line; the font's library takes no lone surrogates, as bytes are read that are no UTF-8."""
    name = one_line(name.encode("utf-8", "backslashreplace").decode())
    return name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…"
