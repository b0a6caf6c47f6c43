"""Every spelling of a patch, against the pixels that were stored (numpy and Pillow)."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cellnet_sd.components.images.decode import Frame, decode, detect_frame, encode
from cellnet_sd.errors import CellNetWarning, LayoutError, MalformedCellError
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problems
from cellnet_sd.sources.base import Raw, Unreadable

CELL = Component.CELL_PATCH
RGB8 = Frame(6, 8, 3, "uint8", ("(H, W, C) arrays",))


def problems(policy: Any = "raise") -> Problems:
    return Problems("toy.h5", lambda row: f"Cell_{row}", policy)


def pixels(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png(array: np.ndarray, image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, image_format)
    return buffer.getvalue()


def vlen(element: Any, shape: tuple[int, ...] = (1,)) -> np.ndarray:
    out = np.empty(shape, dtype=object)
    out[(0,) * len(shape)] = element
    return out


SPELLINGS = {
    "(H, W, C)": lambda a: a,
    "(C, H, W)": lambda a: np.moveaxis(a, -1, 0),
    "(H, W)": lambda a: a[..., 0],
    "float32": lambda a: (a / 255).astype("f4"),
    "float16": lambda a: (a / 255).astype("f2"),
    "big-endian float64": lambda a: (a / 255).astype(">f8"),
    "float (C, H, W)": lambda a: np.moveaxis(a / 255, -1, 0),
    "uint8 bytes": lambda a: np.frombuffer(png(a), np.uint8),
    "TIFF": lambda a: np.frombuffer(png(a, "TIFF"), np.uint8),
    "opaque": lambda a: np.array(np.void(png(a))),
    "opaque (1,)": lambda a: np.array([np.void(png(a))]),
    "fixed string": lambda a: np.array(png(a) + b"\0\0"),
    "vlen bytes": lambda a: vlen(png(a)),
    "vlen array": lambda a: vlen(np.frombuffer(png(a), np.uint8)),
    "vlen scalar": lambda a: vlen(png(a), ()),
}


def restored(spelling: str, array: np.ndarray) -> np.ndarray:
    """Return what must be read of `array` in `spelling`, by numpy alone."""
    dtypes = {"float32": "f4", "float16": "f2", "big-endian float64": "f8", "float (C, H, W)": "f8"}
    return (array / 255).astype(dtypes[spelling]) if spelling in dtypes else array


@given(
    spelling=st.sampled_from(sorted(SPELLINGS)),
    height=st.integers(5, 20),
    width=st.integers(5, 20),
    channels=st.sampled_from([1, 3, 4]),
    n=st.integers(1, 4),
)
def test_every_spelling_gives_the_stored_pixels(spelling, height, width, channels, n):
    channels = 1 if spelling == "(H, W)" else channels
    truth = [pixels(height, width, channels, seed) for seed in range(n)]
    raws = [Raw(SPELLINGS[spelling](array)) for array in truth]
    frame = detect_frame(raws, CELL, "toy.h5")
    out, present = decode(raws, range(n), frame, CELL, problems())
    want = np.stack([restored(spelling, array) for array in truth])
    np.testing.assert_array_equal(out, want)
    assert out.dtype == want.dtype == np.dtype(frame.dtype)
    assert out.dtype.isnative
    assert present.all()
    assert frame.shape == (height, width, channels)
    assert not frame.padded
    assert not frame.widened


@pytest.mark.parametrize("image_format", ["JPEG", "JPEG2000", "WEBP", "AVIF"])
def test_lossy_formats_are_read_as_pillow_reads_them(image_format):
    data = png(pixels(16, 24, 3), image_format)
    raws = [Raw(np.frombuffer(data, np.uint8))]
    frame = detect_frame(raws, CELL, "toy.h5")
    out, _ = decode(raws, [0], frame, CELL, problems())
    np.testing.assert_array_equal(out[0], np.asarray(Image.open(io.BytesIO(data))))


def test_describe_says_what_was_taken():
    frame = detect_frame([Raw(pixels(64, 64, 3)), Raw(pixels(60, 64, 1)[..., 0])], CELL, "toy.h5")
    assert frame.describe() == (
        "64 by 64 px RGB, uint8, (H, W) arrays and (H, W, C) arrays, smaller ones padded with white, "
        "those of fewer channels widened to RGB"
    )


# --- mixed files -----------------------------------------------------------------------------------------------------


@given(h=st.integers(5, 12), w=st.integers(5, 12), is_float=st.booleans())
def test_padding_keeps_the_anchor_and_is_white(h, w, is_float):
    def scaled(array: np.ndarray) -> np.ndarray:
        return array / 255 if is_float else array

    small, large = scaled(pixels(h, w, 3) // 2), scaled(pixels(13, 12, 3))
    frame = detect_frame([Raw(small), Raw(large)], CELL, "toy.h5")
    out, _ = decode([Raw(small)], [0], frame, CELL, problems())
    assert frame.padded
    np.testing.assert_array_equal(out[0, 6, 6], small[h // 2, w // 2])
    np.testing.assert_array_equal(out[0, 6 - h // 2 : 6 - h // 2 + h, 6 - w // 2 : 6 - w // 2 + w], small)
    white = 1.0 if is_float else 255
    assert (out[0] == white).all(axis=-1).sum() == 13 * 12 - h * w


def test_a_smaller_wsi_keeps_its_corner():
    raws = [Raw(pixels(9, 9, 3)), Raw(pixels(5, 7, 3) // 2)]
    frame = detect_frame(raws, Component.WSI_PATCH, "toy.h5")
    out, _ = decode(raws, [0, 1], frame, Component.WSI_PATCH, problems())
    np.testing.assert_array_equal(out[1, :5, :7], raws[1].value)
    assert (out[1, 5:] == 255).all()


def test_grey_becomes_rgb_and_rgb_becomes_opaque_rgba():
    grey, rgb, rgba = pixels(5, 5, 1), pixels(5, 5, 3), pixels(5, 5, 4)
    raws = [Raw(grey[..., 0]), Raw(rgb), Raw(rgba)]
    frame = detect_frame(raws, CELL, "toy.h5")
    out, _ = decode(raws, range(3), frame, CELL, problems())
    np.testing.assert_array_equal(out[0, ..., :3], np.repeat(grey, 3, axis=-1))
    np.testing.assert_array_equal(out[1, ..., :3], rgb)
    assert (out[:2, ..., 3] == 255).all()
    np.testing.assert_array_equal(out[2], rgba)


def test_float_dtypes_are_widened_without_loss():
    a, b = (pixels(5, 5, 3) / 255).astype("f4"), pixels(5, 5, 3) / 255
    frame = detect_frame([Raw(a), Raw(b)], CELL, "toy.h5")
    out, _ = decode([Raw(a), Raw(b)], range(2), frame, CELL, problems())
    assert frame.dtype == "float64"
    np.testing.assert_array_equal(out[0], a)
    np.testing.assert_array_equal(out[1], b)


def test_uint8_and_float_do_not_mix():
    with pytest.raises(LayoutError, match=r"toy\.h5: images/cell_patch is stored as float64 and uint8"):
        detect_frame([Raw(pixels(5, 5, 3)), Raw(pixels(5, 5, 3) / 255)], CELL, "toy.h5")


def test_what_the_sample_did_not_show_is_warned_of():
    with pytest.warns(CellNetWarning, match="smaller than 6 by 8 px RGB"):
        decode([Raw(pixels(5, 5, 3))], [0], RGB8, CELL, problems())
    with pytest.warns(CellNetWarning, match="grey; they are widened to RGB"):
        decode([Raw(pixels(6, 8, 1)[..., 0])], [0], RGB8, CELL, problems())


# --- ambiguous shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 9, 3), (1, 9, 4), (3, 3, 3), (1, 9, 1)])
def test_an_ambiguous_shape_alone_is_refused(shape):
    with pytest.raises(LayoutError) as error:
        detect_frame([Raw(np.zeros(shape, np.uint8))], CELL, "toy.h5")
    assert str(shape) in str(error.value)
    assert "toy.h5" in str(error.value)


def test_an_ambiguous_shape_follows_the_rest_of_the_file():
    strip = pixels(3, 9, 3)
    first, last = Raw(np.zeros((3, 9, 8), np.uint8)), Raw(np.zeros((9, 9, 3), np.uint8))
    frame = detect_frame([Raw(strip), first], CELL, "toy.h5")
    np.testing.assert_array_equal(
        decode([Raw(strip)], [0], frame, CELL, problems())[0][0, :, 3:6], np.moveaxis(strip, 0, -1)
    )
    frame = detect_frame([Raw(strip), last], CELL, "toy.h5")
    np.testing.assert_array_equal(decode([Raw(strip)], [0], frame, CELL, problems())[0][0, 3:6], strip)
    with pytest.raises(LayoutError, match="as well as"):
        detect_frame([Raw(strip), first, last], CELL, "toy.h5")


@pytest.mark.parametrize(("shape", "size"), [((4, 4, 3), (4, 4, 3)), ((4, 3, 3), (3, 3, 4)), ((1, 1, 1), (1, 1, 1))])
def test_where_one_reading_is_square_it_is_taken(shape, size):
    assert detect_frame([Raw(np.zeros(shape, np.uint8))], CELL, "toy.h5").shape == size


# --- absent and malformed --------------------------------------------------------------------------------------------


def test_absent_patches_are_white_and_not_present():
    out, present = decode([None, Raw(pixels(6, 8, 3))], [4, 5], RGB8, CELL, problems())
    assert present.tolist() == [False, True]
    assert (out[0] == 255).all()
    assert detect_frame([None, None], CELL, "toy.h5") is None


MALFORMED = {
    "truncated file": (Unreadable("truncated file"), "truncated file"),
    "group": (Raw(members={"data": Raw(np.zeros(3))}), "group"),
    "bool": (Raw(np.zeros((6, 8, 3), bool)), "bool pixels"),
    "uint16": (Raw(np.zeros((6, 8, 3), "u2")), "uint16 pixels"),
    "int8": (Raw(np.zeros((6, 8, 3), "i1")), "int8 pixels"),
    "too many channels": (Raw(np.zeros((6, 8, 5), "u1")), r"shape \(6, 8, 5\)"),
    "4-D": (Raw(np.zeros((1, 6, 8, 3), "u1")), r"shape \(1, 6, 8, 3\)"),
    "empty": (Raw(np.zeros((0, 8, 3), "u1")), r"shape \(0, 8, 3\)"),
    "empty bytes": (Raw(np.zeros(0, "u1")), "0 bytes"),
    "float beyond 1": (Raw(np.full((6, 8, 3), 1.5)), "outside 0-1"),
    "float below 0": (Raw(np.full((6, 8, 3), -0.1)), "outside 0-1"),
    "NaN": (Raw(np.full((6, 8, 3), np.nan)), "outside 0-1"),
    "float in a uint8 file": (Raw(np.zeros((6, 8, 3))), "float64 pixels where those of this file are uint8"),
    "larger": (Raw(np.zeros((7, 8, 3), "u1")), "7 by 8 px RGB is larger than the 6 by 8 px RGB"),
    "more channels": (Raw(np.zeros((6, 8, 4), "u1")), "6 by 8 px RGBA is larger than the 6 by 8 px RGB"),
    "not an image": (Raw(np.arange(40, dtype="u1")), "40 bytes that are no PNG"),
    "truncated PNG": (Raw(np.frombuffer(png(pixels(6, 8, 3))[:60], np.uint8)), "damaged PNG bytes"),
    "compound": (Raw(np.zeros((), [("a", "u1"), ("b", "f4")])), "pixels of shape"),
    "text": (Raw(vlen("image.png")), "object pixels"),
    "two bytes values": (Raw(np.array([b"a", b"b"], dtype=object)), "object pixels"),
}


@pytest.mark.parametrize("case", sorted(MALFORMED))
def test_malformed_patches_are_reported_with_their_reason(case):
    raw, reason = MALFORMED[case]
    with pytest.raises(MalformedCellError, match=reason) as error:
        decode([raw], [7], RGB8, CELL, problems())
    assert "toy.h5: cell 'Cell_7', images/cell_patch" in str(error.value)


@pytest.mark.parametrize("case", sorted(MALFORMED))
def test_malformed_patches_are_left_white_when_skipped(case):
    good = pixels(6, 8, 3)
    found = problems("skip")
    out, present = decode([Raw(good), MALFORMED[case][0], Raw(good)], [3, 7, 9], RGB8, CELL, found)
    assert present.tolist() == [True, False, True]
    assert found.rows.tolist() == [7]
    assert (out[1] == 255).all()
    np.testing.assert_array_equal(out[::2], np.stack([good, good]))


def test_a_sample_passes_over_malformed_patches_unless_all_are():
    bad = Raw(np.zeros((6, 8), bool))
    assert detect_frame([bad, Raw(pixels(6, 8, 3)), None], CELL, "toy.h5") == RGB8
    with pytest.raises(LayoutError, match="no images/cell_patch of the sample can be read as an image: bool pixels"):
        detect_frame([bad, None], CELL, "toy.h5")


def test_a_damaged_patch_does_not_tell_the_size_of_the_others_by_its_header():
    whole, larger = png(pixels(6, 8, 3)), png(pixels(60, 80, 3))
    sample = [Raw(np.frombuffer(data, np.uint8)) for data in (whole, larger[: len(larger) // 2])]
    assert detect_frame(sample, CELL, "toy.h5").shape == (6, 8, 3)
    assert detect_frame(sample, Component.WSI_PATCH, "toy.h5").shape == (60, 80, 3)


def test_an_ambiguous_patch_in_a_file_of_both_orders_is_malformed():
    frame = Frame(6, 8, 3, "uint8", ("(C, H, W) arrays", "(H, W, C) arrays"))
    with pytest.raises(MalformedCellError, match="as well as"):
        decode([Raw(np.zeros((3, 6, 3), "u1"))], [0], frame, CELL, problems())


# --- back ------------------------------------------------------------------------------------------------------------


@given(st.integers(5, 12), st.integers(5, 12), st.sampled_from([1, 3, 4]), st.sampled_from(["u1", "f2", "f4", "f8"]))
def test_encode_then_decode_is_the_identity_and_stable(height, width, channels, dtype):
    patch = pixels(height, width, channels)
    patch = patch if dtype == "u1" else (patch / 255).astype(dtype)
    stored = encode(patch)
    assert stored.shape == ((height, width) if channels == 1 else (height, width, channels))
    assert stored.dtype == patch.dtype
    assert stored.flags.c_contiguous
    frame = detect_frame([Raw(stored)], CELL, "toy.h5")
    out, _ = decode([Raw(stored)], [0], frame, CELL, problems())
    np.testing.assert_array_equal(out[0], patch)
    np.testing.assert_array_equal(encode(out[0]), stored)


@pytest.mark.parametrize(
    "patch",
    [np.zeros((5, 5), "u1"), np.zeros((5, 5, 2), "u1"), np.zeros((3, 9, 3), "u1"), np.zeros((3, 9, 9), "u1")],
)
def test_encode_refuses_what_could_not_be_read_back(patch):
    with pytest.raises(ValueError, match="shape"):
        encode(patch)


@pytest.mark.parametrize("patch", [np.zeros((5, 5, 3), "i4"), np.full((5, 5, 3), 2.0)])
def test_encode_refuses_other_pixels(patch):
    with pytest.raises(ValueError, match="0-1"):
        encode(patch)
