"""The configuration of a run that was made from Python: what the command line would have been given, as far as it goes.

So the commands can go on with such a run, and :func:`pdd_lightning.load` knows where its data came from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.described import Described, exported_name, options_of
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.selection.discard import EasyDiscard
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.training import Recipe
from pdd_lightning.types import Json

_GROUPS: Final = (Recipe, EasyDiscard, Evaluation)
"""Classes whose options a configuration gives as they are, without naming the class."""

_OF_THE_RUN: Final = ("run_dir", "stage", "experts_dir")
"""Options of a stage that a configuration has outside its model."""


def configuration(
    options: StageOptions,
    data: ImageDataModule,
    trainer: Mapping[str, Any],
    threads: int | None = None,
    evaluation: Evaluation | None = None,
) -> str:
    """A configuration file of a run.

    Tensors and objects of the trainer, such as callbacks, cannot be written and are left out.

    Args:
        options: Of its stages.
        data: Its data.
        trainer: What the caller gave for the trainer.
        threads: CPU threads.
        evaluation: How it is scored.

    Example:
        >>> from pdd_lightning.datamodules import DigitsData
        >>> from pdd_lightning.dynamics import StartStates
        >>> from pdd_lightning.networks import ConvNet
        >>> from pdd_lightning.objectives import MeanEmbedding
        >>> options = StageOptions(ConvNet(), MeanEmbedding(), StartStates(5), run_dir="checkpoints/mine")
        >>> text = configuration(options, DigitsData(), {"accelerator": "cpu"})
        >>> yaml.safe_load(text)["model"]["dynamics"]["init_args"]["start_states"]
        5
    """
    model = {name: value for name, value in _options(options).items() if name not in _OF_THE_RUN}
    config: Json = {
        "run_dir": options.run_dir,
        "experts_dir": options.experts_dir,
        "threads": threads,
        "trainer": {name: value for name, value in trainer.items() if _is_plain(value)},
        "data": _written(data),
        "model": model,
        **({} if evaluation is None else {"evaluation": _options(evaluation)}),
    }
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _options(part: object) -> Json:
    names = [name for name in options_of(type(part)) if hasattr(part, name)]
    return {name: _written(value) for name in names if _is_writable(value := getattr(part, name))}


def _written(value: Any) -> Any:
    if isinstance(value, _GROUPS):
        return _options(value)
    if isinstance(value, (Described, ImageDataModule)):
        return {"class_path": exported_name(type(value)), "init_args": _options(value)}
    if isinstance(value, (list, tuple)):
        return [_written(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _is_writable(value: object) -> bool:
    return isinstance(value, (Described, ImageDataModule, Path)) or _is_plain(value)


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_writable, value))
    return value is None or isinstance(value, (bool, int, float, str))
