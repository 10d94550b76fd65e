"""The methods of the Python API are those of configs/digits."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from distilling.small import small
from pdd_lightning.cli.application import application
from pdd_lightning.distilling.methods import METHODS
from pdd_lightning.distilling.options import stage_options
from pdd_lightning.stage.options import StageOptions

ROOT = Path(__file__).parents[2]


def options_of(file: Path) -> StageOptions:
    with application("fit", ["--config", str(file)]) as app:
        return app.model.options


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_its_configuration(method: str, stages: int) -> None:
    file = ROOT / "configs" / "digits" / f"{'pdd_' if stages > 1 else ''}{method}.yaml"
    if method == "cafe_dsa" and stages > 1:
        file = file.with_name("cafe_dsa.yaml")
    theirs = options_of(file)
    options: dict[str, Any] = stage_options(method, stages, {"ipc": theirs.ipc})
    mine = StageOptions(**options)
    assert mine.describe().keys() == theirs.describe().keys()
    different = {name for name, value in mine.describe().items() if theirs.describe()[name] != value}
    assert different == ({"iterations"} if method == "cafe_dsa" and stages > 1 else set())
    assert mine.stages == stages


def test_the_small_options_are_those_of_the_micro_configuration() -> None:
    theirs = options_of(ROOT / "tests" / "conf" / "micro.yaml")
    names = {field.name for field in fields(StageOptions)}
    mine = StageOptions(**{name: value for name, value in small().items() if name in names})
    assert mine.settings(1) == theirs.settings(1)
    assert mine.stages == theirs.stages
