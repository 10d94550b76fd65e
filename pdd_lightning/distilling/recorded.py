"""What a finished run was made of, read from what it left, without a command line's parser."""

from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, Final

import yaml

from pdd_lightning.datamodules import ImageDataModule
from pdd_lightning.described import Described, known_class, rebuilt
from pdd_lightning.errors import ArtifactError, PDDError
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.folders import RunFolder
from pdd_lightning.types import Json

_REMEDY: Final = "give the data, as in evaluate(run, data=...)"

_OF_STAGES: Final = ("ipc", "iterations", "image_lr")
"""Options of which every stage records its own number."""


def recorded_options(run: RunFolder) -> StageOptions:
    """The options of the stages that are complete.

    Args:
        run: The run.

    Raises:
        ArtifactError: If no stage is complete, images were selected, or a class is not known here.
    """
    count = run.completed()
    if not count:
        raise ArtifactError(f"{run.directory} holds no complete stage: distil first, or name the folder of a run")
    manifests = [run.stage(stage).read_manifest() for stage in range(1, count + 1)]
    if manifests[0].given is not None:
        raise ArtifactError(f"{run.directory} holds {manifests[0].holds}: `pdd-cli evaluate` scores them")
    known = {option.name for option in fields(StageOptions)}
    options = {name: _value(value) for name, value in manifests[0].settings.items() if name in known}
    of_stages = {name: [manifest.settings.get(name) for manifest in manifests] for name in _OF_STAGES}
    experts = _config(run).get("experts_dir")
    given: dict[str, Any] = {
        **options,
        "stages": count,
        **of_stages,
        "run_dir": str(run.directory),
        "experts_dir": experts,
    }
    try:
        found = StageOptions(**given)
    except TypeError as error:
        raise ArtifactError(f"{run.stage(1).manifest} says not all of what the stage was made of ({error})") from error
    given.update(found.varying)  # as they were given: one number, unless stages differ
    return StageOptions(**given)


def _value(value: object) -> Any:
    if isinstance(value, dict):
        return rebuilt(value, Described)
    return tuple(value) if isinstance(value, list) else value


def recorded_data(run_dir: str | PathLike[str]) -> ImageDataModule:
    """The data that a run was made from, by the configuration beside its first stage; not set up yet.

    Args:
        run_dir: The run's folder.

    Raises:
        ArtifactError: If there is none, or its class is not known here.

    Example:
        >>> data = recorded_data("checkpoints/sample")
        >>> data.setup()
        >>> len(data.test), data.image_shape
        (359, (1, 8, 8))
    """
    run = RunFolder(Path(run_dir).expanduser())
    section = _config(run).get("data")
    path = section.get("class_path") if isinstance(section, dict) else section
    if not isinstance(path, str):
        raise ArtifactError(f"{run.stage(1).config} does not say what the run was made from: {_REMEDY}")
    init = section.get("init_args") if isinstance(section, dict) else None
    try:
        return known_class(path, ImageDataModule)(**(init or {}))
    except (TypeError, PDDError) as error:
        raise ArtifactError(f"{run.stage(1).config} names data that cannot be read ({error}): {_REMEDY}") from error


def _config(run: RunFolder) -> Json:
    """The configuration of the first stage, read as plain data; empty where there is none."""
    path = run.stage(1).config
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); restore it from a copy") from error
    return found if isinstance(found, dict) else {}
