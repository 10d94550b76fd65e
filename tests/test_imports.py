"""Imports point one way, and what should start fast imports no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pdd_lightning

ROOT = Path(pdd_lightning.__file__).parent
ABOVE = {"__main__", "main", "trainers", "run_options", "parsing", "class_paths"}
ABOVE |= {"modules", "callbacks", "datamodules", "scoring", "planning", "checkpoint_io"}
FILES = [path.relative_to(ROOT) for path in sorted(ROOT.rglob("*.py"))]
BELOW = [file.as_posix() for file in FILES if file.parts[0].removesuffix(".py") not in ABOVE]


def imports(file: str) -> set[str]:
    """Every module that a file names in an import, inside functions too."""
    nodes = list(ast.walk(ast.parse((ROOT / file).read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return names | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


@pytest.mark.parametrize("file", [*BELOW, "scoring/report.py"])
def test_nothing_below_the_modules_imports_lightning(file: str) -> None:
    assert not {name for name in imports(file) if name.split(".")[0] == "lightning"}


@pytest.mark.parametrize("file", BELOW)
def test_nothing_below_imports_what_lies_above(file: str) -> None:
    above = {f"pdd_lightning.{name}" for name in ABOVE}
    assert not {name for name in imports(file) if ".".join(name.split(".")[:2]) in above}


@pytest.mark.parametrize("module", ["pdd_lightning.run", "pdd_lightning.__main__"])
def test_waiting_for_stages_takes_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool(sys.modules.keys() & {{'torch', 'lightning', 'numpy'}}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
