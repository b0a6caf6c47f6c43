"""The expression room: stored expression profiles ↔ rows of `X`, a CSR matrix of float32."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.sparse import MalformedValueError, coordinates_from_raw, vector_from_raw
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problem, Problems
from cellnet_sd.sources.base import FetchesPlain, Packed, Raw, Unreadable
from cellnet_sd.sources.facts import FormColumn, StoredForm

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ExpressionKind = Literal["lognorm", "counts"]
Stored = Raw | Unreadable | None
_MOST_GENES = 10_000_000
"""More genes than this are absurd: their names alone would fill the memory."""


@dataclass(frozen=True)
class Profiles:
    """Decoded expression profiles.

    Parameters
    ----------
    matrix
        CSR float32 of shape (n_cells, n_genes), indices sorted. Rows of malformed cells are empty, and reported.
    n_inexact
        How many stored values float32 cannot hold exactly.
    """

    matrix: "csr_matrix"
    n_inexact: int


def gene_counts(column: FormColumn) -> Counter[int]:
    """Return how many cells store a profile of each length; forms that do not state a length are left out."""
    counts: Counter[int] = Counter()
    for form, n_cells in column.counts().items():
        if (length := stated_length(form)) is not None:
            counts[length] += n_cells
    return counts


def stated_length(form: StoredForm) -> int | None:
    """Return the number of genes that a stored form states: a vector, `(1, G)` or `(G, 1)`; `None` if it does not."""
    shape = form.shape
    if not shape or len(shape) > 2 or (len(shape) == 2 and 1 not in shape):
        return None
    return max(shape) if max(shape) <= _MOST_GENES else None


def sampled_length(raws: Sequence[Stored]) -> int:
    """Return the length of a profile that most of `raws` state or show; 0 if none does."""
    lengths: Counter[int] = Counter()
    for raw in raws:
        with contextlib.suppress(MalformedValueError):
            shape = coordinates_from_raw(raw).shape if isinstance(raw, Raw) else (None, None)
            if 1 in shape and None not in shape:
                lengths[max(n for n in shape if n is not None)] += 1
    return lengths.most_common(1)[0][0] if lengths else 0


def misfits(column: FormColumn, rows: NDArray[np.int64], n_genes: int) -> Iterator[Problem]:
    """Yield the cells at `rows` that have no profile, or one whose stored form states another length."""
    wrong = {
        code: f"shape {form.shape}, where a profile has {n_genes:,} values"
        for code, form in enumerate(column.forms)
        if form.shape is not None and stated_length(form) != n_genes
    }
    codes = column.codes[rows]
    for at in np.flatnonzero(np.isin(codes, [-1, *wrong])):
        reason = wrong.get(int(codes[at]), "the cell has none")
        yield Problem(int(rows[at]), Component.EXPRESSION, reason)


def read(source: FetchesPlain, rows: NDArray[np.int64], n_genes: int, problems: Problems) -> Profiles:
    """Return the profiles of a batch of cells of a source; see `decode`.

    Plainly stored ones are decoded by the source, many at once, and no dense matrix of the batch exists.
    """
    packed = source.fetch_packed(Component.EXPRESSION, rows, n_genes)
    rest = np.flatnonzero(packed.counts < 0)
    if not len(rest):
        return Profiles(_csr(packed.counts, packed.indices, packed.values, n_genes), packed.n_inexact)
    others = decode(source.fetch(Component.EXPRESSION, rows[rest]), rows[rest], n_genes, problems)
    return Profiles(_interleaved(packed, others.matrix, rest, n_genes), packed.n_inexact + others.n_inexact)


def _csr(counts: NDArray[np.int64], indices: NDArray[Any], values: NDArray[np.float32], n_genes: int) -> "csr_matrix":
    """Return rows of so many values each as a matrix, indexed by int64 only where int32 cannot count its values."""
    from scipy.sparse import csr_matrix

    indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    dtype = np.int32 if indptr[-1] < np.iinfo(np.int32).max else np.int64
    parts = (values, indices.astype(dtype, copy=False), indptr.astype(dtype))
    return csr_matrix(parts, shape=(len(counts), n_genes), copy=False)


def _interleaved(packed: Packed, others: "csr_matrix", rest: NDArray[np.intp], n_genes: int) -> "csr_matrix":
    """Return the packed rows and the others, each in its place."""
    from scipy.sparse import vstack

    done = np.flatnonzero(packed.counts >= 0)
    first = _csr(packed.counts[done], packed.indices, packed.values, n_genes)
    order = np.argsort(np.concatenate([done, rest]), kind="stable")
    return vstack([first, others], format="csr")[order]


def decode(
    raws: Sequence[Stored], rows: Sequence[int] | NDArray[np.int64], n_genes: int, problems: Problems
) -> Profiles:
    """Return the profiles of a batch of cells.

    Parameters
    ----------
    raws
        What is stored, one per cell.
    rows
        Rows of the cells in the file, for messages.
    n_genes
        Length of a profile; another length is malformed.
    problems
        Where cells without a profile, or with a malformed one, are reported.
    """
    indices, values, n_inexact = [], [], 0
    for row, raw in zip(rows, raws, strict=True):
        index, value = _profile(raw, int(row), n_genes, problems)
        with np.errstate(over="ignore"):
            exact = value.astype(np.float32)
        if not np.isfinite(exact).all():
            problems.report(int(row), Component.EXPRESSION, "a value is too large for float32")
        n_inexact += int(np.count_nonzero(exact != value))
        indices.append(index)
        values.append(exact)
    counts = np.array([len(index) for index in indices], dtype=np.int64)
    columns = np.concatenate([*indices, np.empty(0, np.int64)])
    data = np.concatenate([*values, np.empty(0, np.float32)])
    return Profiles(_csr(counts, columns, data, n_genes), n_inexact)


def _profile(raw: Stored, row: int, n_genes: int, problems: Problems) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the genes of one cell and their values; nothing, and a report, if they cannot be had."""
    if isinstance(raw, Raw):
        try:
            return vector_from_raw(raw, n_genes)
        except MalformedValueError as error:
            reason = str(error)
    else:
        reason = "the cell has none" if raw is None else str(raw)
    problems.report(row, Component.EXPRESSION, reason)
    return np.empty(0, np.int64), np.empty(0, np.float32)


def kind_of(matrix: "csr_matrix") -> tuple[ExpressionKind | None, NDArray[np.bool_]]:
    """Return whether profiles are counts or log-normalised, and which rows are whole numbers.

    Counts are whole; a log-normalised profile has fractions. `None` where profiles disagree, or all are empty. Empty
    rows say nothing and count as whole.
    """
    filled = np.diff(matrix.indptr) > 0
    whole = np.ones(matrix.shape[0], bool)
    first = matrix.data[matrix.indptr[:-1][filled]]
    whole[filled] = first == np.floor(first)  # which mostly settles it: only the rest is looked at in full
    rest = np.flatnonzero(filled & whole)
    if len(rest):
        others = matrix if len(rest) == matrix.shape[0] else matrix[rest]
        fractions = np.add.reduceat(others.data != np.floor(others.data), others.indptr[:-1])
        whole[rest] = fractions == 0
    if not filled.any() or len(set(whole[filled].tolist())) > 1:
        return None, whole
    return ("counts" if whole[filled][0] else "lognorm"), whole
