"""One image file to pixels, or one line that says why not."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from pdd_lightning.errors import DataError

RULES = "opaque, upright, 8 bits"
"""How files are read and which are refused: images in the cache are decoded anew where that changes."""

_MOVING = ("AVIF", "GIF", "PNG", "WEBP")
"""Formats of films; in others, further pictures are previews and the like."""

_DEEP_RAW = re.compile(r"(L|LA|RGB|RGBA|RGBX|RGBa|CMYK);16[BLN]|L;16")
"""Pillow's names of pixels that it cuts down. `BGR;16` and the like share 16 bits among three channels."""

_SIZ = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 codestream begins; its channels' precisions follow."""


def read_image(path: Path, *, grey: bool | None) -> Image.Image:
    """Decode one file, turned as its EXIF orientation says.

    Args:
        path: The file.
        grey: Whether to read one grey channel (mode L) or red, green and blue (mode RGB). None takes what the file
            has: L where it stores no colours.

    Raises:
        DataError: If it cannot be read, moves, is transparent in places, or has more than 8 bits per value.
    """
    require_file(path)
    try:
        with Image.open(path) as file:
            assert isinstance(file, ImageFile.ImageFile)
            _require_plain(path, file)
            _turn_upright(file)
            # Only this way, Pillow warns of palettes with a table of transparency, without saying which file.
            image = file.convert("RGBA") if file.mode == "P" else file
            if file.has_transparency_data and file.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise DataError(f"{path}: is transparent in places; put it on a background of your choice")
            if grey is None:
                grey = file.mode in ("1", "L", "LA", "La")
            return image.convert("L" if grey else "RGB")
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise unreadable(path, "its contents are of no known format") from error
    except Exception as error:  # what a decoder raises for damaged contents has no common type
        raise unreadable(path, str(error) or type(error).__name__) from error


def require_file(path: Path) -> None:
    """Refuse pipes and devices, which whoever opens them waits for.

    Args:
        path: What a data set names; if nothing is there, the reader says so.

    Raises:
        DataError: Naming it.
    """
    if path.exists() and not path.is_file():
        raise unreadable(path, "it is a folder" if path.is_dir() else "it is a pipe or a device, not a file")


def unreadable(path: Path, reason: str) -> DataError:
    """The error for a file that is no image."""
    return DataError(f"{path}: cannot be read as an image ({reason}). Replace the file or remove it.")


def _require_plain(path: Path, file: ImageFile.ImageFile) -> None:
    """Refuse what would lose something on the way to one picture of 8 bits."""
    if file.mode.startswith(("I", "F")) or _is_deep(path, file):
        raise DataError(f"{path}: has more than 8 bits per value; convert it to an 8-bit image")
    if file.format in _MOVING and getattr(file, "is_animated", False):
        raise DataError(f"{path}: is a film of several pictures; keep one of them")


def _turn_upright(file: ImageFile.ImageFile) -> None:
    """Apply the orientation, which is gone from the file's data where Pillow has applied it itself."""
    file.load()
    try:
        ImageOps.exif_transpose(file, in_place=True)
    except (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error):
        return  # EXIF data that nobody can read do not say how the picture is held


def _is_deep(path: Path, file: ImageFile.ImageFile) -> bool:
    """Whether the file stores more than 8 bits per value, of which Pillow would keep 8.

    Colours come as mode RGB whatever their depth, so each format is asked in its own way.
    """
    if any(_deep_pixels(tile[0], tile[3] if isinstance(tile[3], tuple) else (tile[3],)) for tile in file.tile):
        return True
    if isinstance(file, TiffImageFile):
        return bool(max(file.tag_v2.get(BITSPERSAMPLE, (1,))) > 8)
    looks = _LOOKS.get(file.format or "", ())
    return bool(looks) and any(look(path.read_bytes()) for look in looks)


def _deep_pixels(codec: str, options: tuple[Any, ...]) -> bool:
    """By what Pillow tells its decoder."""
    if codec.startswith("ppm"):
        return bool(options[1] > 255)  # the largest value
    if codec == "dds_rgb":
        return any(mask.bit_count() > 8 for mask in options[1])
    if codec == "bcn":
        return bool(options[0] == 6)  # halves of floats
    return any(isinstance(option, str) and _DEEP_RAW.fullmatch(option) for option in options)


def _deep_avif(data: bytes) -> bool:
    """By the flag `high_bitdepth` of any AV1 configuration (AV1 in ISOBMFF, section 2.3)."""
    found = re.finditer(rb"av1C\x81.(.)", data, re.DOTALL)
    return any(match[1][0] & 0x40 for match in found)


def _deep_jpeg2000(data: bytes) -> bool:
    """By the channels' precisions in the marker SIZ (ISO 15444-1, A.5.1)."""
    start = data.find(_SIZ)
    while start >= 0:
        channels = int.from_bytes(data[start + 40 : start + 42], "big")
        if any((byte & 0x7F) + 1 > 8 for byte in data[start + 42 : start + 42 + 3 * channels : 3]):
            return True
        start = data.find(_SIZ, start + 1)
    return False


def _deep_png(data: bytes) -> bool:
    """By the bit depth in any header of a PNG (PNG specification, 11.2.1)."""
    return any(match[1][0] > 8 for match in re.finditer(rb"IHDR.{8}(.)", data, re.DOTALL))


def _deep_sgi(data: bytes) -> bool:
    """By the header's bytes per value."""
    return data[3] > 1


_LOOKS: Final[dict[str, tuple[Callable[[bytes], bool], ...]]] = {
    "AVIF": (_deep_avif,),
    "JPEG2000": (_deep_jpeg2000,),
    "SGI": (_deep_sgi,),
    # Wrap images of other formats.
    "CUR": (_deep_png,),
    "ICNS": (_deep_png, _deep_jpeg2000),
    "ICO": (_deep_png,),
}
"""Formats of which only the file itself says how deep it is."""
