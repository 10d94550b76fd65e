"""Configuration files, read for their form before they are parsed: mistakes are named by the file that they are in."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from pdd_lightning.cli.classes import class_of
from pdd_lightning.errors import ConfigError


def check_file(path: Path, types: Mapping[str, Any], prefix: str = "") -> None:
    """Read a configuration file for its form alone: jsonargparse does not say in which file a mistake is.

    Args:
        path: The file.
        types: The options that exist and their types.
        prefix: Of the options in it, where another file names it for a section.

    Raises:
        ConfigError: If it is not a YAML file of options, or has something else where options belong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not text in UTF-8"
        raise ConfigError(
            f"--config={path}: this is not valid YAML{where} ({problem}); check brackets, colons and indentation there"
        ) from error
    except OSError as error:
        raise ConfigError(f"--config={path}: cannot be read ({error.strerror}); name an existing YAML file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--config={path}: this holds no options; expected lines such as `run_dir: checkpoints/run`")
    for name, value in _values(content, prefix):
        kind = types.get(name)
        section = name in types and kind is None and any(other.startswith(f"{name}.") for other in types)
        what = "nothing" if value is None else repr(value)
        if section and isinstance(value, str):
            if (path.parent / value).is_file():
                check_file(path.parent / value, types, f"{name}.")
        elif (section or name.endswith(".init_args")) and not isinstance(value, dict):
            raise ConfigError(
                f"--config={path}: {name} holds {what}; give its options below it, indented, or remove the line"
            )
        classes = value if isinstance(value, list) else [value]
        if (class_of(kind) is not None and any(isinstance(one, (int, float)) for one in classes)) or (
            name.endswith(".class_path") and not isinstance(value, str)
        ):
            raise ConfigError(f"--config={path}: {name} holds {what}; name a class there")


def _values(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every value below dotted names, sections among them."""
    for key, value in content.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from _values(value, f"{prefix}{key}.")


def config_files(args: Sequence[str]) -> list[Path]:
    """The files that the arguments name with --config."""
    named = [value for arg, value in pairwise([*args, ""]) if arg in ("-c", "--config") and not value.startswith("-")]
    return [Path(name) for name in [*named, *(a.partition("=")[2] for a in args if a.startswith("--config="))] if name]
