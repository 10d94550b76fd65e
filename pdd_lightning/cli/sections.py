"""The files of a configuration: those of --config and the sections that they name.

jsonargparse reads them by itself, but of a mistake in a section it says little, and never in which file it is. So every
file is read for its form first, and after a mistake in the options jsonargparse is asked once more, with each section
written out where it is named.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from pdd_lightning.cli.classes import class_of, explained_imports
from pdd_lightning.cli.messages import types_of
from pdd_lightning.cli.reader import Kind, Reader
from pdd_lightning.errors import ConfigError


@contextmanager
def explained_files(parser: LightningArgumentParser, args: Sequence[str]) -> Iterator[None]:
    """Check the files that the arguments name; a mistake found in the block names the file that it is in.

    Args:
        parser: Which parses the arguments in the block.
        args: The arguments of a command.

    Raises:
        ConfigError: With one line.
    """
    reader = Reader(kinds_of(types_of(parser)))
    written = reader.write_out(args)
    try:
        yield
    except ConfigError as error:
        message = str(error)
        # A parser that was asked for the configuration remembers it, and shows it before it looks for mistakes.
        vars(parser).pop("print_config", None)
        try:
            with explained_imports():
                parser.parse_args([arg for arg in written if arg.partition("=")[0] != "--print_config"])
        except ConfigError as again:
            message = str(again)
        raise ConfigError(reader.place(message, written)) from error


def kinds_of(types: Mapping[str, Any]) -> dict[str, Kind]:
    """What each option of a parser takes.

    Args:
        types: The type of each, None for a group.
    """
    sections = {name.rpartition(".")[0] for name in types}
    return {
        name: Kind(
            group=hint is None and name in sections,
            takes_class=class_of(hint) is not None,
            text=hint is None or "str" in str(hint),
        )
        for name, hint in types.items()
    }
