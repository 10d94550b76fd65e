"""A finished run as a distilled set."""

from pathlib import Path
from typing import Any, Final

import yaml

from pdd_lightning.datamodules.preprocessing import Preprocessing
from pdd_lightning.described import exported_name, rebuilt
from pdd_lightning.distilled.about import About
from pdd_lightning.distilled.distilled_set import DistilledSet
from pdd_lightning.errors import ArtifactError
from pdd_lightning.networks import Architecture
from pdd_lightning.stage.subsets import read_run
from pdd_lightning.store.files import read_json
from pdd_lightning.store.folders import Manifest, RunFolder
from pdd_lightning.training import Augmentation, Recipe
from pdd_lightning.types import Json

LICENCES: Final = {
    "DigitsData": "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
    "CIFAR10Data": "none stated by its authors (Krizhevsky 2009)",
    "CIFAR100Data": "none stated by its authors (Krizhevsky 2009)",
    "TinyImageNetData": "terms of ImageNet: non-commercial research",
}
"""Of the real images, by data module."""


def read_set(run: RunFolder) -> DistilledSet:
    """The distilled set of a run whose stages are complete as far as they go.

    Raises:
        ArtifactError: If no stage is complete, or files are missing, changed or made with unknown classes.
    """
    subsets = read_run(run)
    last = run.stage(len(subsets))
    manifest, config = last.read_manifest(), _config(last.config)
    model = manifest.settings.get("model", manifest.settings)  # of selected and of imported images
    shape, names = (manifest.summary.get(key) for key in ("image_shape", "class_names"))
    if not isinstance(model, dict) or not isinstance(shape, list) or not isinstance(names, list):
        raise ArtifactError(f"{last.manifest} says nothing of its network, images and classes; restore it from a copy")
    about = About(
        name=manifest.given_as or ("pdd" if len(subsets) > 1 else "distilled"),
        class_names=tuple(map(str, names)),
        image_shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        recipe=_recipe(run, manifest, config),
        network=rebuilt(model.get("network"), Architecture),
        augmentation=rebuilt(model.get("augmentation"), Augmentation),
        seed=int(model.get("seed", 0)),
        source=_source(manifest, config),
        results=_results(run),
        made=_object(manifest.summary.get("made")),
    )
    return DistilledSet(tuple(subsets), Preprocessing.read(run.preprocessing), about)


def require_finished(run: RunFolder) -> None:
    """Check that no stage is missing which the run was to have; anything but a run passes.

    Raises:
        ArtifactError: Naming the stage.
    """
    done = run.completed()
    last = run.stage(done)
    if done and "model" not in last.read_manifest().settings:  # chosen or imported images are complete with one stage
        stages = _object(_config(last.config).get("model")).get("stages")
        if isinstance(stages, int) and done < stages:
            raise ArtifactError(
                f"{run.directory}: stage {done + 1} of {stages} is not finished; continue by `pdd-cli run --config "
                f"{last.config} --run_dir {run.directory}`, or write what is there from Python: "
                "pdd_lightning.load(RUN).export(...)"
            )


def _recipe(run: RunFolder, manifest: Manifest, config: Json) -> Recipe:
    """How the run's evaluation trains: as the transition does, unless it was given a recipe of its own."""
    evaluated = _config(run.evaluation.config) if run.evaluation.config.is_file() else config
    own = _object(evaluated.get("evaluation")).get("recipe")
    described = own or manifest.settings.get("recipe") or _object(manifest.settings.get("evaluation")).get("recipe")
    return rebuilt({"class_path": exported_name(Recipe), **_object(described)}, Recipe)


def _source(manifest: Manifest, config: Json) -> Json:
    """What the real data was, by the configuration; of a folder its name, for paths are those of one machine."""
    data = _object(config.get("data"))
    name = str(data.get("class_path", "unknown")).rpartition(".")[2]
    folder = Path(str(_object(data.get("init_args")).get("root", ""))).name
    known = f"the images in {folder}" if name == "ImageFolderData" and folder else name
    return {"data": known, "fingerprint": manifest.data, "licence": LICENCES.get(name, "not stated")}


def _results(run: RunFolder) -> tuple[Json, ...]:
    """The rows of the run's table that tell of its own set."""
    if not run.evaluation.results.is_file():
        return ()
    rows: Any = read_json(run.evaluation.results).get("rows", [])
    return tuple(row for row in map(_object, rows) if row.get("stage") is not None)


def _config(path: Path) -> Json:
    """A configuration that a command left beside its results; it is read as plain data."""
    try:
        return _object(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}  # a run whose images are all that was shared
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); restore it from a copy") from error


def _object(value: object) -> Json:
    return dict(value) if isinstance(value, dict) else {}
