"""What a run logs, for whatever loggers it has: TensorBoard by default, others by `trainer.logger`, or none."""

import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor

from pdd_lightning.store.files import atomic_write
from pdd_lightning.store.folders import RunFolder

log = logging.getLogger(__name__)


def loggers_of(given: Logger | Iterable[Logger] | bool | None, run: RunFolder, part: str) -> list[Logger]:
    """The loggers of a part of a run.

    Args:
        given: What `trainer.logger` names; null and true are TensorBoard, false is none.
        run: The run.
        part: Such as "stage_01": TensorBoard shows each part by itself.
    """
    if given is None or given is True:
        return [TensorBoardLogger(str(run.tensorboard), part, version="")]
    if given is False:
        return []
    return [given] if isinstance(given, Logger) else list(given)


@rank_zero_only
def scalars(loggers: Iterable[Logger], values: Mapping[str, float], step: int) -> None:
    """Log numbers.

    Args:
        loggers: To all of these.
        values: By name.
        step: Of the optimiser, or the number of a stage.
    """
    for logger in loggers:
        logger.log_metrics(dict(values), step)
        logger.save()


@rank_zero_only
def hyperparameters(loggers: Iterable[Logger], options: Mapping[str, object], reached: Mapping[str, float]) -> None:
    """Log what a run was made of beside what it reached; a logger that cannot take it stops nothing.

    TensorBoard shows both in its HPARAMS tab. Others get the options in their own way, and have the rest as scalars.

    Args:
        loggers: To all of these.
        options: Nested ones bear dotted names in the logs.
        reached: By name.
    """
    values = dict(_dotted(options))
    for logger in loggers:
        try:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(values, dict(reached), 0)
            else:
                logger.log_hyperparams(values)
        except Exception as error:
            log.warning("%s did not take the hyper-parameters: %s", type(logger).__name__, error)


def _dotted(options: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, (bool, int, float, str)) else str(value)


@rank_zero_only
def picture(loggers: Iterable[Logger], name: str, grid: Tensor, step: int) -> None:
    """Log a picture where that is possible; a logger that cannot take one stops nothing.

    TensorBoard shows it, CSV gets a PNG file beside its numbers, and others are asked for the method `log_image` that
    those of Weights & Biases have.

    Args:
        loggers: To all of these.
        name: Of the picture.
        grid: Shape (1 or 3, H, W), floating point in [0, 1], on the CPU.
        step: Of the optimiser.
    """
    for logger in loggers:
        try:
            _picture(logger, name, grid, step)
        except Exception as error:
            log.warning("%s did not take the picture %r: %s", type(logger).__name__, name, error)


def _picture(logger: Logger, name: str, grid: Tensor, step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, grid, step)
    elif isinstance(logger, CSVLogger) and "://" not in logger.log_dir:
        logger.experiment  # noqa: B018 (it makes its folder, and would take offence at one that is there)
        path = Path(logger.log_dir) / f"{re.sub(r'[^A-Za-z0-9]+', '_', name)}_{step:06d}.png"
        with io.BytesIO() as file:
            _image(grid).save(file, format="PNG")
            atomic_write(path, file.getvalue())
    elif callable(log_image := getattr(logger, "log_image", None)):
        log_image(key=name, images=[_image(grid)], step=step)


def _image(grid: Tensor) -> Image.Image:
    pixels = (255 * grid).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def finish(loggers: Iterable[Logger]) -> None:
    """Let loggers write what they still hold; only a trainer's fit does it for its own."""
    for logger in loggers:
        logger.finalize("success")
