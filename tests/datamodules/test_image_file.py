"""One file at a time: what Pillow reads rightly, turned the right way up, and what is refused with its name."""

import base64
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, features

from pdd_lightning.datamodules import decoding
from pdd_lightning.datamodules.decoding import load_images
from pdd_lightning.datamodules.image_file import read_image
from pdd_lightning.errors import DataError

TURNS = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    6: [Image.Transpose.ROTATE_270],
    7: [Image.Transpose.TRANSVERSE],
}
"""EXIF's number of an orientation, and what turns the picture upright (EXIF 2.3, 4.6.4)."""


def require(suffix: str) -> None:
    """Skip formats that this build of Pillow cannot write."""
    needed = {"webp": "webp", "avif": "avif", "jp2": "jpg_2000"}.get(suffix)
    if needed is not None and (needed not in features.get_supported_features() + features.get_supported()):
        pytest.skip(f"Pillow was built without {suffix}")


def quarters() -> Image.Image:
    """Four colours: every way to turn it looks different."""
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8, 8:], pixels[8:, :8], pixels[8:, 8:] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("suffix", ["avif", "jpg", "mpo", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", TURNS)
def test_images_stand_upright(suffix: str, orientation: int, tmp_path: Path) -> None:
    require(suffix)
    path, expected = tmp_path / f"a.{suffix}", quarters()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    expected.save(path, exif=exif, quality=95)
    for turn in TURNS[orientation]:
        expected = expected.transpose(turn)
    found = np.asarray(read_image(path, grey=None)).astype(int)
    assert np.abs(found - np.asarray(expected)).mean() < 12, "more than compression does"
    with Image.open(path) as file:
        assert np.array_equal(found, np.asarray(ImageOps.exif_transpose(file).convert("RGB")))


@pytest.mark.parametrize("grey", [False, True])
def test_an_orientation_in_xmp_counts_too(grey: bool, tmp_path: Path) -> None:
    require("webp")
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    quarters().save(tmp_path / "a.webp", lossless=True, xmp=xmp)
    expected = quarters().transpose(Image.Transpose.ROTATE_270).convert("L" if grey else "RGB")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.webp", grey=grey)), np.asarray(expected))


def test_exif_data_that_nobody_can_read_turn_nothing(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*" + b"\xff" * 7)
    quarters().save(tmp_path / "b.png", exif=b"nonsense")
    for name in ("a.png", "b.png"):
        images, _ = load_images([tmp_path / name])
        assert np.array_equal(images[0].permute(1, 2, 0), np.asarray(quarters()))


def test_what_was_decoded_under_other_rules_is_decoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    quarters().save(tmp_path / "a.png")
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "RULES", "opaque")
        load_images([tmp_path / "a.png"], cache_dir=str(cache))
    load_images([tmp_path / "a.png"], cache_dir=str(cache))
    assert len(list(cache.iterdir())) == 2


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(kind: int, channels: int, value: int = 3000) -> bytes:
    """A PNG of 8x8 pixels with 16 bits per value, of one of PNG's colour types."""
    rows = (b"\0" + struct.pack(">H", value) * 8 * channels) * 8
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(channels: int, planes: int = 1) -> bytes:
    """An uncompressed TIFF of 8x8 pixels with 16 bits per value, the channels side by side or in planes."""
    shorts, longs, at = 3, 4, 8 + 2 + 10 * 12 + 4
    extra = struct.pack("<HHH", 16, 16, 16) + struct.pack("<6I", *[at + 30 + 128 * k for k in range(3)], *[128] * 3)
    size = 128 * channels // planes
    tags = [
        (256, longs, 1, 8),
        (257, longs, 1, 8),
        (258, shorts, channels, at if channels > 1 else 16),
        (259, shorts, 1, 1),
        (262, shorts, 1, 2 if channels > 1 else 1),
        (273, longs, planes, at + 6 if planes > 1 else at + 30),
        (277, shorts, 1, channels),
        (278, longs, 1, 8),
        (279, longs, planes, at + 18 if planes > 1 else size),
        (284, shorts, 1, 2 if planes > 1 else 1),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    pixels = struct.pack("<H", 3000) * 64 * channels
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + extra + pixels


def ppm(kind: bytes, channels: int, largest: int) -> bytes:
    values = [largest // 20] * 64 * channels
    body = b" ".join(b"%d" % v for v in values) if kind in (b"P2", b"P3") else struct.pack(f">{len(values)}H", *values)
    return kind + b"\n8 8\n%d\n" % largest + body


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def jpeg2000(wrapped: bool) -> bytes:
    """Eight bits called twelve: the marker SIZ holds the precision of each channel."""
    data = bytearray(saved(quarters(), "JPEG2000", no_jp2=not wrapped))
    at = data.index(b"\xff\x4f\xff\x51") + 42
    data[at : at + 9 : 3] = b"\x0b" * 3
    return bytes(data)


def dds(bits: int, masks: tuple[int, int, int]) -> bytes:
    form = struct.pack("<II4sIIIII", 32, 0x40, b"\0" * 4, bits, *masks, 0)
    header = (
        struct.pack("<7I44x", 124, 0x100F, 8, 8, 8 * bits // 8, 0, 0) + form + struct.pack("<5I", 0x1000, 0, 0, 0, 0)
    )
    return b"DDS " + header + struct.pack("<I", 47 * (1 + (1 << 10) + (1 << 20))) * 64


def dds_floats() -> bytes:
    """BC6H, whose values are halves of floats."""
    form = struct.pack("<II4sIIIII", 32, 0x4, b"DX10", 0, 0, 0, 0, 0)
    header = struct.pack("<7I44x", 124, 0x1007, 8, 8, 0, 0, 0) + form + struct.pack("<5I", 0x1000, 0, 0, 0, 0)
    return b"DDS " + header + struct.pack("<5I", 95, 3, 0, 1, 0) + b"\0" * 64


def icon() -> bytes:
    body = png(6, 4)
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 8, 8, 0, 0, 1, 32, len(body), 22) + body


TEN_BITS = (
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0bQAA"
    "AAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAHgAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtp"
    "cGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAGgAAAABdpcG1hAAAAAAAAAAEAAQQB"
    "AoMEAAAAJm1kYXQSAAoIOAi/bwICBpAyEB7CYqTgABYAAACQNY48fqM="
)
"""An AVIF of 8x8 pixels with 10 bits per value, which Pillow reads but cannot write."""

DEEP: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PNG, grey": ("png", lambda: png(0, 1)),
    "PNG, grey and opaque": ("png", lambda: png(4, 2, 0xFFFF)),
    "PNG, colour": ("png", lambda: png(2, 3)),
    "PNG, colour and opaque": ("png", lambda: png(6, 4, 0xFFFF)),
    "TIFF, grey": ("tif", lambda: tiff(1)),
    "TIFF, colour": ("tif", lambda: tiff(3)),
    "TIFF, colour in planes": ("tif", lambda: tiff(3, 3)),
    "PGM": ("pgm", lambda: ppm(b"P5", 1, 65535)),
    "PGM, 12 bits": ("pgm", lambda: ppm(b"P5", 1, 4095)),
    "PPM": ("ppm", lambda: ppm(b"P6", 3, 65535)),
    "PPM, 12 bits": ("ppm", lambda: ppm(b"P6", 3, 4095)),
    "PPM as text": ("ppm", lambda: ppm(b"P3", 3, 4095)),
    "SGI, grey": ("sgi", lambda: saved(quarters().convert("L"), "SGI", bpc=2)),
    "SGI, colour": ("sgi", lambda: saved(quarters(), "SGI", bpc=2)),
    "JPEG 2000": ("jp2", lambda: jpeg2000(True)),
    "JPEG 2000, bare": ("j2k", lambda: jpeg2000(False)),
    "AVIF": ("avif", lambda: base64.b64decode(TEN_BITS)),
    "DDS of 10 bits": ("dds", lambda: dds(32, (0x3FF, 0x3FF << 10, 0x3FF << 20))),
    "DDS of floats": ("dds", dds_floats),
    "PNG in an icon": ("ico", icon),
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("grey", [None, True])
def test_more_than_8_bits_are_refused(kind: str, grey: bool | None, tmp_path: Path) -> None:
    """They would be cut down: 3000 of 65535 to 11, and pictures of 12 bits to almost black."""
    suffix, make = DEEP[kind]
    require("jp2" if suffix == "j2k" else suffix)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(make())
    with Image.open(path) as file:  # a file that Pillow reads without a word
        file.load()
    with pytest.raises(DataError, match=rf"a\.{suffix}: has more than 8 bits per value; convert it"):
        read_image(path, grey=grey)


SHALLOW: dict[str, Callable[[], bytes]] = {
    "bmp": lambda: saved(quarters(), "BMP"),
    "dds": lambda: dds(32, (0xFF, 0xFF00, 0xFF0000)),
    "gif": lambda: saved(quarters(), "GIF"),
    "ico": lambda: saved(quarters(), "ICO", sizes=[(16, 16)]),
    "jp2": lambda: saved(quarters(), "JPEG2000"),
    "pbm": lambda: saved(quarters().convert("1"), "PPM"),
    "pgm": lambda: b"P5\n8 8\n15\n" + b"\x07" * 64,
    "ppm": lambda: saved(quarters(), "PPM"),
    "sgi": lambda: saved(quarters(), "SGI"),
    "tga": lambda: saved(quarters(), "TGA"),
    "tif": lambda: saved(quarters(), "TIFF", compression="tiff_lzw"),
    "avif": lambda: saved(quarters(), "AVIF"),
}


@pytest.mark.parametrize("suffix", SHALLOW)
def test_8_bits_are_read(suffix: str, tmp_path: Path) -> None:
    require(suffix)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(SHALLOW[suffix]())
    with Image.open(path) as file:
        expected = np.asarray(file.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(path, grey=False)), expected)


def colours(alpha: int, mode: str = "RGBA") -> Image.Image:
    return Image.new("RGBA", (6, 6), (200, 0, 0, alpha)).convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "table"])
def test_transparent_images_are_refused(mode: str, tmp_path: Path) -> None:
    """Under what is transparent lies a colour that nobody has seen."""
    image = colours(100, "P" if mode == "table" else mode)
    if mode == "P":
        image.info["transparency"] = image.getpixel((0, 0))
    elif mode == "table":
        image.info["transparency"] = bytes([100] * 256)
    image.save(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"2\.png: is transparent in places; put it on a background"):
        read_image(tmp_path / "2.png", grey=None)


def test_an_opaque_image_may_say_so(tmp_path: Path) -> None:
    colours(255).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", grey=False).tobytes() == colours(255, "RGB").tobytes()


@pytest.mark.parametrize("grey", [None, False, True])
def test_a_palette_with_a_table_of_transparency_is_read_without_a_warning(grey: bool | None, tmp_path: Path) -> None:
    image = quarters().quantize(4)
    image.save(tmp_path / "a.png", transparency=bytes([255] * 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(tmp_path / "a.png", grey=grey)
    assert np.array_equal(np.asarray(found), np.asarray(image.convert("RGB").convert("L" if grey else "RGB")))


def test_warnings_of_pillow_do_not_reach_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not say which file they are about."""
    quarters().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_images([tmp_path / "a.png"])[0].shape == (1, 3, 16, 16)


def test_films_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"film\.gif: is a film of several pictures; keep one"):
        read_image(tmp_path / "film.gif", grey=None)


@pytest.mark.parametrize(
    "suffix", ["avif", "bmp", "gif", "ico", "jp2", "jpg", "png", "ppm", "sgi", "tga", "tif", "webp"]
)
def test_damage_of_any_kind_is_one_line_that_names_the_file(suffix: str, tmp_path: Path) -> None:
    require(suffix)
    whole, random = tmp_path / f"whole.{suffix}", np.random.default_rng(0)
    quarters().save(whole)
    data, path = whole.read_bytes(), tmp_path / f"damaged.{suffix}"
    lines = []
    for trial in range(20):
        damaged = bytearray(data[: int(random.integers(1, len(data)))] if trial % 2 else data)
        for at in random.integers(0, len(damaged), 8):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        try:
            load_images([path], image_size=8)
        except DataError as error:
            lines.append(str(error))
    assert lines
    assert all(str(path) in line for line in lines)


@pytest.mark.parametrize("error", [RuntimeError("no luck"), MemoryError(), AssertionError(), KeyError("x")])
def test_no_exception_of_a_decoder_escapes(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    quarters().save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "convert", fail)
    reason = str(error) or type(error).__name__
    with pytest.raises(DataError, match=rf"a\.png: cannot be read as an image \({reason}\)"):
        read_image(tmp_path / "a.png", grey=None)


def grey_levels() -> NDArray[np.uint8]:
    return np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGB", "CMYK"])
def test_grey_images_are_found(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(grey_levels()).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    images, grey = load_images([path, path], grey=None)
    assert (tuple(images.shape), grey) == ((2, 1, 8, 8), 2)
    assert torch.equal(images, load_images([path, path], grey=True)[0])


@pytest.mark.parametrize("image_size", [None, 3])
@pytest.mark.parametrize("at", [0, 7])
def test_one_coloured_pixel_makes_all_colour(at: int, image_size: int | None, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for path in files:
        Image.fromarray(grey_levels()).save(path)
    pixels = grey_levels()[:, :, None].repeat(3, 2)
    pixels[at, at, 0] ^= 1
    Image.fromarray(pixels).save(files[1])
    images, grey = load_images(files, image_size=image_size, grey=None)
    assert grey == 2
    assert torch.equal(images, load_images(files, image_size=image_size, grey=False)[0])


def test_what_was_found_out_is_kept_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(grey_levels()).save(tmp_path / "a.png")
    first = load_images([tmp_path / "a.png"], grey=None, cache_dir=str(tmp_path / "cache"))
    monkeypatch.setattr(Image, "open", None)
    again = load_images([tmp_path / "a.png"], grey=None, cache_dir=str(tmp_path / "cache"))
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1] == 1
