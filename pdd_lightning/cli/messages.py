"""The parser of the command line: every mistake in the options becomes one line.

jsonargparse explains a mistake by all that it tried, below several pages of usage. The functions here find the option,
the value and the remedy in that text; what they do not recognise is passed on, folded into one line.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pydoc import locate
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from pdd_lightning.cli.classes import class_of, fault_of
from pdd_lightning.cli.suggestions import no_class_option, no_option
from pdd_lightning.described import options_of
from pdd_lightning.errors import ConfigError, PDDError, one_line

_TYPE_NAMES = {"int": "an integer", "float": "a number", "str": "text", "bool": "true or false"}
_TYPE_NAMES |= {"list": "a list", "tuple": "a list"}


class _Dumper(yaml.SafeDumper):
    """Writes members of an enumeration too, which classes of others have as defaults of options that are text."""


_Dumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def dump_yaml(config: Any) -> str:
    """A configuration as jsonargparse is to record it."""
    text: str = yaml.dump(config, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
    return text


class OptionParser(LightningArgumentParser):
    """Raises `ConfigError` with one line, where argparse would print its usage and exit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A prefix that happens to be unique today is a misspelling that nobody notices.
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """See `argparse.ArgumentParser.error`.

        Raises:
            ConfigError: Always, except within the parsers that jsonargparse makes for its own attempts.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        raise ConfigError(explain(message, types_of(self))) from None


def types_of(parser: LightningArgumentParser) -> dict[str, Any]:
    """The type of every dotted option of a parser."""
    options = [(string, action) for action in parser._actions for string in action.option_strings]
    return {string[2:]: getattr(action, "_typehint", None) for string, action in options if string.startswith("--")}


def explain(message: str, types: dict[str, Any]) -> str:
    """One line that names the option, the value and the remedy.

    Args:
        message: What jsonargparse reports.
        types: The options that exist and their types.
    """
    if found := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
        return _unknown(found[1].split()[0], types)
    if found := re.fullmatch(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return _unknown(f"--{found[1]}.{found[2]}", types)
    if found := re.fullmatch(r"Option '([^']+)' is not accepted", message):
        return _unknown(f"--{found[1]}", types)
    if found := re.match(r"the following arguments are required: (.*)", message):
        missing = ", ".join(f"--{name}" for name in found[1].split(", "))
        return f"{missing}: required; give a file that holds them with --config, or the options themselves"
    keys = re.findall(r"Parser key \"([^\"]+)\"", message)
    if keys:
        return _bad_value(message, _joined(keys), types)
    return one_line(message) + " (--help lists the options)"


def refuse_undecodable(args: Sequence[str]) -> None:
    """Refuse values that are no UTF-8, as old names of folders are: no record of the run could hold them.

    Args:
        args: Of the command; bytes that are no UTF-8 are lone surrogates in them.

    Raises:
        ConfigError: Naming the option. A configuration file may be called as it likes, for its name is not recorded.
    """
    before = ["", *args]
    for previous, arg in zip(before, args, strict=False):
        option, _, value = arg.partition("=") if arg.startswith("--") else (previous, "", arg)
        if not arg.isascii() and re.search("[\ud800-\udfff]", arg) and option not in ("-c", "--config"):
            shown = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise ConfigError(
                f"{option}={shown}: is not UTF-8 and could not be recorded; rename the folder or choose another"
            )


def qualify(message: str, config: Namespace) -> str:
    """Put the dotted path in front of a message that begins with the bare name of a nested option.

    Classes know the names of their options, not where in the configuration they stand.

    Args:
        message: Such as "epochs must be at least 1, got 0".
        config: The configuration of the command.
    """
    found = re.match(r"[A-Za-z_][\w.]*", message)
    if not found:
        return message
    name = found[0].rstrip(".")
    values = {key.replace(".init_args", ""): value for key, value in _leaves(config)}
    # Linked options such as run_dir occur twice, once under model: the message has the path that users write.
    if name in values:
        return message
    paths = [key for key in values if key.endswith(f".{name}")]
    if len(paths) > 1:
        told = {key: str(list(values[key]) if isinstance(values[key], tuple) else values[key]) for key in paths}
        paths = [key for key in paths if re.search(rf"(?:got |is |=){re.escape(told[key])}(?!\w)", message)]
    return paths[0] + message[len(name) :] if len(paths) == 1 else message


@contextmanager
def qualified(config: Namespace) -> Iterator[None]:
    """Name an option by its place in the configuration, also where jsonargparse wrapped the error.

    Args:
        config: The configuration of the command.

    Raises:
        PDDError: Of the kind that was raised in the block.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        # jsonargparse tries every member of a union type and raises a ValueError of its own at the end.
        while cause is not None and not isinstance(cause, PDDError) and isinstance(error, ValueError):
            cause = cause.__cause__ or cause.__context__
        if not isinstance(cause, PDDError):
            raise
        raise type(cause)(qualify(str(cause), config)) from error


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(config, Namespace):
        for key, value in vars(config).items():
            yield from _leaves(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], config


