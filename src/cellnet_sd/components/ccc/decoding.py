"""From stored CCC to links, a batch of cells at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.ccc.context import CCCContext
from cellnet_sd.components.ccc.detection import detect, n_pairs_of
from cellnet_sd.components.ccc.layouts import MAX_PAIRS, CCCLayout, Counting, Form, pair_names, unique_pairs
from cellnet_sd.components.ccc.links import NO_PAIR, NO_RECEIVER, CCCLinks
from cellnet_sd.components.ccc.stored import Stored, stored_from_raw
from cellnet_sd.components.sparse import Coordinates, MalformedValueError, describe_shape, faults
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problems
from cellnet_sd.sources.base import Raw, Unreadable

_EXACT_IN_FLOAT32: Final = 2**24
_EXACT_IN_FLOAT64: Final = 2**53
"""Up to here, either way, every integer is held exactly."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One matrix of one cell, its rows pairs (or senders) and its columns cells, not yet checked.

    `cells` are the rows in the file that the columns stand for, `None` if columns are rows. `codes` are the pair codes
    that the matrix' rows stand for. `own` is the matrix row of the cell itself where rows are senders.
    """

    row: int
    matrix: Coordinates
    cells: NDArray[np.int64] | None
    codes: NDArray[np.int32]
    own: int | None


class Vocabulary:
    """Codes of pair names, in order of appearance."""

    def __init__(self, names: Sequence[str]) -> None:
        self.codes = {name: code for code, name in enumerate(names)}
        self._known: dict[tuple[str, ...], NDArray[np.int32]] = {}

    def of(self, names: tuple[str, ...]) -> NDArray[np.int32]:
        """Return the codes of names; new ones are added."""
        if names not in self._known:
            codes = [self.codes.setdefault(name, len(self.codes)) for name in names]
            self._known[names] = np.array(codes, dtype=np.int32)
        return self._known[names]


def decode(
    raws: Sequence[Raw | Unreadable | None],
    rows: Sequence[int] | NDArray[np.int64],
    layout: CCCLayout | None,
    context: CCCContext,
    problems: Problems,
) -> CCCLinks:
    """Return the links of the cells at `rows` from their stored values.

    A cell without CCC has no links. A malformed one is reported to `problems` and has none.

    Parameters
    ----------
    raws
        Stored values, one per row.
    rows
        Rows in the file.
    layout
        What `detect` found; `None` (no sampled cell had CCC) detects on this batch.
    context
        The cells of the file.
    problems
        Told of malformed cells.

    Raises
    ------
    MalformedCellError
        For the first malformed cell, under `on_error="raise"`.
    LayoutError
        If `layout` is `None` and the batch does not tell.
    """
    # Where not even this tells, nothing in the batch can be read, by any layout.
    layout = layout or detect(raws, rows, context) or CCCLayout(Form.CELLS, Counting.FILE)
    vocabulary = Vocabulary(layout.pairs)
    decoded: list[int] = []
    parts: list[_Part] = []
    for raw, row in zip(raws, np.asarray(rows, dtype=np.int64).tolist(), strict=True):
        if raw is None:
            continue
        found = _parts_or_reason(raw, row, layout, context, vocabulary)
        if isinstance(found, str):
            problems.report(row, Component.CCC, found)
        else:
            decoded.append(row)
            parts.extend(found)
    bad = _report_faults(parts, problems)
    parts = [part for part in parts if part.row not in bad]
    decoded = [row for row in decoded if row not in bad]
    return _links(parts, decoded, layout, context, vocabulary)


# --- one cell --------------------------------------------------------------------------------------------------------


def _parts_or_reason(
    raw: Raw | Unreadable, row: int, layout: CCCLayout, context: CCCContext, vocabulary: Vocabulary
) -> list[_Part] | str:
    if isinstance(raw, Unreadable):
        return str(raw)
    try:
        return list(_parts(stored_from_raw(raw), row, layout, context, vocabulary))
    except MalformedValueError as error:
        return str(error)


def _parts(stored: Stored, row: int, layout: CCCLayout, context: CCCContext, vocabulary: Vocabulary) -> Iterator[_Part]:
    if (stored.members is not None) != layout.grouped:
        form = ("one matrix", "a group of matrices")
        msg = f"{form[not layout.grouped]} where other cells have {form[layout.grouped]}"
        raise MalformedValueError(msg)
    cells, n_cells = _cell_axis(stored, row, layout, context)
    own = _own_position(row, cells) if layout.form is Form.NEIGHBOURS else None
    for i, matrix in enumerate(stored.matrices):
        matrix = _oriented(matrix, layout, n_cells)
        names = _names(stored, i, matrix, layout)
        codes = np.array([NO_PAIR], dtype=np.int32) if names is None else vocabulary.of(names)
        if layout.form is not Form.NEIGHBOURS:
            matrix = Coordinates(matrix.row, matrix.col, matrix.data, (_n_rows(matrix, codes, layout), matrix.shape[1]))
        yield _Part(row, matrix, cells, codes, own)


def _cell_axis(
    stored: Stored, row: int, layout: CCCLayout, context: CCCContext
) -> tuple[NDArray[np.int64] | None, int]:
    """Return the rows that the cell axis stands for (`None`: all of the file), and its length."""
    if layout.counting is Counting.NOTHING:
        return None, 0
    if stored.cells is not None:
        cells = context.rows_of_cells(stored.cells, row)
        return cells, len(cells)
    if layout.counting is Counting.NAMES:
        msg = "no list of cells is stored with it, where other cells have one"
        raise MalformedValueError(msg)
    if layout.counting is Counting.SLIDE:
        cells = context.slide_rows(row)
        return cells, len(cells)
    return None, context.n_file


def _own_position(row: int, cells: NDArray[np.int64] | None) -> int:
    if cells is None:
        return row
    own = np.flatnonzero(cells == row)
    if not len(own):
        msg = "the cell itself is not among the cells listed with it"
        raise MalformedValueError(msg)
    return int(own[0])


def _oriented(matrix: Coordinates, layout: CCCLayout, n_cells: int) -> Coordinates:
    """Return the matrix with cells along its columns."""
    if layout.form is Form.SCORES:
        return _flat(matrix)
    first, second = matrix.shape
    turned = layout.form is Form.CELLS_BY_PAIRS or (layout.form is Form.CELLS and second == 1 and first != 1)
    found = matrix.transposed if turned else matrix
    rows = {Form.CELLS: 1, Form.NEIGHBOURS: n_cells}.get(layout.form, found.shape[0])
    if found.shape[1] not in (n_cells, None) or found.shape[0] not in (rows, None):
        msg = f"shape {describe_shape(matrix.shape)} does not fit {layout.describe()}: {n_cells:,} cells"
        raise MalformedValueError(msg)
    return Coordinates(found.row, found.col, found.data, (rows, n_cells))


def _flat(matrix: Coordinates) -> Coordinates:
    """Return scores with one row per pair, in row-major order, and a single column."""
    first, second = matrix.shape
    if first is None or second is None:
        msg = "the shape of the scores is not stored"
        raise MalformedValueError(msg)
    if first * second > MAX_PAIRS:
        msg = f"shape {describe_shape(matrix.shape)} has more than {MAX_PAIRS:,} pairs"
        raise MalformedValueError(msg)
    reasons = faults([matrix])
    if reasons:
        raise MalformedValueError(reasons[0])
    return Coordinates(matrix.row * second + matrix.col, np.zeros_like(matrix.col), matrix.data, (first * second, 1))


def _names(stored: Stored, i: int, matrix: Coordinates, layout: CCCLayout) -> tuple[str, ...] | None:
    """Return the names of the pairs along the rows of one matrix; `None` if it is about no pair."""
    if stored.members is not None:
        return stored.members[i : i + 1]
    if layout.form in (Form.CELLS, Form.NEIGHBOURS):
        own = stored.pairs or layout.pairs
        return own if len(own) == 1 else None
    if stored.pairs is not None and layout.named:
        return unique_pairs(stored.pairs)
    if layout.n_pairs is None:
        n_pairs = n_pairs_of(matrix, Form.PAIRS_BY_CELLS) or int(matrix.row.max(initial=-1)) + 1
        if n_pairs > MAX_PAIRS:
            msg = f"{n_pairs:,} pairs are more than {MAX_PAIRS:,}"
            raise MalformedValueError(msg)
        return pair_names(n_pairs)
    return layout.pairs


def _n_rows(matrix: Coordinates, codes: NDArray[np.int32], layout: CCCLayout) -> int:
    if matrix.shape[0] not in (len(codes), None):
        msg = f"{matrix.shape[0]:,} pairs, where {len(codes):,} are expected for {layout.describe()}"
        raise MalformedValueError(msg)
    return len(codes)


# --- all cells -------------------------------------------------------------------------------------------------------


def _report_faults(parts: Sequence[_Part], problems: Problems) -> set[int]:
    bad: set[int] = set()
    for i, reason in faults([part.matrix for part in parts]).items():
        if parts[i].row not in bad:
            problems.report(parts[i].row, Component.CCC, reason)
            bad.add(parts[i].row)
    return bad


def _links(
    parts: Sequence[_Part],
    decoded: Sequence[int],
    layout: CCCLayout,
    context: CCCContext,
    vocabulary: Vocabulary,
) -> CCCLinks:
    own = [_is_own(part) for part in parts]
    sender = [np.full(np.count_nonzero(is_own), part.row) for part, is_own in zip(parts, own, strict=True)]
    value, n_inexact = as_float([part.matrix.data[is_own] for part, is_own in zip(parts, own, strict=True)])
    scores = layout.form is Form.SCORES
    return CCCLinks(
        rows=np.array(decoded, dtype=np.int64),
        sender=_joined(sender, np.int32),
        receiver=_joined([_receivers(p, o, scores=scores) for p, o in zip(parts, own, strict=True)], np.int32),
        pair=_joined([_pair_codes(p, o) for p, o in zip(parts, own, strict=True)], np.int32),
        value=value,
        pairs=tuple(vocabulary.codes),
        n_file=context.n_file,
        mentioned=np.unique(_joined([_others(p, context.n_file) for p in parts if p.own is not None], np.int64)),
        n_inexact=n_inexact,
        is_scores=scores,
    )


def _joined(arrays: Sequence[NDArray[Any]], dtype: type[np.integer[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays, dtype=dtype) if arrays else np.empty(0, dtype=dtype)


def _is_own(part: _Part) -> NDArray[np.bool_]:
    return np.ones(len(part.matrix.row), dtype=bool) if part.own is None else part.matrix.row == part.own


def _receivers(part: _Part, own: NDArray[np.bool_], *, scores: bool) -> NDArray[np.int64]:
    col = part.matrix.col[own]
    if scores:
        return np.full(len(col), NO_RECEIVER)
    return col if part.cells is None else part.cells[col]


def _pair_codes(part: _Part, own: NDArray[np.bool_]) -> NDArray[np.int32]:
    row = part.matrix.row[own]
    return part.codes[row] if part.own is None else np.full(len(row), part.codes[0])


def _others(part: _Part, n_file: int) -> NDArray[np.int64]:
    """Return the keys of the links that the matrix stores of other cells; zeros are no links."""
    others = (part.matrix.row != part.own) & (part.matrix.data != 0)
    sender, receiver = part.matrix.row[others], part.matrix.col[others]
    if part.cells is not None:
        sender, receiver = part.cells[sender], part.cells[receiver]
    key: NDArray[np.int64] = sender * n_file + receiver
    return key


def as_float(values: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], int]:
    """Return the values as one array of float32, or float64 where float32 does not do, and how many are inexact."""
    wide = any(_needs_float64(value) for value in values)
    dtype = np.float64 if wide else np.float32
    floats = [value.astype(dtype) for value in values]
    n_inexact = sum(_n_changed(value, new) for value, new in zip(values, floats, strict=True))
    return np.concatenate(floats) if floats else np.empty(0, dtype=np.float32), n_inexact


def _needs_float64(value: NDArray[Any]) -> bool:
    if value.dtype.kind in "iu":
        return _n_beyond(value, _EXACT_IN_FLOAT32) > 0
    return value.dtype.kind == "f" and value.dtype.itemsize > np.dtype(np.float32).itemsize


def _n_changed(value: NDArray[Any], new: NDArray[Any]) -> int:
    if value.dtype.kind in "iu":
        return _n_beyond(value, _EXACT_IN_FLOAT64)
    return int(np.count_nonzero(value != new)) if value.dtype.kind == "f" else 0


def _n_beyond(value: NDArray[Any], limit: int) -> int:
    if value.dtype.itemsize <= np.dtype(np.int16).itemsize:
        return 0
    return int(np.count_nonzero((value > limit) | (value < -limit)))
