"""Every option that a number depends on is recorded, by the name that users import its class by."""

import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

import pdd_lightning.networks.resnet
import pdd_lightning.stage.options  # noqa: F401 (which imports every other room with described classes)
from pdd_lightning.described import Described, exported_name, options_of, recorded_options
from pdd_lightning.dynamics import ExpertTrajectories
from pdd_lightning.errors import ConfigError
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.networks import ConvNet
from pdd_lightning.objectives import TrajectoryMatching
from pdd_lightning.selection import Herding
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.training import DSA, Recipe

REQUIRED = {"network": ConvNet(), "objective": TrajectoryMatching(), "dynamics": ExpertTrajectories()}
"""Options without a default, by name."""


def shipped(base: type[Described] = Described) -> Iterator[type[Described]]:
    for cls in base.__subclasses__():
        if cls.__module__.startswith("pdd_lightning."):
            yield cls
            yield from shipped(cls)


CLASSES: list[type[Described]] = sorted(
    {cls for cls in shipped() if not inspect.isabstract(cls)}, key=lambda cls: cls.__name__
)


def made(cls: Any) -> Described:
    parameters = inspect.signature(cls).parameters.values()
    needed = {p.name: REQUIRED[p.name] for p in parameters if p.default is p.empty and p.name in REQUIRED}
    instance: Described = cls(**needed)
    return instance


def test_the_shipped_classes_are_found() -> None:
    names = {cls.__name__ for cls in CLASSES}
    assert {"StageOptions", "Recipe", "DSA", "ResNet", "KCenter", "EasyDiscard", "Evaluation"} < names
    assert {"TrajectoryMatching", "GradientMatching", "ExpertTrajectories", "DynamicTraining"} < names


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_option_is_recorded_or_listed(cls: type[Described]) -> None:
    if not options_of(cls) or cls.__name__.startswith("_"):
        return
    described, listed = (
        made(cls).describe(),
        {name for part in cls.__mro__ for name in vars(part).get("unrecorded", ())},
    )
    assert set(described) - {"class_path"} == set(options_of(cls)) - listed
    assert listed <= set(options_of(cls)), "an option is listed that does not exist"
    assert "describe" not in vars(cls), "no shipped class describes itself by hand"
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize("cls", [DSA, ConvNet, TrajectoryMatching, ExpertTrajectories, Herding, Recipe])
def test_a_class_is_recorded_by_the_name_that_users_import(cls: Any) -> None:
    package, _, name = str(cls().describe()["class_path"]).rpartition(".")
    assert package == ".".join(cls.__module__.split(".")[:2])
    assert getattr(sys.modules[package], name) is cls


def test_a_file_that_moves_leaves_its_class_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    package, cls = ModuleType("shelf"), type("Thing", (Described,), {"__module__": "shelf.old"})
    monkeypatch.setitem(sys.modules, "shelf", package)
    assert exported_name(cls) == "shelf.old.Thing"
    package.Thing = cls  # type: ignore[attr-defined]
    assert exported_name(cls) == "shelf.Thing"
    cls.__module__ = "shelf.new"
    assert exported_name(cls) == "shelf.Thing"


class Base(Described):
    unrecorded = ("workers",)

    def __init__(self, width: int = 1, workers: int = 1) -> None:
        self.width, self.workers = width, workers


class Handing(Base):
    unrecorded = ("verbose",)

    def __init__(self, depth: tuple[int, ...] = (2, 3), verbose: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.depth, self.verbose = depth, verbose


@dataclass(frozen=True)
class Fields(Described):
    inner: Described
    parts: tuple[Described, ...] = ()


class Hiding(Base):
    def __init__(self, width: int = 1, secret: int = 2) -> None:
        super().__init__(width)
        self._secret = secret


def test_options_that_are_handed_on_are_recorded_too() -> None:
    described = Handing(width=7).describe()
    assert described == {"class_path": f"{__name__}.Handing", "depth": [2, 3], "width": 7}
    assert recorded_options(Handing) == ["depth", "width"]


def test_parts_describe_themselves() -> None:
    described = Fields(Base(3), (Base(4),)).describe()
    assert described["inner"] == Base(3).describe()
    assert described["parts"] == [Base(4).describe()]


def test_an_option_that_is_not_kept_is_told() -> None:
    with pytest.raises(ConfigError, match=r"Hiding does not keep its option 'secret'.*self\.secret.*unrecorded"):
        Hiding().describe()


def test_settings_of_a_stage_say_how_many_images_it_has() -> None:
    options = StageOptions(**REQUIRED, stages=2, ipc=[3, 5])  # type: ignore[arg-type]
    assert [options.settings(stage)["ipc"] for stage in (1, 2)] == [3, 5]
    assert not {"class_path", "run_dir", "stages"} & options.settings(1).keys()


def test_an_evaluation_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert Evaluation(spread=True).describe() == Evaluation().describe() != Evaluation(seeds=3).describe()
