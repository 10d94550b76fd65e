"""The pages of `--help`: two screens for all options, and details of a part, an option or a class. Imports no torch."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from typing import Final

from pdd_lightning.cli.catalogue import TRAINER, Catalogue, Option, catalogue
from pdd_lightning.cli.commands import COMMANDS
from pdd_lightning.cli.suggestions import nearest
from pdd_lightning.errors import ConfigError

WIDTH: Final = 100
"""Of a page, at most."""

EVERYTHING: Final = "all"

_COLUMN: Final = 31
_LEAST: Final = 60

_SECTIONS: Final = {row.section: name for name, row in COMMANDS.items() if row.section}
"""Options that are of one command each, and which."""

_PARTS: Final = ("model", "data", "evaluation", *_SECTIONS, TRAINER)

_LIGHTNINGS: Final = (TRAINER, "seed_everything")

_RUN: Final = "run"

_GROUPS: Final = {
    _RUN: (),
    "method": ("model.network", "model.objective", "model.dynamics", "model.augmentation"),
    "images and stages": (
        *("model.stages", "model.ipc", "model.iterations", "model.initial", "model.reduction", "model.factor"),
        *("model.clamp_pixels", "model.image_lr", "model.image_lr_decay_at", "model.image_lr_decay"),
        *("model.learning_rate", "model.learning_rate_lr", "model.optimizer"),
    ),
    "matching and transition": ("model",),
    "training on the images (transition, evaluation)": ("model.recipe",),
    "data": ("data",),
    "evaluation": ("evaluation",),
}
"""Which options stand together: an option belongs to the longest name here that it is or lies below, or to the run."""

_FILES: Final = "--imported.files"
"""What stands without the name of an option."""

_SHORT: Final = {"evaluation.full": "model.recipe"}
"""Sections that are told by another one which has the same options."""

_USUAL: Final = {
    "accelerator": "cpu, gpu or another one of Lightning's",
    "devices": "How many devices, or which",
    "logger": "TensorBoardLogger, CSVLogger or others; false for none",
    "max_time": "Stop and save after it, as 00:12:00:00 for twelve hours",
}
"""Options of the trainer that people ask for most."""

_HEAD: Final = """\
usage: pdd-cli {command} --config FILE [--OPTION VALUE ...]

{help}
Every option may stand in the file too. Defaults are in brackets.

"""

_ALWAYS: Final = {
    "--config FILE": "A configuration, from `pdd-cli init` or shipped; the last file wins",
    "--print_config": "Show every option with its value, and stop",
    "--help [PART]": "This page, or everything about a part (below), a class or one option",
}

_EXAMPLES: Final = """
more:
  --help model                 and data, evaluation, select, plan, imported, run: a part in full
  --help model.objective       what it may be
  --help TrajectoryMatching    options of a class; ExpertTrajectories, ConvNet, DigitsData, ...
  --help trainer               Lightning's trainer
  --help all                   the parser's own help

examples:
  pdd-cli {command} --config smoke/stage.yaml
  pdd-cli {command} --config smoke/stage.yaml --run_dir checkpoints/mine --model.ipc 2
  pdd-cli {command} --config mine.yaml --model.network ResNet --model.network.width 32