def _unknown(option: str, types: Iterable[str]) -> str:
    if not option.startswith("-"):
        return f"{option}: expected an option that begins with --; `pdd-cli fit --help` lists them"
    name = option.lstrip("-").partition("=")[0]
    return no_option(name, types)


def _bad_value(message: str, option: str, types: dict[str, Any]) -> str:
    """A message that names its option: a class that cannot be used, an option it lacks, or a value of another type."""
    found = re.search(r"given class_path '([^']+)'", message)
    class_path = found[1] if found else None
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        known = _options_of(class_path)
        name = str(class_path).rpartition(".")[2]
        return no_class_option(option, name, found[1], known)
    if found := re.search(r"the following arguments are required: (.*)", message):
        return f"--{option}.{found[1]}: required by the chosen class; give it a value"
    if (line := _bad_section(message, option)) is not None:
        return line
    base, given = class_of(types.get(option), ("pdd_lightning", "lightning")), _named_class(message)
    if base is not None and given is not None and (fault := fault_of(given, base)) is not None:
        return f"--{option}={given}: {fault}"
    value = re.search(r"(?:Got value|Given value): (.*)", message)
    wanted = dict.fromkeys(_wanted(item) for item in re.findall(r"Expected an? (.*?)(?:\. Got value|$)", message, re.M))
    wanted = {name: None for name in wanted if name}
    if value and wanted:
        given = value[1].strip()
        return f"--{option}={given}: expected {' or '.join(wanted)}; {_remedy(given, wanted)}"
    problem = re.sub(
        r"Parser key \"[^\"]+\":|Problem with given class_path '[^']+':|- Expected a path but .*", "", message
    )
    return f"--{option}: {one_line(problem)}; `pdd-cli fit --help` describes the options"


def _bad_section(message: str, option: str) -> str | None:
    """What is wrong with the text given for a section, if that is the mistake."""
    pattern = r"(?:Unable to load config|given class_path) '([^'\n]+)'|Unexpected import path format: (.+)"
    for quoted, bare in re.findall(pattern, message):
        path = quoted or bare
        if "/" in path or path.endswith((".yaml", ".yml")):
            begin = "it begins at the file that names it, on the command line at the current folder"
            return f"--{option}={path}: there is no such file of options; correct the path: {begin}"
    if found := re.search(r"Unable to load config '([^']*)'", message):
        return (
            f"--{option}={found[1]}: expected an option below it, such as --{option}.NAME VALUE, or a YAML file of them"
        )
    return None


def _joined(keys: Sequence[str]) -> str:
    """The dotted option of nested keys: the options of a class are named below it, those of a group in full."""
    option = keys[0]
    for key in keys[1:]:
        option = key if f"{key}.".startswith(f"{option}.") else f"{option}.{key}"
    return option


def _named_class(message: str) -> str | None:
    """The class that could not be used, in any of the ways in which jsonargparse says so."""
    patterns = (
        r"given class_path '([^']+)'",
        r"dot import path string: (\S+)",
        r"Import path (?!does)(\S+)",
        r"instantiatable class, but (\S+) is",
        r"does not correspond to a subclass[\s\S]*Given value: (\S+)",
    )
    return next((found[1] for pattern in patterns if (found := re.search(pattern, message))), None)


def _wanted(text: str) -> str:
    """A type as people say it; empty for what only says that there is no value."""
    if "NoneType" in text or text.startswith("path but"):
        return ""
    if found := re.match(r"typing\.Literal\[(.*)\]", text):
        return f"one of {found[1]}"
    found = re.match(r"<class '([\w.]+)'>", text)
    return _TYPE_NAMES.get(found[1], found[1].rpartition(".")[2]) if found else text


def _remedy(given: str, wanted: Iterable[str]) -> str:
    """What to do about a value of another type. A file may hold text that YAML takes for a number or a truth value."""
    if list(wanted) == ["a list"] and not given.startswith(("[", "{")):
        return f"write it in brackets, as in '[{given}]'"
    if _TYPE_NAMES["str"] not in wanted or given == "None" or given.startswith(("[", "{")):
        return "correct the value"
    truth = " (YAML reads on and yes as true, off and no as false)" if given in ("True", "False") else ""
    return f"quote it in the file if it is text{truth}, or correct the value"


def _options_of(class_path: str | None) -> list[str]:
    """The options of a class that was imported already, those that it hands on to its bases included."""
    cls: object = locate(class_path) if class_path else None
    return options_of(cls) if isinstance(cls, type) else []
