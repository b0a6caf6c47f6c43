"""From the sparse matrices of many cells to links, all at once, where each is stored in the most usual way.

What is unusual or malformed is left to `decoding`, which takes one cell at a time and says what is wrong with it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.ccc.context import CCCContext
from cellnet_sd.components.ccc.decoding import Vocabulary, as_float
from cellnet_sd.components.ccc.layouts import CCCLayout, Counting, Form
from cellnet_sd.components.ccc.links import NO_PAIR, CCCLinks
from cellnet_sd.components.ccc.stored import LIST_KEYS
from cellnet_sd.components.sparse import MalformedValueError, stored_format, stored_shape
from cellnet_sd.sources.base import Compressed, Raw

Ints = NDArray[np.int64]
_ANY = -1


def is_usual(layout: CCCLayout | None) -> bool:
    """Whether cells of a layout may be decoded all at once: a row for each pair, or one, and a column for each cell."""
    if layout is None or layout.grouped or layout.counting not in (Counting.FILE, Counting.SLIDE):
        return False
    return layout.form is Form.CELLS or (layout.form is Form.PAIRS_BY_CELLS and layout.n_pairs is not None)


def decode_compressed(found: Compressed, rows: Ints, layout: CCCLayout, context: CCCContext) -> tuple[CCCLinks, Ints]:
    """Return the links of the cells that are stored in the usual way and sound, and which of the batch these are.

    Parameters
    ----------
    found
        What the source gave of the batch.
    rows
        Rows in the file of the cells of the batch.
    layout, context
        As `decode` takes them; the layout is a usual one.
    """
    vocabulary = Vocabulary(layout.pairs)
    codes = _codes(layout, vocabulary)
    columns = _Columns(context, layout.counting)
    found = found.take(_is_fitting(found, columns.of(rows[found.at]), len(codes)))
    found = found.take(_is_pointed(found, len(codes)))
    found = found.take(_is_sound(found, columns.of(rows[found.at]), len(codes)))
    line = _lines(found, len(codes))
    cell = line // len(codes)
    senders = rows[found.at]
    value, n_inexact = as_float([found.data])
    links = CCCLinks(
        rows=senders,
        sender=senders[cell].astype(np.int32),
        receiver=columns.receivers(senders[cell], found.indices.astype(np.int64)).astype(np.int32),
        pair=codes[line % len(codes)],
        value=value,
        pairs=tuple(vocabulary.codes),
        n_file=context.n_file,
        n_inexact=n_inexact,
    )
    return links, found.at


def _codes(layout: CCCLayout, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """Return the code of the pair that each row of a matrix is about."""
    if layout.form is Form.CELLS and len(layout.pairs) != 1:
        return np.array([NO_PAIR], np.int32)
    return vocabulary.of(layout.pairs)


class _Columns:
    """What the columns of a matrix are: the cells of the file, or those of the slide of its cell."""

    def __init__(self, context: CCCContext, counting: Counting) -> None:
        self._context, self._by_slide = context, counting is Counting.SLIDE
        slides = context.rows_of_slide if self._by_slide else ()
        self._cells = np.concatenate([np.empty(0, np.int64), *slides])
        self._counts = np.array([len(slide) for slide in slides], np.int64)
        self._starts = np.cumsum(self._counts) - self._counts

    def of(self, rows: Ints) -> Ints:
        """Return how many columns the matrices of the cells at `rows` have."""
        if not self._by_slide:
            return np.full(len(rows), self._context.n_file)
        return self._counts[self._context.slide_of_row[rows]]

    def receivers(self, senders: Ints, column: Ints) -> Ints:
        """Return the rows that columns of the matrices of the cells at `senders` stand for."""
        if not self._by_slide:
            return column
        receivers: Ints = self._cells[self._starts[self._context.slide_of_row[senders]] + column]
        return receivers


def _is_fitting(found: Compressed, n_columns: Ints, n_rows: int) -> NDArray[np.bool_]:
    """Return which matrices have that many rows and columns, as far as is stored, and lists of fitting lengths."""
    if found.data.dtype.kind not in "biuf" or not (_is_index(found.indices) and _is_index(found.indptr)):
        return np.zeros(len(found.at), bool)
    stated = np.array([_stated(attrs) for attrs in found.attrs], np.int64).reshape(-1, 3)[found.kind]
    fits = (stated[:, 0] == 1) & np.isin(stated[:, 1], (n_rows, _ANY))
    fits &= (stated[:, 2] == n_columns) | (stated[:, 2] == _ANY)
    return fits & (found.n_data == found.n_indices) & (found.n_indptr == n_rows + 1)


def _is_index(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "iu" and array.dtype != np.uint64


def _stated(attrs: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return whether the attributes of a matrix say or leave it that it is row-wise, and how many rows and columns."""
    raw = Raw(None, attrs)
    try:
        form, shape = stored_format(raw), stored_shape(raw)
    except MalformedValueError:
        return 0, _ANY, _ANY
    if LIST_KEYS & attrs.keys() or form == "csc" or (form is None and shape is not None and shape[0] == shape[1]):
        return 0, _ANY, _ANY
    return 1, *(shape or (_ANY, _ANY))


def _pointers(found: Compressed, n_rows: int) -> Ints:
    return found.indptr.reshape(len(found.at), n_rows + 1).astype(np.int64)


def _is_pointed(found: Compressed, n_rows: int) -> NDArray[np.bool_]:
    """Return which matrices have rows that follow one another through all entries."""
    indptr = _pointers(found, n_rows)
    return (indptr[:, 0] == 0) & (indptr[:, -1] == found.n_indices) & (np.diff(indptr, axis=1) >= 0).all(axis=1)


def _lines(found: Compressed, n_rows: int) -> Ints:
    """Return which row each entry lies in, counted through all matrices."""
    counts = np.diff(_pointers(found, n_rows), axis=1).reshape(-1)
    return np.repeat(np.arange(len(counts)), counts)


def _is_sound(found: Compressed, n_columns: Ints, n_rows: int) -> NDArray[np.bool_]:
    """Return which matrices have finite values only, in columns that are there and ascend within each row."""
    line, column = _lines(found, n_rows), found.indices.astype(np.int64)
    cell = line // n_rows
    bad = (column < 0) | (column >= n_columns[cell]) | ~np.isfinite(found.data)
    bad[1:] |= (line[1:] == line[:-1]) & (column[1:] <= column[:-1])
    sound = np.ones(len(found.at), bool)
    sound[cell[bad]] = False
    return sound
