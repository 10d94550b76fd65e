"""A picture of the curves of a diagnosis: an axis for each stage, a line for each network, and their mean."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pdd_lightning.errors import one_line
from pdd_lightning.evaluation.diagnosis import PhaseCurves
from pdd_lightning.store.files import atomic_write
from pdd_lightning.types import stage_title

log = logging.getLogger(__name__)

_COLOURS: Final = {"bank": "#1f77b4", "fresh": "#d95f02"}

_COLUMNS: Final = 5

_EDGE: Final = 3.2  # inches


def draw_curves(path: Path, phases: Sequence[PhaseCurves]) -> bool:
    """Save the picture, whole or not at all, or warn: nothing is computed from it.

    Args:
        path: The PNG to write.
        phases: What was measured; one at least.

    Returns:
        Whether it was written.
    """
    try:
        picture = io.BytesIO()
        # Not savefig, which would obey the user's settings.
        FigureCanvasAgg(_figure(phases)).print_png(picture)  # type: ignore[no-untyped-call]
        atomic_write(path, picture.getbuffer())
    except Exception as error:  # a font, the drawing library, the disk: the numbers are there without it
        log.warning("%s could not be made: %s", path, one_line(error) or type(error).__name__)
        return False
    return True


def _figure(phases: Sequence[PhaseCurves]) -> Figure:
    columns = min(len(phases), _COLUMNS)
    rows = -(-len(phases) // columns)
    figure = Figure(figsize=(_EDGE * columns + 0.6, _EDGE * rows), dpi=144, facecolor="white", layout="constrained")
    # One scale for all: what a stage adds is seen from axis to axis.
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten().tolist()
    for axis, phase in zip(axes, phases, strict=False):
        _draw(axis, phase)
    for axis in axes[len(phases) :]:
        axis.remove()
    axes[0].set_ylabel("held-out accuracy %")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def _draw(axis: Axes, phase: PhaseCurves) -> None:
    axis.set_title(stage_title(phase.stage), fontsize=10)
    axis.set_xlabel("epoch", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(visible=True, color="#e6e6e6", linewidth=0.6)
    for name, curves in phase.named:
        colour = _COLOURS[name]
        for own in curves.accuracies:
            axis.plot(curves.epochs, [100 * value for value in own], color=colour, linewidth=0.5, alpha=0.25)
        means = [100 * curves.mean(number) for number in range(len(curves.epochs))]
        axis.plot(curves.epochs, means, color=colour, linewidth=1.8, label=f"{name}, mean of {len(curves.accuracies)}")
        axis.plot(curves.epochs[curves.best], means[curves.best], "o", color=colour, markersize=4)
