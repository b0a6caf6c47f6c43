"""Encoded images (PNG, JPEG, TIFF, JPEG 2000, WebP, AVIF): their bytes to arrays, bounded in memory."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.errors import MissingDependencyError

MAX_PIXELS: Final = 8192 * 8192
"""The most pixels an encoded image may claim; checked on its header, before anything is decoded."""


class NotAnImageError(ValueError):
    """What is stored is no image; the message is the reason, to follow the name of file, cell and component."""


@dataclass(frozen=True, slots=True)
class _Format:
    """One image format: its name, Pillow's plugin and feature (None: always there), imagecodecs' decoder if any."""

    name: str
    plugin: str
    image_class: str
    feature: str | None = None
    decoder: str | None = None


_PNG: Final = _Format("PNG", "PngImagePlugin", "PngImageFile")
_JPEG: Final = _Format("JPEG", "JpegImagePlugin", "JpegImageFile", "jpg")
_TIFF: Final = _Format("TIFF", "TiffImagePlugin", "TiffImageFile")
_JPEG_2000: Final = _Format("JPEG 2000", "Jpeg2KImagePlugin", "Jpeg2KImageFile", "jpg_2000", "jpeg2k_decode")
_WEBP: Final = _Format("WebP", "WebPImagePlugin", "WebPImageFile", "webp", "webp_decode")
_AVIF: Final = _Format("AVIF", "AvifImagePlugin", "AvifImageFile", "avif", "avif_decode")

_MAGIC: Final = (
    (0, b"\x89PNG\r\n\x1a\n", _PNG),
    (0, b"\xff\xd8\xff", _JPEG),
    (0, b"II*\0", _TIFF),
    (0, b"MM\0*", _TIFF),
    (0, b"II+\0", _TIFF),
    (0, b"MM\0+", _TIFF),
    (0, b"\xff\x4f\xff\x51", _JPEG_2000),
    (4, b"jP  \r\n\x87\n", _JPEG_2000),
    (8, b"WEBP", _WEBP),
    (4, b"ftypavif", _AVIF),
    (4, b"ftypavis", _AVIF),
)

_CONVERT: Final = {
    "L": "L",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "F": "F",
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "LA": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
}
"""Pillow's modes that hold 8-bit grey or colour (or float), and the mode to read each in."""


def sniff(data: bytes) -> str | None:
    """Return the name of the format that `data` begins with, or None."""
    known = _format(data)
    return known.name if known else None


def outline_of_bytes(data: bytes) -> NDArray[Any]:
    """Return what `decode_bytes` does, as its header states it: zeros in place of the pixels, which take no memory.

    What Pillow was built without is decoded all the same, by imagecodecs.

    Raises
    ------
    NotAnImageError, MissingDependencyError
        As `decode_bytes`, but for damage behind the header.
    """
    return _opened(data, _outline)


def decode_bytes(data: bytes) -> NDArray[Any]:
    """Return an encoded image as an array (H, W) or (H, W, C), uint8 or float32.

    Raises
    ------
    NotAnImageError
        With the reason: unknown format, damaged or truncated bytes, too many pixels, several pages, or a pixel format
        that is neither 8-bit nor float.
    MissingDependencyError
        Where Pillow was built without the format and imagecodecs is not installed.
    """
    return _opened(data, _pixels)


def _opened(data: bytes, read: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """Return what `read` makes of an image that Pillow opens; of one that only imagecodecs knows, its pixels."""
    if (known := _format(data)) is None:
        msg = f"{len(data):,} bytes that are no PNG, JPEG, TIFF, JPEG 2000, WebP or AVIF image"
        raise NotAnImageError(msg)
    if known.feature is None or _pillow_has(known.feature):
        return _with_pillow(known, data, read)
    return _with_imagecodecs(known, data)


def _format(data: bytes) -> _Format | None:
    return next((known for at, magic, known in _MAGIC if data[at : at + len(magic)] == magic), None)


def _pillow_has(feature: str) -> bool:
    from PIL import features

    return bool(features.check(feature))


def _pillow_errors() -> tuple[type[Exception], ...]:
    """Return what Pillow's decoders raise on damaged bytes."""
    from PIL import Image

    broken = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, RuntimeError)
    return (*broken, AttributeError, struct.error, zlib.error, MemoryError, Image.DecompressionBombError)


