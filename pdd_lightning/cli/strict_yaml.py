"""YAML as people mean it: what its rules would drop, or read as something else than it looks like, is refused."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.shipped import nearest
from pdd_lightning.errors import ConfigError

_TAG: Final = "tag:yaml.org,2002:"


SIXTIETHS: Final = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
"""What YAML reads as a number to the base of sixty: 12:30 is 750."""


_DISGUISED: Final = re.compile(rf"{SIXTIETHS.pattern}|[-+]?0[0-7_]+")
"""Numbers that do not look like what they are: these, and octal ones such as 010."""


_NO_TEXT: Final = re.compile("[\ud800-\udfff\0]")
"""Halves of characters, which no file could hold, and what ends every name of a file."""


def load(text: str, shown: str) -> Any:
    """What a text in YAML holds.

    Args:
        text: The text.
        shown: How messages name where it is from.

    Raises:
        ConfigError: If a key stands twice in one section, or a value is not what it looks like; line and remedy are
            named.
        yaml.YAMLError: If it is not YAML.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _Check(loader, shown).visit(node, "", {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def load_file(path: Path, shown: str) -> dict[Any, Any]:
    """The options that a file holds.

    Args:
        path: The file.
        shown: How messages name it.

    Raises:
        ConfigError: If it cannot be read or is not a YAML file of options.
    """
    try:
        content = load(path.read_text(encoding="utf-8"), shown)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not text in UTF-8"
        raise ConfigError(
            f"{shown}: this is not valid YAML{where} ({problem}); check brackets, colons and indentation there"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{shown}: cannot be read ({error.strerror}); name an existing YAML file{nearest(str(path))}"
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{shown}: this holds no options; expected lines such as `run_dir: checkpoints/run`")
    return content


def refuse_unreadable(args: Sequence[str]) -> None:
    """Refuse configurations that no command could read, before a command imports what takes seconds.

    Args:
        args: Of the command line.

    Raises:
        ConfigError: See :func:`load_file`.
    """
    for before, arg in zip(["", *args], args, strict=False):
        option, equals, value = arg.partition("=") if arg.startswith("-") else (before, "=", arg)
        if option in ("-c", "--config") and equals:
            load_file(Path(from_home(value, "--config")), f"--config={value}")


class _Check:
    """Looks at a document before anything in it is made.

    Args:
        loader: Which reads it.
        shown: How messages name where it is from.
    """

    def __init__(self, loader: yaml.SafeLoader, shown: str) -> None:
        self.loader = loader
        self.shown = shown
        self._visited: set[int] = set()
        self._around: set[int] = set()

    def visit(self, node: yaml.Node, name: str, lines: dict[str, int]) -> None:
        """Look at a part of the document.

        Args:
            node: The part.
            name: Its dotted name.
            lines: Where each option stands, by its dotted name; filled.
        """
        if id(node) in self._around:
            line = node.start_mark.line + 1
            raise ConfigError(f"{self.shown}: {name} holds what it is a part of (line {line}); write its options there")
        if id(node) in self._visited:  # what an alias names was looked at where it stands
            return
        self._visited.add(id(node))
        self._around.add(id(node))
        self._within(node, name, lines)
        self._around.remove(id(node))

    def _within(self, node: yaml.Node, name: str, lines: dict[str, int]) -> None:
        if isinstance(node, yaml.ScalarNode):
            self._value(node, name)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.visit(item, f"{name}[{index}]", lines)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.tag == f"{_TAG}merge":
                    self.visit(value, name, {})  # what is written beside it replaces it, as it should
                    continue
                inner = f"{name}.{key.value}" if name else str(key.value)
                self._once(inner, key.start_mark.line + 1, lines)
                self.visit(value, inner, lines)

    def _once(self, name: str, line: int, lines: dict[str, int]) -> None:
        """Note where an option stands; the last of two would silently win."""
        if name in lines:
            where = f"in lines {lines[name]} and {line}" if lines[name] != line else f"in line {line}"
            raise ConfigError(f"{self.shown}: {name} stands twice, {where}; keep one of them")
        lines[name] = line

    def _value(self, node: yaml.ScalarNode, name: str) -> None:
        line = node.start_mark.line + 1
        if _NO_TEXT.search(node.value):
            raise ConfigError(
                f"{self.shown}: {name} holds {node.value!a} in line {line}, which is not text that a record could "
                "hold; rename the folder or choose another"
            )
        number = node.tag in (f"{_TAG}int", f"{_TAG}float") and node.style is None
        if number and _DISGUISED.fullmatch(node.value):
            raise ConfigError(
                f"{self.shown}: {name} holds {node.value} in line {line}, which YAML reads as "
                f'the number {self.loader.construct_object(node)}: quote it ("{node.value}") or write the number out'
            )
