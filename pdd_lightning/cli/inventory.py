"""What the parser knows, for `options.json`: `python -m pdd_lightning.cli.inventory` writes the file anew."""

import inspect
import json
import re
import sys
import types
from argparse import Action
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from pdd_lightning.cli.application import Application
from pdd_lightning.cli.catalogue import FILE, TRAINER, Catalogue, Class, Option, digest
from pdd_lightning.cli.classes import class_of, fault_of, subclasses
from pdd_lightning.described import exported_name
from pdd_lightning.evaluation.imported_run import Importing
from pdd_lightning.evaluation.protocol import Evaluation
from pdd_lightning.evaluation.selected_run import Selecting
from pdd_lightning.planning.planner import Planning
from pdd_lightning.stage.options import StageOptions
from pdd_lightning.store.files import write_text

_NAMES: Final = {int: "integer", float: "number", str: "text", bool: "true | false", type(None): "null"}

_TITLES: Final = {
    TRAINER: "Lightning's trainer",
    "model": "What is learned, and how",
    "data": "The real images",
}
"""Sections whose class is described for those who read code."""


def inventory() -> Catalogue:
    """Every option of the parser, with the classes of ours that options take."""
    parser = _parser()
    groups = {
        action.dest: _TITLES.get(action.dest, group.title or "")
        for group in parser._action_groups
        for action in group._group_actions
        if getattr(action, "_typehint", None) is None and "." + action.dest in _sections(parser)
    }
    options, bases = {}, dict[str, type]()
    for option, base in _options(parser):
        options[option.name] = option
        if base is not None:
            bases[option.name] = base
    options["data"] = _reworded(options["data"], _TITLES["data"] + ".")
    chosen = [cls for base in bases.values() for cls in _choices(base)]
    classes = {cls.__name__: _class(cls) for cls in sorted(chosen, key=lambda cls: cls.__name__)}
    sources = _sources([StageOptions, Evaluation, Selecting, Importing, Planning, *chosen])
    return Catalogue(version("lightning"), groups, options, classes, sources, digest(sources))


def page() -> str:
    """The file as it should be."""
    return json.dumps(inventory().to_json(), indent=1, ensure_ascii=False) + "\n"


def taker(name: str) -> str | None:
    """The option that takes a class which is not ours.

    Args:
        name: Of a class of Lightning's, or the import path of any.
    """
    for action in _parser()._actions:
        base = class_of(getattr(action, "_typehint", None), ("pdd_lightning", "lightning"))
        if base is not None and not action.dest.endswith(".help") and fault_of(name, base) is None:
            return action.dest
    return None


def _parser() -> LightningArgumentParser:
    """That of every command, without parsing anything."""

    class Asked(Exception):  # noqa: N818 (nothing went wrong)
        pass

    found: list[LightningArgumentParser] = []

    class Listening(Application):
        def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
            found.append(parser)
            raise Asked

    with suppress(Asked):
        Listening("fit", [])
    return found[0]


def _sources(classes: Iterable[type]) -> tuple[str, ...]:
    """The files in which the options of classes are written, and the one in which those of the run are."""
    root = FILE.parents[1]
    modules = {part.__module__ for cls in classes for part in cls.__mro__}
    ours = [str(sys.modules[name].__file__) for name in modules if name.startswith("pdd_lightning.")]
    files = {Path(file).relative_to(root).as_posix() for file in ours}
    return tuple(sorted(files | {"cli/options.py"}))


def _sections(parser: ArgumentParser) -> set[str]:
    """Dotted names that options lie below, with a dot in front."""
    names = [action.dest for action in parser._actions]
    return {"." + name.rpartition(".")[0] for name in names if "." in name}


def _options(parser: ArgumentParser) -> Iterator[tuple[Option, type | None]]:
    """Options that can be given, each with the class of ours that it takes."""
    for action in parser._actions:
        hint = getattr(action, "_typehint", None)
        if hint is None or not action.option_strings or action.dest.endswith(".help"):
            continue
        base = class_of(hint)
        names = tuple(cls.__name__ for cls in _choices(base)) if base else ()
        takes_others = base is None and class_of(hint, ("lightning",)) is not None
        default = None if action.required or action.dest == "data" else _written(action.default)
        opened = takes_others or (base is not None and inspect.isabstract(base))
        yield Option(action.dest, _kind(hint), default, _text(action), names, opened), base


def _class(cls: type) -> Class:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, None)
    text = re.split(r"(?:^|\n\n)[A-Z]\w+:\n", inspect.cleandoc(cls.__doc__ or ""), maxsplit=1)[0]  # before the sections
    return Class(exported_name(cls), text, tuple(option for option, _ in _options(parser)))


def _choices(base: type) -> Sequence[type]:
    """The classes of ours that an option of this type takes."""
    below = {base, *subclasses(base)} if not inspect.isabstract(base) else subclasses(base)
    ours = {cls for cls in below if not inspect.isabstract(cls) and cls.__module__.startswith("pdd_lightning.")}
    return sorted(ours, key=lambda cls: cls.__name__)


def _reworded(option: Option, text: str) -> Option:
    return Option(option.name, option.kind, option.default, text, option.classes, option.open)


def _text(action: Action) -> str:
    return " ".join((action.help or "").replace("``", "").split())


def _kind(hint: Any) -> str:
    """A type as people read it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(_kind, parts)))
    if origin is dict:
        return "mapping"
    if parts:
        return f"[{_kind(parts[0])}, ...]"
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def _written(value: Any) -> str:
    """A default as it would be given."""
    if isinstance(value, dict) and "class_path" in value:
        return str(value["class_path"]).rpartition(".")[2]
    if isinstance(value, str):
        return value
    return json.dumps(value)


if __name__ == "__main__":
    write_text(FILE, page())
