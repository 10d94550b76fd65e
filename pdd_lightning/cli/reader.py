"""Reads configuration files with the sections that they name. Imports no torch."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pdd_lightning.cli.paths import from_home
from pdd_lightning.cli.strict_yaml import SIXTIETHS, load, load_file
from pdd_lightning.errors import ConfigError


@dataclass(frozen=True)
class Kind:
    """What an option takes.

    Attributes:
        group: Options lie below it, and it has no value of its own.
        takes_class: A class of ours, whose options lie below it.
        text: It may be text.
    """

    group: bool = False
    takes_class: bool = False
    text: bool = False


@dataclass(frozen=True)
class Reader:
    """Reads configuration files with their sections.

    Args:
        kinds: The options that exist, by their dotted names.
        origin: The file that gives each option, by its dotted name without `init_args`.
    """

    kinds: Mapping[str, Kind]
    origin: dict[str, Path] = field(default_factory=dict)

    def write_out(self, args: Sequence[str]) -> list[str]:
        """The arguments with the text of a configuration, after --config, where they name a file.

        Args:
            args: Among them files after --config, or after the option of a section.

        Raises:
            ConfigError: See :meth:`read`.
        """
        written: list[str] = []
        for before, arg in zip(["", *args], args, strict=False):
            option, equals, value = arg.partition("=") if arg.startswith("-") else (before, "", arg)
            self._check_value(option, value)
            content = self._content(option, value) if value else None
            if content is None:
                written.append(arg)
            else:
                written[len(written) if equals else -1 :] = ["--config", yaml.safe_dump(content)]
        return written

    def _check_value(self, option: str, value: str) -> None:
        """Refuse on the command line what is refused in a file.

        Raises:
            ConfigError: If a value in YAML drops a part of it, or is another number than it looks like.
        """
        if value.startswith(("{", "[")):
            with suppress(yaml.YAMLError):  # of which jsonargparse tells
                load(value, option)
        kind = self.kinds.get(option.removeprefix("--"))
        if kind is not None and not kind.text and SIXTIETHS.fullmatch(value):
            raise ConfigError(f"{option}={value}: this would be read to the base of sixty; write the number out")

    def _content(self, option: str, value: str) -> dict[Any, Any] | None:
        """The options in the file that an option names, by their whole names; None if it names no file."""
        name = option.removeprefix("--")
        if option in ("-c", "--config"):
            return self.read(Path(from_home(value, "--config")), f"--config={value}")
        if not option.startswith("--") or not self._is_section(name, value):
            return None
        path = Path(from_home(value, option))
        if not path.is_file():
            return None
        content = self.read(path, value, f"{name}.")
        for part in reversed(name.split(".")):
            content = {part: content}
        return content

    def read(self, path: Path, shown: str, prefix: str = "", above: tuple[Path, ...] = ()) -> dict[Any, Any]:
        """The options of a file, those of its sections among them.

        Args:
            path: The file.
            shown: How messages name it.
            prefix: Of the options in it, where another file names it for a section.
            above: The files that led to it.

        Raises:
            ConfigError: If it is not a YAML file of options, or has something else where options belong.
        """
        if path.resolve() in above:
            raise ConfigError(f"{shown}: this section names itself; write its options there, or name another file")
        content = load_file(path, shown)
        return self._fill(content, path, shown, prefix, (*above, path.resolve()))

    def _fill(
        self, content: dict[Any, Any], path: Path, shown: str, prefix: str, above: tuple[Path, ...]
    ) -> dict[Any, Any]:
        """The options of a part of a file, with each section that it names in the place of the file's name."""
        filled = {}
        for key, value in content.items():
            name = f"{prefix}{key}"
            self._check_form(name, value, shown)
            self.origin[plain(name)] = path
            if isinstance(value, dict):
                filled[key] = self._fill(value, path, shown, f"{name}.", above)
            elif (
                isinstance(value, str) and self._is_section(name, value) and (section := _beside(path, value)).is_file()
            ):
                if beside := [f"{prefix}{other}" for other in content if str(other).startswith(f"{key}.")]:
                    raise ConfigError(
                        f"{shown}: {name} names the file {value}, beside which {beside[0]} has no effect; move it into "
                        f"a file for this section, or give --{beside[0]} on the command line"
                    )
                filled[key] = self.read(section, str(section), f"{name}.", above)
            else:
                filled[key] = value
        return filled

    def _is_section(self, name: str, value: str) -> bool:
        """Whether an option may name a file of options; those of a class are known to that class alone."""
        if ".init_args." in name:
            return value.endswith((".yaml", ".yml"))
        return name in self.kinds and (self.kinds[name].group or self.kinds[name].takes_class)

    def _check_form(self, name: str, value: Any, shown: str) -> None:
        """Refuse what is no option where options belong, which jsonargparse does not survive everywhere.

        Raises:
            ConfigError: Naming file and option.
        """
        what = "nothing" if value is None else repr(value)
        kind = self.kinds.get(name, Kind())
        group = kind.group
        if (group or name.endswith(".init_args")) and not isinstance(value, (dict, str) if group else dict):
            raise ConfigError(f"{shown}: {name} holds {what}; give its options below it, indented, or remove the line")
        classes = value if isinstance(value, list) else [value]
        number = kind.takes_class and any(isinstance(one, (int, float)) for one in classes)
        if number or (name.endswith(".class_path") and not isinstance(value, str)):
            raise ConfigError(f"{shown}: {name} holds {what}; name a class there")

    def place(self, message: str, args: Sequence[str]) -> str:
        """Put the file in front of a message about an option that a file gives.

        Args:
            message: Such as "--model.ipc=many: expected an integer".
            args: Those written out; an option among them is not a file's.
        """
        found = re.match(r"--([\w.]*\w)", message)
        path = self.origin.get(plain(found[1])) if found else None
        given = {plain(arg.removeprefix("--").partition("=")[0]) for arg in args if arg.startswith("--")}
        return message if found is None or path is None or plain(found[1]) in given else f"{path}: {message}"


def _beside(path: Path, value: str) -> Path:
    """The file that another one names."""
    return Path(os.path.normpath(path.parent / from_home(value, str(path))))


def plain(name: str) -> str:
    """A dotted name as messages and the command line have it.

    Example:
        >>> plain("model.network.init_args.width"), plain("model.network.class_path")
        ('model.network.width', 'model.network')
    """
    return name.replace(".init_args", "").removesuffix(".class_path")