"""


def asked(args: Sequence[str]) -> str | None:
    """What the arguments of a command ask help for: the name of a page, empty for the overview; None if nothing.

    Args:
        args: After the command's name.

    Example:
        >>> asked(["--config", "x.yaml", "--help", "model"]), asked(["-h"]), asked(["--stage", "1"])
        ('model', '', None)
    """
    for arg, after in pairwise([*args, ""]):
        option, equals, value = arg.partition("=")
        if option in ("--help", "-h"):
            return (value if equals else "" if after.startswith("-") else after).lstrip("-")
    return None


def show(command: str, topic: str) -> None:
    """Print a page.

    Args:
        command: Its name.
        topic: Empty for the overview; ``all`` for the parser's own help; a section, an option or a class.

    Raises:
        ConfigError: If there is nothing of that name.
    """
    name = topic.replace(".init_args", "").rstrip(".")
    known = catalogue()
    if name == "":
        print(overview(known, command), end="")
    elif name == EVERYTHING:
        _ask_parser(command, "--help")
    elif (text := _details(known, name)) is not None:
        print(text, end="")
    elif _may_be_foreign(known, name) and (given := _foreign(known, name)) is not None:
        _ask_parser(command, *given)
    else:
        names = [_RUN, EVERYTHING, *_PARTS, *known.options, *known.classes]
        near = nearest(name, names) or nearest(name.rpartition(".")[2], names)
        raise ConfigError(
            f"--help {topic}: there is no part, option or class of this name; "
            + (f"did you mean {near}?" if near else f"`pdd-cli {command} --help` lists them")
        )


def overview(known: Catalogue, command: str) -> str:
    """All options, a line for each.

    Args:
        known: The options.
        command: Whose help it is.
    """
    row = COMMANDS[command]
    call = f"{command} {row.words}".rstrip()
    lines = [_HEAD.format(command=call, help=row.help)]
    members: dict[str, list[Option]] = {title: [] for title in _GROUPS}
    for option in known.options.values():
        if _below(option.name, [*_LIGHTNINGS, *_SHORT, *_SECTIONS]) is None:
            members[_group_of(option.name)].append(option)
    for title, options in members.items():
        lines.append(f"{title}:\n")
        if title == _RUN:
            lines += [_line(name, text) for name, text in _ALWAYS.items()]
        left_out = ("stage",) if command == "run" else ()
        lines += [_line(*_short(option)) for option in options if option.name not in left_out]
        if title == _RUN:
            lines += _own(known, command)
        for section, other in _SHORT.items():
            if _group_of(section) == title:
                lines.append(_line(f"--{section}.OPTION", f"{known.groups[section]}, by options as of {other}"))
    lines.append("other commands:\n")
    others = [section for section, name in _SECTIONS.items() if name != command]
    lines += [_line(f"--{section}.OPTION", f"{known.groups[section]} (--help {section})") for section in others]
    lines.append("trainer (Lightning's; --help trainer shows all):\n")
    lines += [_line(f"--{TRAINER}.{name}", text) for name, text in _USUAL.items()]
    return "".join([*lines, _EXAMPLES.format(command=call)])


def _own(known: Catalogue, command: str) -> list[str]:
    """The options of the command alone."""
    row = COMMANDS[command]
    if not row.section:
        return []
    options = [_short(option) for option in known.options.values() if _below(option.name, [row.section])]
    if row.words:
        options = [(name.replace(f"{row.section}.", ""), text) for name, text in options if name != _FILES]
    return [f"{command}:\n", *(_line(name, text) for name, text in options)]


def _group_of(name: str) -> str:
    """The title under which an option stands."""
    places = {prefix: title for title, prefixes in _GROUPS.items() for prefix in prefixes}
    return places.get(_below(name, places) or "", _RUN)


def _of_run(name: str) -> bool:
    return _group_of(name) == _RUN and _below(name, [*_LIGHTNINGS, *_SECTIONS]) is None


def _below(name: str, prefixes: Iterable[str]) -> str | None:
    """The longest of the names that a dotted name is or lies below."""
    found = [prefix for prefix in prefixes if f"{name}.".startswith(f"{prefix}.")]
    return max(found, key=len, default=None)


def _short(option: Option) -> tuple[str, str]:
    """Name and one line of an option: what it does, or may be, as far as there is room."""
    shown = (option.default or "null").strip("[]").replace('"', "")
    default = f" [{shown}]" if shown not in ("", "null") else ""
    room = WIDTH - _COLUMN - len(default)
    texts = [*_beginnings(option.text)]
    if choices := ", ".join(_choices(option)):
        texts = [*(f"{text}: {choices}" for text in texts if ": " not in text), choices]
    return f"--{option.name}", next((text for text in texts if len(text) <= room), texts[-1]) + default


def _choices(option: Option) -> Sequence[str]:
    """The classes or words to choose from, where there are some."""
    if option.classes:
        return option.classes if option.open else ()
    words = option.kind.removeprefix("[").removesuffix(", ...]").split(" | ")
    anything = len(words) < 2 or {"integer", "number", "text", "true"} & {*words}
    return () if anything else [word for word in words if word != "null"]


def _beginnings(text: str) -> Iterator[str]:
    """The first sentence of a text, then shorter parts of it that can stand alone."""
    sentence = re.split(r"\.(?:\s|$)", text, maxsplit=1)[0]
    yield sentence
    for boundary in (r"[;:] | \(", ", "):
        for found in reversed([*re.finditer(boundary, sentence)]):
            part = sentence[: found.start()]
            if part.count("(") == part.count(")"):
                yield part


def _line(name: str, text: str) -> str:
    """A row of the overview, in more lines where the terminal is narrow."""
    column = " " * _COLUMN
    first = f"  {name:{_COLUMN - 4}}  "
    return textwrap.fill(text, _width(), initial_indent=first, subsequent_indent=column) + "\n"


def _width() -> int:
    return max(_LEAST, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def _details(known: Catalogue, name: str) -> str | None:
    """Everything about a section, an option or a class of ours; None if the catalogue does not have it."""
    if name.partition(".")[0] == TRAINER and not known.knows_trainer:
        known = import_module("pdd_lightning.cli.inventory").inventory()
    options = [option for option in known.options.values() if _below(option.name, [name])]
    if name == _RUN:
        options = [option for option in known.options.values() if _of_run(option.name)]
    if options:
        title = "".join(_paragraphs(f"{known.groups[name]}.", "")) + "\n" if name in known.groups else ""
        return title + "\n".join(_detail(known, option) for option in options)
    return _class_page(known, name)


def _class_page(known: Catalogue, name: str) -> str | None:
    """A class: what it is, and its options as the command line has them."""
    owner, _, last = name.rpartition(".")
    if last not in known.classes or owner not in ("", known.classes[last].path.rpartition(".")[0], *known.options):
        return None
    takers = [option.name for option in known.options.values() if last in option.classes]
    if owner in known.options and owner not in takers:
        return None
    cls, taker = known.classes[last], owner if owner in takers else takers[0]
    head = [*_paragraphs(f"--{taker} {last} ({cls.path})", ""), *_paragraphs(cls.text, "  ")]
    if len(takers) > 1:
        others = ", ".join(f"--{other}" for other in takers if other != taker)
        head += ["\n", *_paragraphs(f"Also for {others}.", "  ")]
    options = [_detail(known, option, f"{taker}.") for option in cls.options]
    return "".join(head) + "\n" + ("\n".join(options) if options else "  It has no options.\n")


def _detail(known: Catalogue, option: Option, prefix: str = "") -> str:
    """An option in full."""
    default = "required" if option.default is None else f"default: {option.default}"
    lines = [f"--{prefix}{option.name}\n", *_paragraphs(option.text, "    ")]
    lines += _paragraphs(f"{option.kind}; {default}", "    ")
    for name in option.classes:
        first = re.split(r"\.\s|\n\n", known.classes[name].text, maxsplit=1)[0].rstrip(".")
        text = f"{name}: {_folded(first)}"
        lines.append(textwrap.fill(text, _width(), initial_indent="      ", subsequent_indent="        ") + "\n")
    return "".join(lines)


def _paragraphs(text: str, indent: str) -> Iterator[str]:
    """A text in lines of the page's width."""
    for index, paragraph in enumerate(text.split("\n\n")):
        if index:
            yield "\n"
        yield textwrap.fill(_folded(paragraph), _width(), initial_indent=indent, subsequent_indent=indent) + "\n"


def _folded(text: str) -> str:
    return " ".join(text.replace("``", "").split())


def _may_be_foreign(known: Catalogue, name: str) -> bool:
    """Whether the parser is worth asking, which takes seconds: not about a slip in the name of a class of ours."""
    return "." in name or (name[:1].isupper() and not get_close_matches(name, known.classes, n=1, cutoff=0.8))


def _foreign(known: Catalogue, name: str) -> tuple[str, str] | None:
    """The arguments by which the parser tells of a class that is not ours; None if no option takes it."""
    taker = _below(name, [option.name for option in known.options.values() if option.open])
    if taker is not None and (not known.options[taker].classes or "." in name.removeprefix(f"{taker}.")):
        return f"--{taker}.help", name.removeprefix(f"{taker}.")
    found: str | None = import_module("pdd_lightning.cli.inventory").taker(name)
    return None if found is None else (f"--{found}.help", name)


def _ask_parser(command: str, *args: str) -> None:
    import_module("pdd_lightning.cli.application").Application(command, args)
