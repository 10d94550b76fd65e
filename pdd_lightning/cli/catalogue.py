"""Every option of the command line with what is said of it, in `options.json` beside this file. Imports no torch.

Help, and the answer to a mistyped option, would otherwise wait for Lightning. `make options` writes the file from the
parser (`cli/inventory.py`); a test fails where the two differ.
"""

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self

FILE: Final = Path(__file__).with_name("options.json")

TRAINER: Final = "trainer"
"""The section of Lightning's options, which are those of the installed release."""


@dataclass(frozen=True)
class Option:
    """An option.

    Attributes:
        name: Dotted, without dashes; of a class: below the option that takes the class.
        kind: What it takes, for people.
        default: As it would be written; None if it must be given.
        text: What it does.
        classes: Names of ours that it takes.
        open: Whether options may lie below it that only the chosen class knows.
    """

    name: str
    kind: str
    default: str | None
    text: str
    classes: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True)
class Class:
    """A class of ours that an option takes.

    Attributes:
        path: What it is imported by.
        text: What it is.
        options: Its arguments.
    """

    path: str
    text: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Catalogue:
    """All options.

    Attributes:
        lightning: The release of Lightning that the options of the trainer are from.
        groups: What is said of each section, by its dotted name.
        options: By their dotted names.
        classes: Those that options take, by their names.
        sources: Files of the package, from its root, whose signatures the options are made of.
        signatures: Their :func:`digest`.
    """

    lightning: str
    groups: Mapping[str, str]
    options: Mapping[str, Option]
    classes: Mapping[str, Class]
    sources: tuple[str, ...]
    signatures: str

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        classes = {
            name: Class(row["path"], row["text"], tuple(map(_option, row["options"])))
            for name, row in found["classes"].items()
        }
        options = {option.name: option for option in map(_option, found["options"])}
        made = (tuple(found["sources"]), found["signatures"])
        return cls(found["lightning"], found["groups"], options, classes, *made)

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        classes = {
            name: {"path": row.path, "text": row.text, "options": [_plain(option) for option in row.options]}
            for name, row in self.classes.items()
        }
        options = [_plain(option) for option in self.options.values()]
        made: dict[str, Any] = {"lightning": self.lightning, "sources": self.sources, "signatures": self.signatures}
        return {**made, "groups": dict(self.groups), "options": options, "classes": classes}

    @property
    def knows_trainer(self) -> bool:
        """Whether the installed Lightning is the one that the trainer's options are from."""
        try:
            return version("lightning") == self.lightning
        except PackageNotFoundError:
            return False

    @cached_property
    def current(self) -> bool:
        """Whether the options are those of the package as it is, and not of one that is being changed."""
        return digest(self.sources) == self.signatures


def digest(sources: Iterable[str]) -> str:
    """Tells whether options came or went: of the fields and arguments that files of the package name.

    Args:
        sources: The files, from the root of the package.
    """
    root = FILE.parents[1]
    found = {file: sorted(_named(root / file)) for file in sources}
    return sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def _named(path: Path) -> Iterator[str]:
    """The fields of classes, the arguments of constructors, and what is added to a parser."""
    for node in ast.walk(ast.parse(path.read_bytes()) if path.is_file() else ast.Module([], [])):
        if isinstance(node, ast.ClassDef):
            fields = (line.target for line in node.body if isinstance(line, ast.AnnAssign))
            yield from (f"{node.name}.{target.id}" for target in fields if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            yield from (arg.arg for arg in [*node.args.args, *node.args.kwonlyargs])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("add_"):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


@cache
def catalogue() -> Catalogue:
    """What the file holds.

    Example:
        >>> catalogue().options["model.ipc"].default
        '10'
    """
    return Catalogue.from_json(json.loads(FILE.read_text(encoding="utf-8")))


def _option(row: Mapping[str, Any]) -> Option:
    return Option(**{**row, "classes": tuple(row.get("classes", ()))})


def _plain(option: Option) -> dict[str, Any]:
    """Without what is as it is most often, so that the file stays readable."""
    row = {"name": option.name, "kind": option.kind, "default": option.default, "text": option.text}
    return row | ({"classes": list(option.classes)} if option.classes else {}) | ({"open": True} if option.open else {})
