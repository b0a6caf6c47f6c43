"""Encoded images: hostile bytes, rare pixel formats, and formats that Pillow was built without."""

import io
import struct
import sys
import types
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cellnet_sd.components.images import encoded
from cellnet_sd.components.images.encoded import (
    MAX_PIXELS,
    NotAnImageError,
    decode_bytes,
    outline_of_bytes,
    sniff,
)
from cellnet_sd.errors import MissingDependencyError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
FORMATS = {"PNG": "PNG", "JPEG": "JPEG", "TIFF": "TIFF", "JPEG2000": "JPEG 2000", "WEBP": "WebP", "AVIF": "AVIF"}


def saved(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


BYTES = {name: saved(Image.fromarray(PIXELS), name) for name in FORMATS}


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size and whose data are a few zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def tiff_of_size(width: int, height: int) -> bytes:
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 100))
    entries = b"".join(struct.pack("<2H2I", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 108) + bytes(100) + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_formats_are_told_by_their_first_bytes(name):
    assert sniff(BYTES[name]) == FORMATS[name]
    np.testing.assert_array_equal(decode_bytes(BYTES[name]), np.asarray(Image.open(io.BytesIO(BYTES[name]))))


@pytest.mark.parametrize("make", [png_of_size, tiff_of_size])
@pytest.mark.parametrize("size", [(60_000, 60_000), (MAX_PIXELS, 2), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_by_their_header(make, size):
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(NotAnImageError, match="at most 67,108,864 pixels are decoded"):
        decode_bytes(make(*size))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_webp_bomb_is_refused_by_its_header():
    data = bytearray(BYTES["WEBP"])
    data[26:30] = struct.pack("<2H", 16383, 16383)
    with pytest.raises(NotAnImageError):
        decode_bytes(bytes(data))


@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_damaged_bytes_give_pixels_or_a_reason(name, data):
    damaged = bytearray(BYTES[name])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), max_size=4)):
        damaged[at] = value
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata before it refuses, or reads on.
        for read in (outline_of_bytes, decode_bytes):
            try:
                out = read(bytes(damaged))
            except NotAnImageError:
                continue
            assert out.dtype in (np.uint8, np.float32)
            assert out.ndim in (2, 3)


def test_palette_and_one_bit_images_are_read_in_their_colours():
    grey = Image.fromarray(PIXELS[..., 0])
    palette = Image.fromarray(PIXELS).quantize(16)
    np.testing.assert_array_equal(decode_bytes(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))
    clear = saved(palette, "PNG", transparency=3)
    assert decode_bytes(clear).shape == (12, 9, 4)
    bits = grey.point(lambda value: 255 * (value > 128)).convert("1")
    np.testing.assert_array_equal(decode_bytes(saved(bits, "PNG")), np.asarray(bits.convert("L")))
    alpha = Image.merge("LA", [grey, grey])
    np.testing.assert_array_equal(decode_bytes(saved(alpha, "PNG")), np.asarray(alpha.convert("RGBA")))


GREY = Image.fromarray(PIXELS[..., 0])
MODES = {
    "1": GREY.convert("1"),
    "L": GREY,
    "LA": Image.merge("LA", [GREY, GREY]),
    "P": Image.fromarray(PIXELS).quantize(16),
    "RGB": Image.fromarray(PIXELS),
    "RGBA": Image.fromarray(PIXELS).convert("RGBA"),
    "F": Image.fromarray(PIXELS[..., 0] / np.float32(255)),
    "YCbCr": Image.fromarray(PIXELS).convert("YCbCr"),
}


MODES_OF = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "JPEG": ["L", "RGB", "YCbCr"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "F", "YCbCr"],
    "JPEG2000": ["L", "LA", "RGB", "RGBA", "YCbCr"],
    "WEBP": ["RGB", "RGBA"],
    "AVIF": ["RGB", "RGBA"],
}
OPTIONS = [
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "L", {"transparency": 3}),
    ("PNG", "RGB", {"transparency": (3, 3, 3)}),
    ("TIFF", "RGB", {"tiffinfo": {274: 6}}),  # to be turned by a quarter
]


