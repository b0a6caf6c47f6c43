"""Telling how CCC is stored, from a sample of cells.

Each sampled matrix votes for every reading that its shape allows. An axis as long as the file or the slide has cells
is the cell axis; a score per pair is considered only where there is none, or where the stored pair names are as many as
the cells. The reading with most votes is taken, so that a malformed cell in the sample decides nothing; a tie is an
error.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.ccc.context import CCCContext
from cellnet_sd.components.ccc.layouts import MAX_PAIRS, CCCLayout, Counting, Form, pair_names, unique_pairs
from cellnet_sd.components.ccc.stored import Stored, stored_from_raw
from cellnet_sd.components.sparse import Coordinates, MalformedValueError, describe_shape
from cellnet_sd.errors import CellNetWarning, LayoutError
from cellnet_sd.sources.base import Raw, Unreadable

_SCORES: Final = (Form.SCORES, Counting.NOTHING)
_OVERRIDES: Final = {
    "cells": Form.CELLS,
    "pairs_by_cells": Form.PAIRS_BY_CELLS,
    "cells_by_pairs": Form.CELLS_BY_PAIRS,
    "neighbours_by_pairs": Form.CELLS_BY_PAIRS,
    "scores": Form.SCORES,
    "neighbours": Form.NEIGHBOURS,
}

type _Reading = tuple[Form, Counting]


@dataclass(frozen=True, slots=True)
class _Sample:
    """One stored matrix, and what its axes may count."""

    row: int
    stored: Stored
    matrix: Coordinates
    n_names: int | None


def detect(
    raws: Sequence[Raw | Unreadable | None], rows: Sequence[int] | NDArray[np.int64], context: CCCContext
) -> CCCLayout | None:
    """Return how CCC is stored in a file, from the stored values of the sampled cells at `rows`.

    A sample should touch every slide. `None` if no sampled cell has readable CCC.

    Raises
    ------
    LayoutError
        If no reading fits, or several fit equally well and `ccc_layout=` (`context.override`) does not say which.

    Warns
    -----
    CellNetWarning
        If the stored pair names are not as many as the pairs, or repeat.
    """
    samples = list(_samples(raws, rows, context))
    if not samples:
        return None
    votes = Counter((s.stored.members is not None, *reading) for s in samples for reading in _readings(s, context))
    grouped, form, counting = _elected(votes, samples, context)
    _check_override(context, grouped=grouped, sample=samples[0])
    n_pairs = None if grouped else _n_pairs(samples, form, counting, context)
    return _named(CCCLayout(form, counting, grouped, n_pairs), samples, context)


def _samples(
    raws: Sequence[Raw | Unreadable | None], rows: Sequence[int] | NDArray[np.int64], context: CCCContext
) -> Iterator[_Sample]:
    for raw, row in zip(raws, rows, strict=True):
        if raw is None or isinstance(raw, Unreadable):
            continue
        try:
            stored = stored_from_raw(raw)
        except MalformedValueError:
            continue  # reported with its cell when it is decoded
        names = stored.pairs or context.pair_names
        n_names = None if names is None or stored.members is not None else len(names)
        yield from (_Sample(int(row), stored, matrix, n_names) for matrix in stored.matrices)


# --- one matrix: what it may be --------------------------------------------------------------------------------------


def _readings(sample: _Sample, context: CCCContext) -> set[_Reading]:
    """Return the readings that one matrix allows."""
    first, second = _cell_axes(sample, context)
    if context.override is not None:
        forced = _forced(sample, first, second, context.override)
        if forced is not None:
            return forced
    readings = _by_entries(sample, first, second) or _by_shape(sample.matrix.shape, first, second)
    if sample.stored.members is not None or sample.stored.cells is not None:
        return readings | _renamed(sample, readings)
    if not readings:
        return {_SCORES} if None not in sample.matrix.shape else set()
    return readings | ({_SCORES} if _may_be_scores(sample, context) else set())


def _cell_axes(sample: _Sample, context: CCCContext) -> tuple[set[Counting], set[Counting]]:
    """Return which cells each axis may count."""
    first, second = sample.matrix.shape
    ways_first = _ways(first, sample.matrix.row, sample, context)
    ways_second = _ways(second, sample.matrix.col, sample, context)
    vector = first == 1 and second != 1 and sample.stored.cells is None
    if vector or (first is None and second is not None and ways_second):
        ways_first = set()
    if second is None and first is not None and ways_first:
        ways_second = set()
    return ways_first, ways_second


def _ways(length: int | None, index: NDArray[np.int64], sample: _Sample, context: CCCContext) -> set[Counting]:
    if sample.stored.cells is not None:
        return {Counting.NAMES} if length in (len(sample.stored.cells), None) else set()
    n_slide = context.n_cells(sample.row, Counting.SLIDE)
    if length is None:
        return _ways_of_unknown(index, n_slide, context)
    ways = {Counting.FILE} if length == context.n_file else set()
    return ways | ({Counting.SLIDE} if length == n_slide != context.n_file else set())


def _ways_of_unknown(index: NDArray[np.int64], n_slide: int, context: CCCContext) -> set[Counting]:
    """Return which cells an axis of unstored length may count."""
    top = int(index.max(initial=0))
    ways = {Counting.FILE} if top < context.n_file else set()
    return ways | ({Counting.SLIDE} if top < n_slide != context.n_file else set())


def _by_entries(sample: _Sample, first: set[Counting], second: set[Counting]) -> set[_Reading]:
    """Return the readings of coordinates stored without a shape, as far as the pair names tell."""
    matrix, n_names = sample.matrix, sample.n_names
    if matrix.shape != (None, None):
        return set()
    readings = set() if matrix.row.any() else {(Form.CELLS, way) for way in second}
    if n_names is not None and matrix.row.max(initial=0) < n_names:
        readings |= {(Form.PAIRS_BY_CELLS, way) for way in second}
    if n_names is not None and matrix.col.max(initial=0) < n_names:
        readings |= {(Form.CELLS_BY_PAIRS, way) for way in first}
    return readings


def _by_shape(shape: tuple[int | None, int | None], first: set[Counting], second: set[Counting]) -> set[_Reading]:
    if shape[0] == 1 and second:
        return {(Form.CELLS, way) for way in second}
    if shape[1] == 1 and first:
        return {(Form.CELLS, way) for way in first}
    readings = {(Form.PAIRS_BY_CELLS, way) for way in second} | {(Form.CELLS_BY_PAIRS, way) for way in first}
    square = {(Form.NEIGHBOURS, way) for way in first & second}
    return square if Counting.NAMES in first & second else readings | square


def _renamed(sample: _Sample, readings: set[_Reading]) -> set[_Reading]:
    """Return the other reading of a matrix over listed cells whose pairs number as many as the cells."""
    cells = sample.stored.cells
    if cells is None or sample.n_names != len(cells) or 1 in sample.matrix.shape:
        return set()
    other = {Form.NEIGHBOURS: Form.CELLS_BY_PAIRS}
    return {(other[form], way) for form, way in readings if form in other}


def _may_be_scores(sample: _Sample, context: CCCContext) -> bool:
    """Whether a matrix with a possible cell axis may hold scores all the same."""
    shape, n_names = sample.matrix.shape, sample.n_names
    if None not in shape:
        return n_names is not None and n_names in (context.n_file, context.n_cells(sample.row, Counting.SLIDE))
    known = shape[0] if shape[0] is not None else shape[1]
    if known is None:
        return False
    if known == 1:
        index = sample.matrix.col if shape[0] == 1 else sample.matrix.row
        return n_names is not None and int(index.max(initial=0)) < n_names
    return known != n_names and known not in (context.n_file, context.n_cells(sample.row, Counting.SLIDE))


def _forced(sample: _Sample, first: set[Counting], second: set[Counting], override: str) -> set[_Reading] | None:
    """Return the readings that `ccc_layout=` leaves; `None` if it says nothing of the matrix."""
    if override == "groups":
        return {(Form.NEIGHBOURS, way) for way in first & second} or None
    form = _OVERRIDES[override]
    ways = {
        Form.CELLS: _vector_ways(sample.matrix.shape, first, second),
        Form.PAIRS_BY_CELLS: second,
        Form.CELLS_BY_PAIRS: first,
        Form.NEIGHBOURS: first & second,
        Form.SCORES: {Counting.NOTHING},
    }[form]
    return {(form, way) for way in ways if override != "neighbours_by_pairs" or way is Counting.NAMES}


def _vector_ways(shape: tuple[int | None, int | None], first: set[Counting], second: set[Counting]) -> set[Counting]:
    along_second = second if shape[0] in (1, None) else set()
    return along_second or (first if shape[1] in (1, None) else set())


# --- all matrices: which it is ---------------------------------------------------------------------------------------


def _elected(
    votes: Counter[tuple[bool, Form, Counting]], samples: Sequence[_Sample], context: CCCContext
) -> tuple[bool, Form, Counting]:
    if not votes:
        raise LayoutError(_no_reading(samples[0], context))
    most = max(votes.values())
    best = sorted(reading for reading, count in votes.items() if count == most)
    if len({reading[:2] for reading in best}) > 1:
        raise LayoutError(_several_readings(best, samples, context))
    # A cell that lists the cells it is about is read by its list in any case.
    best = [reading for reading in best if reading[2] is not Counting.NAMES] or best
    if len(best) == 1:
        return best[0]
    # The axis' length is not stored. Rows of the file are meant, unless that would link one slide to another.
    across = any(_links_slides(sample, best[0][1], context) for sample in samples)
    return next(reading for reading in best if (reading[2] is Counting.SLIDE) == across)


def _links_slides(sample: _Sample, form: Form, context: CCCContext) -> bool:
    """Whether the entries link the cell to one of another slide if they count the cells of the file."""
    along_rows = form is Form.CELLS_BY_PAIRS or sample.matrix.shape[1] == 1
    index = sample.matrix.row if along_rows else sample.matrix.col
    index = index[(index >= 0) & (index < context.n_file)]
    return bool((context.slide_of_row[index] != context.slide_of_row[sample.row]).any())


def _check_override(context: CCCContext, *, grouped: bool, sample: _Sample) -> None:
    if (context.override == "groups") != grouped and context.override not in (None, "cells", "neighbours"):
        stored = "groups of matrices" if grouped else f"matrices of shape {describe_shape(sample.matrix.shape)}"
        msg = f"{context.file}: CCC is stored as {stored}, which ccc_layout={context.override!r} does not fit."
        raise LayoutError(msg)


def _no_reading(sample: _Sample, context: CCCContext) -> str:
    asked = f"ccc_layout={context.override!r} does not fit" if context.override else "it cannot be told what it is"
    advice = "Check ccc_layout=." if context.override else "Say what it is with ccc_layout=."
    return f"{_what(sample, context)}: {asked}. {advice}"


def _several_readings(
    best: Sequence[tuple[bool, Form, Counting]], samples: Sequence[_Sample], context: CCCContext
) -> str:
    names = sorted({CCCLayout(form, counting, grouped).name for grouped, form, counting in best})
    choices = " or ".join(f"ccc_layout={name!r}" for name in names)
    return f"{_what(samples[0], context)}: it may be {' or '.join(names)}. Say which with {choices}."


def _what(sample: _Sample, context: CCCContext) -> str:
    name = context.all_names()[sample.row]
    listed = "" if sample.stored.cells is None else f", {len(sample.stored.cells):,} cells listed with it"
    named = "" if sample.n_names is None else f", {sample.n_names:,} named pairs"
    n_slide = context.n_cells(sample.row, Counting.SLIDE)
    return (
        f"{context.file}: CCC of cell {name!r} has shape {describe_shape(sample.matrix.shape)}{listed}{named}, "
        f"where the file has {context.n_file:,} cells and the slide {n_slide:,}"
    )


# --- the pairs -------------------------------------------------------------------------------------------------------


def n_pairs_of(matrix: Coordinates, form: Form) -> int | None:
    """Return the length of the pair axis of one matrix; `None` if it has none, or its length is not stored."""
    first, second = matrix.shape
    if form is Form.SCORES:
        return None if first is None or second is None else first * second
    return {Form.PAIRS_BY_CELLS: first, Form.CELLS_BY_PAIRS: second}.get(form)


def _n_pairs(samples: Sequence[_Sample], form: Form, counting: Counting, context: CCCContext) -> int | None:
    counts = Counter(
        n
        for sample in samples
        if sample.stored.pairs is None
        and ((form, counting) in _readings(sample, context))
        and (n := n_pairs_of(sample.matrix, form)) is not None
    )
    n_pairs = counts.most_common(1)[0][0] if counts else None
    if n_pairs is not None and n_pairs > MAX_PAIRS:
        msg = f"{_what(samples[0], context)}: {n_pairs:,} pairs are more than the {MAX_PAIRS:,} that can be read."
        raise LayoutError(msg)
    return n_pairs


def _named(layout: CCCLayout, samples: Sequence[_Sample], context: CCCContext) -> CCCLayout:
    """Return `layout` with the names of its pairs."""
    if layout.grouped:
        members = dict.fromkeys(name for sample in samples for name in sample.stored.members or ())
        return CCCLayout(layout.form, layout.counting, grouped=True, pairs=tuple(members), named=True)
    own = next((sample.stored.pairs for sample in samples if sample.stored.pairs is not None), None)
    names = own or context.pair_names
    n_pairs = _n_named(layout, own, names)
    if names is not None and n_pairs == len(names):
        return CCCLayout(layout.form, layout.counting, n_pairs=n_pairs, pairs=_distinct(names, context), named=True)
    if layout.form in (Form.CELLS, Form.NEIGHBOURS):
        return layout
    if names is not None:
        msg = f"{context.file}: {len(names):,} pairs are named but CCC has {n_pairs:,}; the names are not used."
        warnings.warn(msg, CellNetWarning, stacklevel=3)
    return CCCLayout(layout.form, layout.counting, n_pairs=n_pairs, pairs=pair_names(n_pairs or 0))


def _n_named(layout: CCCLayout, own: Sequence[str] | None, names: Sequence[str] | None) -> int | None:
    """Return how many pairs the matrices are about; of unstored length, as many as are named."""
    if layout.form in (Form.CELLS, Form.NEIGHBOURS):
        return 1  # a matrix about one pair, or the sum over all
    if own is not None:
        return len(own)
    return layout.n_pairs if layout.n_pairs is not None or names is None else len(names)


def _distinct(names: Sequence[str], context: CCCContext) -> tuple[str, ...]:
    unique = unique_pairs(names)
    if unique != tuple(names):
        msg = f"{context.file}: names of CCC pairs repeat; the later ones are numbered."
        warnings.warn(msg, CellNetWarning, stacklevel=4)
    return unique
