"""Patches: every stored spelling of one patch to an array (H, W, C), channels last, and back.

A patch is stored as an array, uint8 or float in 0-1, of shape (H, W, 3), (H, W, 4), (H, W), (3, H, W), (4, H, W),
(1, H, W) or (H, W, 1); or as the bytes of an encoded image, in a one-dimensional uint8, opaque or variable-length
dataset. `Frame` is what the patches of one component have in common; `detect_frame` finds it on a sample.

The canonical stored form, which `encode` gives and `write` emits: (H, W, C) for C = 3 or 4, and (H, W) for grey, which
no other reading fits.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.images.encoded import NotAnImageError
from cellnet_sd.components.images.spelling import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    GREY,
    Reading,
    checked,
    outline_patch,
    read_patch,
    with_axes,
)
from cellnet_sd.errors import LayoutError
from cellnet_sd.layout import Component
from cellnet_sd.notes import warn
from cellnet_sd.problems import Problem, Problems
from cellnet_sd.sources.base import Fetches, FetchesPlain, Raw, Unreadable
from cellnet_sd.sources.facts import FormColumn, StoredForm

Stored = Raw | Unreadable | None
"""One fetched value: as stored, why it cannot be read, or None where the cell lacks it."""

_COLOURS: Final = {1: "grey", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What the patches of one component have in common.

    Parameters
    ----------
    height, width, channels
        Of every decoded patch, in pixels; 1 channel is grey, 3 RGB, 4 RGBA.
    dtype
        `"uint8"`, or the float dtype stored (the widest, where they differ).
    stored
        The spellings met, in words: `"(H, W, C) arrays"`, `"PNG bytes"`, ...
    padded
        Whether smaller patches were met: they are padded with white to this size.
    widened
        Whether patches of fewer channels were met: grey is repeated, RGB is given an opaque alpha.
    """

    height: int
    width: int
    channels: int
    dtype: str
    stored: tuple[str, ...]
    padded: bool = False
    widened: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def white(self) -> float:
        """The value of white, and of an opaque alpha: 255 or 1.0."""
        return _white(np.dtype(self.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of one decoded patch."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def describe(self) -> str:
        """Return what was taken, in plain words."""
        said = [f"{self.height} by {self.width} px {_COLOURS[self.channels]}", self.dtype, " and ".join(self.stored)]
        if self.padded:
            said.append("smaller ones padded with white")
        if self.widened:
            said.append(f"those of fewer channels widened to {_COLOURS[self.channels]}")
        return ", ".join(said)


# --- the frame -------------------------------------------------------------------------------------------------------


def detect_frame(raws: Iterable[Stored], component: Component, file: str) -> Frame | None:
    """Find what the patches of a sample have in common.

    Parameters
    ----------
    raws
        The sample, as fetched. None is kept: a WSI image may be hundreds of megabytes.
    component, file
        For messages.

    Returns
    -------
    The frame: the largest height, width and channels met. `None` where no cell of the sample has this component.
    Patches of the sample that cannot be read are passed over: `decode` reports them. WSI images are not decoded where
    their header tells their size: there are few, and each has a frame of its own.

    Raises
    ------
    LayoutError
        Where uint8 and float are mixed, where a shape fits both (H, W, C) and (C, H, W), or where the sample holds
        values but none can be read.
    MissingDependencyError
        Where an image format needs a package that is not installed.
    """
    reads, reasons = _read_sample(raws, component)
    if not reads:
        if not reasons:
            return None
        msg = f"{file}: no {component} of the sample can be read as an image: {reasons[0]}. Pass images=False."
        raise LayoutError(msg)
    reads = _settle_axes(reads, component, file)
    shapes = np.array([read.array.shape for read in reads])
    height, width, channels = shapes.max(axis=0).tolist()
    return Frame(
        height=height,
        width=width,
        channels=channels,
        dtype=_common_dtype({read.array.dtype for read in reads}, component, file),
        stored=tuple(sorted({read.stored for read in reads})),
        padded=bool((shapes[:, :2] < (height, width)).any()),
        widened=bool((shapes[:, 2] < channels).any()),
    )


def misfits(column: FormColumn, rows: NDArray[np.int64], frame: Frame, component: Component) -> Iterator[Problem]:
    """Yield the cells at `rows` whose patch cannot be an image of `frame`, as far as its stored form tells."""
    wrong = {code: reason for code, form in enumerate(column.forms) if (reason := _misfit(form, frame)) is not None}
    codes = column.codes[rows]
    for at in np.flatnonzero(np.isin(codes, list(wrong))):
        yield Problem(int(rows[at]), component, wrong[int(codes[at])])


def _misfit(form: StoredForm, frame: Frame) -> str | None:
    if form.kind == "group":
        return "a group where an image is expected"
    if form.kind != "dataset" or form.shape is None or len(form.shape) < 2:
        return None  # encoded bytes show their size only when they are read
    channels = {form.shape[0], form.shape[-1]} & {1, 3, 4}
    if len(form.shape) > 3 or (len(form.shape) == 3 and not channels):
        return f"shape {form.shape} is no image"
    if len(form.shape) == 2 and (form.shape[0] > frame.height or form.shape[1] > frame.width):
        return f"shape {form.shape} is larger than the other patches, {frame.height} by {frame.width} px"
    return None


def _read_sample(raws: Iterable[Stored], component: Component) -> tuple[list[Reading], list[str]]:
    """Return the outlines of the patches that can be read, and the reasons for the others."""
    read = outline_patch if component is Component.WSI_PATCH else read_patch
    reads: list[Reading] = []
    reasons: list[str] = []
    for raw in raws:
        if raw is None:
            continue
        try:
            reads.append(read(raw).outline())
        except NotAnImageError as error:
            reasons.append(str(error))
    return reads, reasons


def _settle_axes(reads: list[Reading], component: Component, file: str) -> list[Reading]:
    """Resolve the shapes that fit two readings by those of the sample that fit one only."""
    orders = {read.stored for read in reads if not read.ambiguous} & {CHANNELS_LAST, CHANNELS_FIRST}
    unclear = [read for read in reads if read.ambiguous]
    if unclear and len(orders) != 1:
        msg = (
            f"{file}: {component} of shape {unclear[0].array.shape} can be (H, W, C) as well as (C, H, W). "
            "Store it channels last and larger than four pixels, or pass images=False."
        )
        raise LayoutError(msg)
    return [read.in_order(next(iter(orders))) if read.ambiguous else read for read in reads]


def _common_dtype(dtypes: set[np.dtype[Any]], component: Component, file: str) -> str:
    if len({dtype.kind for dtype in dtypes}) > 1:
        names = " and ".join(sorted(str(dtype) for dtype in dtypes))
        msg = f"{file}: {component} is stored as {names}; one of uint8 and float is expected. Pass images=False."
        raise LayoutError(msg)
    return str(np.result_type(*dtypes))


# --- a batch ---------------------------------------------------------------------------------------------------------


def read(
    source: Fetches, rows: NDArray[np.int64], frame: Frame, component: Component, problems: Problems
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return a batch of patches of a source; see `decode`."""
    out = np.empty((len(rows), *frame.shape), frame.dtype)
    return out, read_into(out, source, rows, frame, component, problems)


def read_into(
    out: NDArray[Any],
    source: Fetches,
    rows: NDArray[np.int64],
    frame: Frame,
    component: Component,
    problems: Problems,
) -> NDArray[np.bool_]:
    """Fill `out`, which is contiguous, with the patches that `read` returns; return which rows hold one.

    Those that are stored as they are returned are decoded by the source, many at once.
    """
    plain = _plain_shape(frame)
    if plain is None or not isinstance(source, FetchesPlain):
        return _decode_into(out, source.fetch(component, rows), rows, frame, component, problems)
    present = source.fetch_arrays(component, rows, plain, out)
    rest = np.flatnonzero(~present)
    if len(rest):
        raws = source.fetch(component, rows[rest])
        out[rest], present[rest] = decode(raws, rows[rest], frame, component, problems)
    return present


def _plain_shape(frame: Frame) -> tuple[int, ...] | None:
    """Return the stored shape of patches whose bytes are those of the decoded ones; `None` if there is none."""
    if frame.dtype != "uint8":
        return None
    if frame.stored == (CHANNELS_LAST,):
        return frame.shape
    return frame.shape[:2] if frame.stored == (GREY,) and frame.channels == 1 else None


def decode(
    raws: Sequence[Stored],
    rows: Sequence[int] | NDArray[np.int64],
    frame: Frame,
    component: Component,
    problems: Problems,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Decode a batch of patches into one array.

    Smaller cell and tissue patches are padded with white so that pixel h // 2 stays the anchor; WSI images so that
    their corner stays. Grey is repeated into RGB, RGB is given an opaque alpha. What the frame does not say is warned
    of.

    Parameters
    ----------
    raws
        The values as fetched.
    rows
        Their rows, for reports.
    frame
        What `detect_frame` found for this component.
    component
        Which level of image.
    problems
        Takes what is malformed.

    Returns
    -------
    Array (n, H, W, C) of the frame's dtype, white where there is no patch; and a boolean array (n,): which rows hold a
    patch. Absent and malformed ones do not.

    Raises
    ------
    MalformedCellError
        Under `on_error="raise"`, at the first malformed patch.
    MissingDependencyError
        Where an image format needs a package that is not installed.
    """
    out = np.empty((len(raws), *frame.shape), dtype=frame.dtype)
    return out, _decode_into(out, raws, rows, frame, component, problems)


def _decode_into(
    out: NDArray[Any],
    raws: Sequence[Stored],
    rows: Sequence[int] | NDArray[np.int64],
    frame: Frame,
    component: Component,
    problems: Problems,
) -> NDArray[np.bool_]:
    present = np.zeros(len(raws), dtype=bool)
    plain = frame.dtype == "uint8" and frame.stored == (CHANNELS_LAST,)
    for i, raw in enumerate(raws):
        value = raw.value if isinstance(raw, Raw) else None
        if plain and value is not None and value.dtype == np.uint8 and value.shape == frame.shape:
            out[i] = value
            present[i] = True
        elif raw is None:
            out[i] = frame.white
        else:
            present[i] = _decode_one(raw, int(rows[i]), out[i], (frame, component, problems))
    return present


def _decode_one(raw: Raw | Unreadable, row: int, out: NDArray[Any], context: tuple[Frame, Component, Problems]) -> bool:
    """Decode one patch into `out` (H, W, C); report it and return False where that cannot be done."""
    frame, component, problems = context
    try:
        patch = _fit(read_patch(raw), frame)
    except NotAnImageError as error:
        problems.report(row, component, str(error))
        out[...] = frame.white
        return False
    _warn_unsaid(patch, frame, component, problems.file)
    _place(patch, out, frame, anchored=component is not Component.WSI_PATCH)
    return True


def _fit(read: Reading, frame: Frame) -> NDArray[Any]:
    """Return the patch if it fits the frame, without a change."""
    if read.ambiguous:
        read = _by_frame(read, frame)
    patch = read.array
    if any(side > most for side, most in zip(patch.shape, frame.shape, strict=True)):
        msg = f"a patch of {_size(patch.shape)} is larger than the {_size(frame.shape)} of this file"
        raise NotAnImageError(msg)
    if patch.dtype.kind != np.dtype(frame.dtype).kind or not np.can_cast(patch.dtype, frame.dtype):
        msg = f"{patch.dtype} pixels where those of this file are {frame.dtype}"
        raise NotAnImageError(msg)
    return patch


def _by_frame(read: Reading, frame: Frame) -> Reading:
    """Resolve a shape that fits two readings by the axis order of the file."""
    orders = {CHANNELS_LAST, CHANNELS_FIRST} & set(frame.stored)
    if len(orders) != 1:
        msg = f"shape {read.array.shape} can be (H, W, C) as well as (C, H, W)"
        raise NotAnImageError(msg)
    return read.in_order(orders.pop())


def _size(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{height} by {width} px {_COLOURS[channels]}"


def _warn_unsaid(patch: NDArray[Any], frame: Frame, component: Component, file: str) -> None:
    """Warn of padding and widening that the frame, found on a sample, does not know of."""
    height, width, channels = patch.shape
    if not frame.padded and (height, width) != (frame.height, frame.width):
        msg = f"{file}: some {component} are smaller than {_size(frame.shape)}; they are padded with white."
        warn(msg, stacklevel=4)
    if not frame.widened and channels != frame.channels:
        msg = f"{file}: some {component} are {_COLOURS[channels]}; they are widened to {_COLOURS[frame.channels]}."
        warn(msg, stacklevel=4)


def _place(patch: NDArray[Any], out: NDArray[Any], frame: Frame, *, anchored: bool) -> None:
    """Write `patch` into `out` (H, W, C): padded, widened."""
    height, width, channels = patch.shape
    top = frame.height // 2 - height // 2 if anchored else 0
    left = frame.width // 2 - width // 2 if anchored else 0
    if (height, width) != (frame.height, frame.width):
        out[...] = frame.white
    inner = out[top : top + height, left : left + width]
    colours = min(frame.channels, 3)
    inner[..., :colours] = patch[..., :colours]
    if frame.channels == 4:
        inner[..., 3] = patch[..., 3] if channels == 4 else frame.white


def _white(dtype: np.dtype[Any]) -> float:
    return 255 if dtype.kind == "u" else 1.0


# --- back ------------------------------------------------------------------------------------------------------------


def encode(patch: NDArray[Any]) -> NDArray[Any]:
    """Return one patch in the canonical stored form.

    Parameters
    ----------
    patch
        Array (H, W, C), uint8 or float, C = 1, 3 or 4.

    Returns
    -------
    The same pixels, C-contiguous: (H, W, C), or (H, W) for grey.

    Raises
    ------
    ValueError
        For any other array, and for the few of at most 4 pixels a side that could not be read back for sure.
    """
    reading = with_axes(checked(patch)) if patch.ndim == 3 else None
    if reading is None or reading.ambiguous or reading.stored != CHANNELS_LAST:
        msg = f"an array of shape {patch.shape} is no (H, W, C) patch, or cannot be told from a (C, H, W) one"
        raise ValueError(msg)
    return np.ascontiguousarray(patch[:, :, 0] if patch.shape[2] == 1 else patch)
