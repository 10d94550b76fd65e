"""Imports point one way, from room to room, and what should start fast imports no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pdd_lightning

ROOT = Path(pdd_lightning.__file__).parent

FLAT = ("lazy", "errors", "rng", "types", "progress", "described")
ROOMS = (
    *("process", "store", "networks", "compute", "training", "datamodules", "selection", "dynamics", "objectives"),
    *("stage", "evaluation", "distilled", "reproduction", "planning", "distilling", "cli"),
)
ORDER = (*FLAT, *ROOMS, "__main__")
"""Every room may import from those that stand before it, and from itself: so no circle of rooms is possible."""

LIGHTNING = {"process", "datamodules", "stage", "evaluation", "planning", "distilling", "cli"}
"""Rooms that know Lightning."""

FILES = [
    path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.rglob("*.py"))
    if path.parent != ROOT or path.stem != "__init__"
]


def room_of(file: str) -> str:
    return file.removesuffix(".py").partition("/")[0]


def imports(file: str) -> set[str]:
    """Every module that a file names in an import, inside functions too."""
    nodes = list(ast.walk(ast.parse((ROOT / file).read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in froms), "imports name the whole path"
    return names | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def test_every_room_has_its_place() -> None:
    assert {room_of(file) for file in FILES} == set(ORDER)
    assert len(list(ROOT.glob("*.py"))) <= 8


@pytest.mark.parametrize("file", FILES)
def test_rooms_import_from_those_before_them(file: str) -> None:
    room = room_of(file)
    allowed = {*ORDER[: ORDER.index(room)], room, "__version__"}
    named = {name.split(".")[1] for name in imports(file) if name.startswith("pdd_lightning.")}
    assert named <= allowed


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if room_of(file) not in LIGHTNING] + ["evaluation/report.py", "evaluation/results.py"],
)
def test_only_some_rooms_know_lightning(file: str) -> None:
    assert not {name for name in imports(file) if name.split(".")[0] == "lightning"}


WAITING = """
import os, sys
from pdd_lightning.cli import children
from pdd_lightning.__main__ import main

def call(command, args, **environment):
    loaded = sys.modules.keys() & {"torch", "lightning", "numpy"}
    print(command, sorted(loaded), flush=True)
    os._exit(0)

children.call = call
sys.argv = ["pdd-cli", sys.argv[1], "--run_dir", "mine"]
main()
"""


USING = """
import sys
import pdd_lightning as pdd

assert not sys.modules.keys() & {"torch", "lightning"}
distilled = pdd.load("checkpoints/sample")
union = distilled.union()
distilled.evaluate(distilled.train(stages=1), distilled.pixels(union.images).clamp(0, 1), union.labels)
print(sorted(sys.modules.keys() & {"lightning", "torchvision", "torchmetrics", "matplotlib", "sklearn"}))
"""


def test_a_distilled_set_is_used_without_lightning() -> None:
    done = subprocess.run([sys.executable, "-c", USING], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_run_imports_nothing_before_its_first_command() -> None:
    done = subprocess.run([sys.executable, "-c", WAITING, "run"], check=True, capture_output=True, text=True)
    assert done.stdout == "fit []\n"
