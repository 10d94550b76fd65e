"""The configurations that come with the package, for whoever has installed it and not its repository.

Imports no torch.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Final

from pdd_lightning.process.ranks import is_first

FOLDER: Final = "configs"
"""What their folder is called in the repository, and within the installed package."""


def folder() -> Path:
    """Where they lie: within an installed package, or beside it where it is used from its repository."""
    package = Path(str(files("pdd_lightning")))
    within = package / FOLDER
    return within if within.is_dir() else package.parent / FOLDER


def shipped(name: str) -> Path | None:
    """The shipped file of a name, or None.

    Args:
        name: A path from the folder of the configurations, with or without the name of that folder before it.

    Example:
        >>> shipped("configs/smoke/stage.yaml") == shipped("smoke/stage.yaml") == folder() / "smoke" / "stage.yaml"
        True
        >>> shipped("smoke"), shipped("../README.md")
        (None, None)
    """
    parts = Path(name).parts
    within = parts[1:] if parts[:1] == (FOLDER,) else parts
    if not within or not name.endswith((".yaml", ".yml")) or ".." in parts or Path(name).is_absolute():
        return None
    path = folder().joinpath(*within)
    return path if path.is_file() else None


def found(args: Sequence[str]) -> list[str]:
    """The arguments, with the shipped file in the place of one that does not exist; which is said.

    Args:
        args: Of a command: files after --config, or after the option of a section.

    Example:
        >>> found(["--config", "smoke/stage.yaml", "--model.ipc", "2"])[2:]
        ['--model.ipc', '2']
    """
    result = []
    for before, arg in zip(["", *args], args, strict=False):
        option, equals, value = arg.partition("=") if arg.startswith("-") else (before, "", arg)
        path = shipped(value) if option.startswith("-") and value and not Path(value).exists() else None
        if path is None:
            result.append(arg)
            continue
        if is_first():
            print(f"{option} {value}: not here, so the one that is shipped: {path}", file=sys.stderr)
        result.append(f"{option}={path}" if equals else str(path))
    return result


def nearest(name: str) -> str:
    """The shipped configuration whose name is closest, as the end of a message; empty if none is close."""
    here = folder()
    names = [path.relative_to(here).as_posix() for path in here.rglob("*.yaml")]
    close = get_close_matches(name.removeprefix(f"{FOLDER}/"), names, n=1, cutoff=0.8)
    return f"; did you mean {close[0]}, which is shipped?" if close else ""
