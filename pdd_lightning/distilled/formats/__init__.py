"""The forms in which a distilled set is handed on: one file for each, and a place in `FORMATS`."""

from pathlib import Path
from typing import Final

from pdd_lightning.distilled.formats.base import Format
from pdd_lightning.distilled.formats.huggingface import HuggingFace
from pdd_lightning.distilled.formats.image_folder import ImageFolders
from pdd_lightning.distilled.formats.npz import Npz
from pdd_lightning.distilled.formats.safetensors import Safetensors
from pdd_lightning.distilled.formats.tensor_pair import TensorPair
from pdd_lightning.errors import ConfigError, suggest

__all__ = ["FORMATS", "Format", "format_named", "format_of"]

FORMATS: Final[tuple[Format, ...]] = (Safetensors(), Npz(), ImageFolders(), HuggingFace(), TensorPair())


def format_named(name: str, option: str = "format") -> Format:
    """The format of a name.

    Args:
        name: Such as "npz".
        option: What was given it, for the message.

    Raises:
        ConfigError: If there is none; the nearest name is told.

    Example:
        >>> format_named("npz").lossless, format_named("imagefolder").lossless
        (True, False)
    """
    formats = {each.name: each for each in FORMATS}
    if name not in formats:
        raise ConfigError(
            f"{option}={name}: there is no such format{suggest(name, formats)}; choose one of {', '.join(formats)}"
        )
    return formats[name]


def format_of(path: Path) -> Format | None:
    """The format of an export, told by its contents; None for anything else.

    Args:
        path: A file or a folder.
    """
    return next((each for each in FORMATS if each.recognises(path)), None)