@pytest.mark.parametrize(
    ("name", "mode", "options"), [*((name, mode, {}) for name, modes in MODES_OF.items() for mode in modes), *OPTIONS]
)
def test_headers_tell_shape_and_dtype_without_decoding(monkeypatch, name, mode, options):
    data = saved(MODES[mode], name, **options)
    decoded = decode_bytes(data)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    outline = outline_of_bytes(data)
    assert (outline.shape, outline.dtype) == (decoded.shape, decoded.dtype)
    assert not any(outline.strides)


def test_damage_behind_the_header_shows_when_it_is_decoded():
    cut = BYTES["PNG"][: len(BYTES["PNG"]) // 2]
    assert outline_of_bytes(cut).shape == PIXELS.shape
    with pytest.raises(NotAnImageError):
        decode_bytes(cut)


def test_float_tiffs_keep_their_floats():
    floats = PIXELS[..., 0] / np.float32(255)
    np.testing.assert_array_equal(decode_bytes(saved(Image.fromarray(floats), "TIFF")), floats)


def test_sixteen_bits_cmyk_and_several_pages_are_refused():
    deep = saved(Image.fromarray(PIXELS[..., 0].astype("u2") * 256), "PNG")
    with pytest.raises(NotAnImageError, match="I;16"):
        decode_bytes(deep)
    with pytest.raises(NotAnImageError, match="CMYK"):
        decode_bytes(saved(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"))
    pages = saved(Image.fromarray(PIXELS), "TIFF", save_all=True, append_images=[Image.fromarray(PIXELS)])
    with pytest.raises(NotAnImageError, match="2 pages"):
        decode_bytes(pages)


# --- formats that Pillow was built without ---------------------------------------------------------------------------


@pytest.fixture
def no_pillow_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "_pillow_has", lambda feature: feature == "jpg")


@pytest.mark.parametrize("name", ["JPEG2000", "WEBP", "AVIF"])
@pytest.mark.usefixtures("no_pillow_plugins")
def test_without_pillow_support_the_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'cellnet-sd\[images\]'"):
        decode_bytes(BYTES[name])


@pytest.mark.parametrize("name", ["JPEG2000", "WEBP", "AVIF"])
@pytest.mark.usefixtures("no_pillow_plugins")
def test_imagecodecs_decodes_what_pillow_cannot(name, monkeypatch):
    pytest.importorskip("imagecodecs", reason="imagecodecs, of the extra `images`, is not installed")
    truth = np.asarray(Image.open(io.BytesIO(BYTES[name])))
    np.testing.assert_array_equal(decode_bytes(BYTES[name]), truth)
    with pytest.raises(NotAnImageError):
        decode_bytes(BYTES[name][:40])


def in_webp(kind: bytes, header: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + bytes(4) + header


HUGE = {
    "JPEG 2000": b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">4I", 60_000, 50_000, 0, 0),
    "AVIF": b"\0\0\0\x1cftypavif" + b"ispe\0\0\0\0" + struct.pack(">2I", 60_000, 50_000),
    "WebP": in_webp(b"VP8X", bytes(4) + (59_999).to_bytes(3, "little") + (49_999).to_bytes(3, "little")),
}


@pytest.mark.parametrize("name", sorted(HUGE))
@pytest.mark.usefixtures("no_pillow_plugins")
def test_imagecodecs_is_not_given_bombs(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", types.ModuleType("imagecodecs"))
    with pytest.raises(NotAnImageError, match="50,000 by 60,000 px"):
        decode_bytes(HUGE[name])


@pytest.mark.parametrize("options", [{"lossless": True}, {}, {"exif": b"Exif\0\0II*\0"}])
def test_the_three_webp_headers_state_the_size(options):
    data = saved(Image.fromarray(PIXELS), "WEBP", **options)
    assert encoded._webp_size(data) == (9, 12)