def _with_pillow(known: _Format, data: bytes, read: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """Open with the format's own plugin, and read.

    `PIL.Image.open` would first apply `Image.MAX_IMAGE_PIXELS`, a global that is not ours to change, and warn.
    """
    image_class: Any = getattr(import_module(f"PIL.{known.plugin}"), known.image_class)
    try:
        with image_class(BytesIO(data)) as image:
            _check_size(*image.size)
            _check_pages(image)
            return read(image)
    except NotAnImageError:
        raise
    except _pillow_errors() as error:
        msg = f"damaged {known.name} bytes ({error})"
        raise NotAnImageError(msg) from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        msg = f"an encoded image of {height:,} by {width:,} px; at most {MAX_PIXELS:,} pixels are decoded"
        raise NotAnImageError(msg)


def _check_pages(image: Any) -> None:
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        msg = f"an encoded image of {pages} pages, not one"
        raise NotAnImageError(msg)


def _pixels(image: Any) -> NDArray[Any]:
    """Return an image of Pillow's as (H, W) or (H, W, C), of uint8 or float32."""
    mode = _mode(image)
    return np.asarray(image if mode == image.mode else image.convert(mode))


def _outline(image: Any) -> NDArray[Any]:
    """Return what `_pixels` does, with zeros in place of the pixels."""
    mode, (width, height) = _mode(image), image.size
    channels = {"RGB": (3,), "RGBA": (4,)}.get(mode, ())
    return np.broadcast_to(np.zeros((), np.float32 if mode == "F" else np.uint8), (height, width, *channels))


def _mode(image: Any) -> str:
    """Return the mode in which NumPy reads an image as 8-bit grey or colour, or float."""
    if image.mode not in _CONVERT:
        msg = f"an encoded image in Pillow's mode {image.mode!r}; 8-bit grey, RGB, RGBA and float are read"
        raise NotAnImageError(msg)
    if image.mode in {"P", "RGB", "L"} and "transparency" in image.info:
        return "RGBA"
    return _CONVERT[image.mode]


def _with_imagecodecs(known: _Format, data: bytes) -> NDArray[Any]:
    try:
        codecs = import_module("imagecodecs")
    except ImportError as error:
        msg = f"{known.name} images need imagecodecs, as Pillow was built without: pip install 'cellnet-sd[images]'."
        raise MissingDependencyError(msg) from error
    try:
        _check_size(*_header_size(known, data))
        return np.asarray(getattr(codecs, str(known.decoder))(data))
    except NotAnImageError:
        raise
    except (RuntimeError, ValueError, struct.error, MemoryError) as error:
        msg = f"damaged {known.name} bytes ({error})"
        raise NotAnImageError(msg) from error


def _header_size(known: _Format, data: bytes) -> tuple[int, int]:
    """Return width and height as the header states them, without decoding."""
    if known is _JPEG_2000:
        start = data.index(b"\xff\x4f\xff\x51") + 8
        x1, y1, x0, y0 = struct.unpack_from(">4I", data, start)
        return x1 - x0, y1 - y0
    if known is _AVIF:
        sizes = (struct.unpack_from(">2I", data, start + 8) for start in _occurrences(data, b"ispe"))
        return max(sizes, key=lambda size: size[0] * size[1])
    return _webp_size(data)


def _occurrences(data: bytes, part: bytes) -> list[int]:
    found, start = [], data.find(part)
    while start >= 0:
        found.append(start)
        start = data.find(part, start + 1)
    return found


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a WebP file, from whichever of its three headers it has."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<2H", data, 26)
    return width & 0x3FFF, height & 0x3FFF
