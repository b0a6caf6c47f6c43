"""Whether what was read from an index can be of its file: an index may have been made to mislead."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.attributes import Spellings
from cellnet_sd.components.images.decode import Frame
from cellnet_sd.findings import Findings
from cellnet_sd.problems import Problem
from cellnet_sd.sources.allowance import allowed_in_all, no_array
from cellnet_sd.sources.locations import Ints, Layout, Located, Ragged, flags_of

_RUNS = ("compact", "contiguous", "single", "text")
_PIXELS = ("uint8", "float16", "float32", "float64", "float128")


def checked(located: Located, file_size: int) -> Located:
    """Return places, all of which lie in the file.

    Raises
    ------
    ValueError
        If one does not, or a code or a number leads nowhere.
    TypeError
        If a layout has a type that is none.
    """
    for layout in located.layouts:
        for _, stored in layout.attrs:
            stored.value()  # which fails if it has another size
        if not layout.reason and layout.storage not in ("group", "h5py"):
            _check_layout(layout, file_size)
    _check_objects(located, located.code, located.address, located.size, np.arange(len(located)), file_size)
    if (chunks := located.chunks) is not None:
        _check_runs(chunks.columns["address"], chunks.columns["size"], file_size)
        _require(chunks.columns["index"] >= 0)
    if located.members is not None:
        _check_members(located, located.members, file_size)
    return located


def are_pictures(findings: Findings, file_size: int) -> bool:
    """Whether a file of this size can hold pictures of all frames: memory is taken for them."""
    return all(_is_picture(frame, file_size) for frame in _frames(findings))


def _frames(findings: Findings) -> Iterator[Frame]:
    yield from findings.frames.values()
    for slide in findings.slides:
        yield from slide.frames.values()
        if slide.wsi_frame is not None:
            yield slide.wsi_frame


def _is_picture(frame: Frame, file_size: int) -> bool:
    sides = frame.height, frame.width, frame.channels
    is_decoded = frame.channels in (1, 3, 4) and frame.dtype in _PIXELS
    return is_decoded and min(sides) >= 0 and math.prod(sides) <= allowed_in_all(file_size)


def are_rows(findings: Findings, spellings: Spellings, defects: Iterable[Problem], n: int) -> bool:
    """Whether all rows that are named are among those of `n` cells."""
    named = [problem.row for problem in defects] + [slide.wsi_row or 0 for slide in findings.slides]
    odd = (cell for cells in spellings.exceptions.values() for cell in cells)
    return all(0 <= row < n for row in named) and all(
        cell.isdecimal() and len(cell) <= len(str(n)) and int(cell) < n for cell in odd
    )


def _check_layout(layout: Layout, file_size: int) -> None:
    dtype, shape = np.dtype(layout.dtype), layout.shape or ()
    is_number = not dtype.hasobject and dtype.itemsize > 0
    fits = (
        min(shape, default=0) >= 0
        and not no_array(shape, dtype.itemsize)
        and math.prod(shape) * dtype.itemsize <= allowed_in_all(file_size)
    )
    is_chunked = layout.storage in ("single", "chunked")
    has_chunks = len(layout.chunk) == len(shape) and all(n > 0 for n in layout.chunk)
    _require(is_number and fits and (has_chunks or not is_chunked))


def _check_objects(located: Located, code: NDArray[np.int32], address: Ints, size: Ints, cell: Ints, end: int) -> None:
    """Check objects, each in a cell; of those in several chunks, address and size count in the chunks of the cell."""
    _require((code >= -1) & (code < len(located.layouts)))
    storage = [layout.storage for layout in located.layouts]
    is_run = flags_of(code, (each in _RUNS for each in storage))
    _check_runs(address[is_run], size[is_run], end)
    several = flags_of(code, (each == "chunked" for each in storage))
    if several.any():
        _require(located.chunks is not None)
        assert located.chunks is not None
        counts = np.diff(located.chunks.offsets)[cell[several]]
        _check_runs(address[several], size[several], counts)


def _check_runs(address: NDArray[np.int64], size: NDArray[np.int64], end: int | NDArray[np.int64]) -> None:
    _require((address >= 0) & (size >= 0) & (size <= end))
    _require(address <= end - size)


def _check_members(located: Located, members: Ragged, file_size: int) -> None:
    columns, counts = members.columns, np.diff(members.offsets)
    cell = np.repeat(np.arange(len(located)), counts)
    own = np.arange(len(cell)) - members.offsets[cell]
    _require((columns["name"] >= 0) & (columns["name"] < len(located.names)))
    _require((columns["parent"] >= -1) & (columns["parent"] < own))
    _check_objects(located, columns["code"], columns["address"], columns["size"], cell, file_size)


def _require(condition: NDArray[np.bool_] | bool) -> None:  # noqa: FBT001
    if not np.all(condition):
        msg = "a place of an index is none in its file"
        raise ValueError(msg)
