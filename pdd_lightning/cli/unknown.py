"""Options that there are not, on the command line and in files, named before anything slow is imported.

Only what nobody can have is refused here: the parser knows the rest, such as the options of a class of the user's own.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import yaml

from pdd_lightning.cli.catalogue import TRAINER, Catalogue, catalogue
from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.cli.reader import Kind, Reader, plain
from pdd_lightning.cli.suggestions import join, no_class_option, no_option
from pdd_lightning.errors import ConfigError

_PARSERS: Final = ("config", "print_config", "help")
"""Options of the parser itself."""


def refuse_unknown(args: Sequence[str], command: str) -> None:
    """Refuse options that neither the command nor a class of ours has.

    Args:
        args: Of the command.
        command: Its name.

    Raises:
        ConfigError: Naming the option, the file if it stands in one, and the option that was meant.
    """
    known = catalogue()
    reader = Reader(_kinds(known))
    written = reader.write_out(args)
    given = list(_given(written))
    chosen: dict[str, set[str]] = {}
    for name, value in given:
        if name in known.options and isinstance(value, str):
            ours = value.startswith("pdd_lightning.")
            chosen.setdefault(name, set()).add(value.rpartition(".")[2] if ours else value)
    for name, _ in given:
        message = _fault(known, name, chosen, command)
        if message is not None and known.current:
            raise ConfigError(reader.place(message, written))


def _fault(known: Catalogue, name: str, chosen: dict[str, set[str]], command: str) -> str | None:
    """What is wrong with the name of an option; None if nothing is, or only the parser can tell."""
    section, parts = name.partition(".")[0], name.split(".")
    foreign = section == TRAINER and not known.knows_trainer
    bare = name in _bare(known, command)
    if name in known.options or name in known.groups or section in _PARSERS or foreign or bare:
        return None
    heads = (".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    above = next((head for head in heads if head in known.options), None)
    if above is None:
        names = [*_names(known, chosen), *_bare(known, command)]
        return no_option(name, names, f"pdd-cli {command} --help")
    return _fault_below(known, above, name.removeprefix(f"{above}."), chosen.get(above, set()), command)


def _fault_below(known: Catalogue, above: str, rest: str, named: set[str], command: str) -> str | None:
    """The same for the option of a class, below the option that takes it."""
    option = known.options[above]
    if not option.open:
        named = {*option.classes}
    # Which class a finished run was made with, only its own file says.
    classes = named or ({*option.classes} if option.default is None and command != "evaluate" else set())
    if rest == "help" or not classes or not classes <= known.classes.keys():
        return None
    has = list(dict.fromkeys(each.name for cls in sorted(classes) for each in known.classes[cls].options))
    if any(f"{rest}.".startswith(f"{each}.") for each in has):
        return None
    if not named:
        return no_option(f"{above}.{rest}", [f"{above}.{each}" for each in has], f"pdd-cli {command} --help {above}")
    return no_class_option(above, join(sorted(classes), "or"), rest, has)


def _bare(known: Catalogue, command: str) -> list[str]:
    """Options that the command takes without the name of their section."""
    row = COMMANDS[command]
    begin = f"{row.section}."
    return [name.removeprefix(begin) for name in known.options if row.words and name.startswith(begin)]


def _names(known: Catalogue, chosen: dict[str, set[str]]) -> list[str]:
    """Every option that could have been meant, those of the chosen classes too."""
    below = [
        f"{name}.{option.name}"
        for name, classes in chosen.items()
        for cls in sorted(classes & known.classes.keys())
        for option in known.classes[cls].options
    ]
    return [*known.options, *known.groups, *_PARSERS, *below]


def _given(written: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The name and value of every option, on the command line and in files."""
    for arg, after in pairwise([*written, ""]):
        if not re.match(r"--\w", arg):
            continue
        option, equals, text = arg.removeprefix("--").partition("=")
        value: Any = text if equals else "" if after.startswith("--") else after
        name = plain(option.removesuffix("+"))
        if name == "config":
            yield from _leaves(yaml.safe_load(value), "")
        elif value.startswith("{"):
            yield name, None
            yield from _leaves(_read(value), f"{option}.")
        else:
            yield name, value


def _read(text: str) -> Any:
    """What a value in YAML holds; nothing if it is none, of which the parser tells."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _leaves(content: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The options of a part of a configuration."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield plain(name).removesuffix("+"), value


def _kinds(known: Catalogue) -> dict[str, Kind]:
    """What each option takes, for reading files."""
    kinds = {
        name: Kind(takes_class=bool(option.classes), text=bool({"text"} & {*re.split(r"\W+", option.kind)}))
        for name, option in known.options.items()
    }
    return kinds | {name: Kind(group=True, text=True) for name in known.groups}
