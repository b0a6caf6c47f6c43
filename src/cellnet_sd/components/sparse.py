"""Sparse matrices and vectors as HDF5 files spell them: the one place that knows the encodings.

Accepted, each as a `Raw`:

- AnnData CSR and CSC groups: `data`, `indices`, `indptr` with the attributes `encoding-type` and `shape`; also the
  older `h5sparse_format` and `h5sparse_shape`, and `format` and `shape` as SciPy's `save_npz` names them;
- 10x-like: `data`, `indices`, `indptr`, `shape` and no word on the format. The length of `indptr` tells the format; a
  square matrix is column-wise, as 10x writes it;
- `data`, `indices`, `indptr` and nothing else: rows by `indptr`, number of columns unknown;
- coordinates: `row`, `col`, `data`, with or without `shape`;
- a sparse vector: `data`, `indices`, with or without `shape`;
- a dense dataset of one or two axes. A vector is one row.

What is stored is not repaired: lengths that disagree, indices out of range, entries stored twice and values that are
not finite are malformed. Explicit zeros are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.sources.base import Raw

_COMPRESSED: Final = frozenset(("data", "indices", "indptr"))
_COORDINATE: Final = frozenset(("data", "row", "col"))
_VECTOR: Final = frozenset(("data", "indices"))
_FORMAT_KEYS: Final = ("encoding-type", "h5sparse_format", "format")
_SHAPE_KEYS: Final = ("shape", "h5sparse_shape")
_FORMATS: Final = {"csr": "csr", "csr_matrix": "csr", "csc": "csc", "csc_matrix": "csc"}
_UNBOUNDED: Final = np.iinfo(np.int64).max


class MalformedValueError(ValueError):
    """A stored value is not what it should be; the message is the reason, to be reported with its cell."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Entries of one matrix by row and column, as stored and in stored order.

    Parameters
    ----------
    row, col
        int64, one per stored entry.
    data
        The values, in their stored dtype.
    shape
        Rows and columns; `None` where the file does not say how many.
    """

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    data: NDArray[Any]
    shape: tuple[int | None, int | None]

    @property
    def transposed(self) -> "Coordinates":
        """The same entries with rows and columns exchanged."""
        return Coordinates(self.col, self.row, self.data, self.shape[::-1])


def is_sparse_group(raw: Raw) -> bool:
    """Whether `raw` is a group with the members of a sparse encoding."""
    return raw.is_group and (raw.members.keys() >= _VECTOR or raw.members.keys() >= _COORDINATE)


def coordinates_from_raw(raw: Raw) -> Coordinates:
    """Return the entries of a stored matrix; checks its structure, not its entries (see `faults`).

    Raises
    ------
    MalformedValueError
        If no encoding fits, or the members contradict each other.
    """
    if raw.value is not None:
        return _dense(raw.value)
    members = raw.members.keys()
    if members >= _COMPRESSED:
        return _compressed(raw)
    if members >= _COORDINATE:
        return _coordinate(raw)
    if members >= _VECTOR:
        return _vector(raw)
    msg = f"a group of {', '.join(members) or 'nothing'} is no sparse matrix"
    raise MalformedValueError(msg)


def vector_from_raw(raw: Raw, length: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return indices (ascending) and values (stored dtype) of a stored vector, `(1, n)` or `(n, 1)`, of `length` n.

    Raises
    ------
    MalformedValueError
        With the reason; also if the stored length is another.
    """
    entries = coordinates_from_raw(raw)
    if entries.shape[0] not in (1, None) or entries.shape[1] not in (length, None):
        entries = entries.transposed
    if entries.shape[0] not in (1, None) or entries.shape[1] not in (length, None):
        msg = f"shape {describe_shape(entries.transposed.shape)} where a vector of {length:,} is expected"
        raise MalformedValueError(msg)
    entries = _checked(Coordinates(entries.row, entries.col, entries.data, (1, length)))
    order = np.argsort(entries.col, kind="stable")
    return entries.col[order], entries.data[order]


def faults(matrices: Sequence[Coordinates]) -> dict[int, str]:
    """Check the entries of many matrices at once: indices in range, values finite, no entry stored twice.

    Returns
    -------
    dict
        The reason, by position in `matrices`, for each matrix that fails; its first failure counts.
    """
    if not matrices:
        return {}
    owner = np.repeat(np.arange(len(matrices)), [len(m.data) for m in matrices])
    row = np.concatenate([m.row for m in matrices])
    col = np.concatenate([m.col for m in matrices])
    bounds = np.array([[_UNBOUNDED if n is None else n for n in m.shape] for m in matrices], dtype=np.int64)
    reasons = {
        **_repeated(owner, row, col),
        **_not_finite(owner, matrices),
        **_out_of_range(owner, col, bounds[:, 1], "column"),
        **_out_of_range(owner, row, bounds[:, 0], "row"),
    }
    return dict(sorted(reasons.items()))


def describe_shape(shape: tuple[int | None, ...]) -> str:
    """Return a shape as text, `?` for an unknown length."""
    return f"({', '.join('?' if n is None else str(n) for n in shape)})"


def as_text(value: Any) -> str:
    """Return a stored string (`str`, `bytes`, or an array of one) as `str`.

    Raises
    ------
    MalformedValueError
        If it is not one string, or not UTF-8.
    """
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            msg = f"text that is not UTF-8: {value[:40]!r}"
            raise MalformedValueError(msg) from error
    if isinstance(value, str):
        return value
    msg = f"{type(value).__name__} where text is expected"
    raise MalformedValueError(msg)


# --- entries ---------------------------------------------------------------------------------------------------------


def _checked(entries: Coordinates) -> Coordinates:
    reasons = faults([entries])
    if reasons:
        raise MalformedValueError(reasons[0])
    return entries


def _first_per_owner(owner: NDArray[np.int64], bad: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    owners, first = np.unique(owner[bad], return_index=True)
    return owners, bad[first]


def _out_of_range(
    owner: NDArray[np.int64], index: NDArray[np.int64], bounds: NDArray[np.int64], axis: str
) -> dict[int, str]:
    bad = np.flatnonzero((index < 0) | (index >= bounds[owner]))
    owners, at = _first_per_owner(owner, bad)
    return {
        int(o): f"{axis} index {index[i]} is outside the {bounds[o]:,} {axis}s"
        if bounds[o] != _UNBOUNDED
        else f"{axis} index {index[i]} is negative"
        for o, i in zip(owners, at, strict=True)
    }


def _not_finite(owner: NDArray[np.int64], matrices: Sequence[Coordinates]) -> dict[int, str]:
    bad = np.flatnonzero(~np.isfinite(np.concatenate([m.data for m in matrices])))
    return {int(o): "a value is NaN or infinite" for o in np.unique(owner[bad])}


def _repeated(owner: NDArray[np.int64], row: NDArray[np.int64], col: NDArray[np.int64]) -> dict[int, str]:
    later = _follows(owner, row, col)
    if later.all():
        return {}
    order = np.lexsort((col, row, owner))
    owner, row, col = owner[order], row[order], col[order]
    owners, at = _first_per_owner(owner, np.flatnonzero(~_follows(owner, row, col)))
    return {int(o): f"entry ({row[i]}, {col[i]}) is stored twice" for o, i in zip(owners, at, strict=True)}


def _follows(owner: NDArray[np.int64], row: NDArray[np.int64], col: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each entry but the last stands strictly before the next, by owner, row and column."""
    column = col[1:] > col[:-1]
    line = (row[1:] > row[:-1]) | ((row[1:] == row[:-1]) & column)
    follows: NDArray[np.bool_] = (owner[1:] > owner[:-1]) | ((owner[1:] == owner[:-1]) & line)
    return follows


# --- encodings -------------------------------------------------------------------------------------------------------


def _dense(value: NDArray[Any]) -> Coordinates:
    if value.ndim not in (1, 2):
        msg = f"a dataset of {value.ndim} axes where a matrix or vector is expected"
        raise MalformedValueError(msg)
    value = _numbers(value, "the dataset").reshape(-1, value.shape[-1]) if value.size else np.zeros(_row_shape(value))
    row, col = np.nonzero(value)
    return Coordinates(row.astype(np.int64), col.astype(np.int64), value[row, col], value.shape)


def _row_shape(value: NDArray[Any]) -> tuple[int, int]:
    return (1, value.shape[0]) if value.ndim == 1 else (value.shape[0], value.shape[1])


def _compressed(raw: Raw) -> Coordinates:
    data, indices = _pair_of(raw, "indices")
    indptr = _integers(raw, "indptr")
    if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != len(indices):
        msg = f"indptr does not run from 0 to the {len(indices):,} stored entries"
        raise MalformedValueError(msg)
    counts = indptr[1:] - indptr[:-1]
    if len(counts) and counts.min() < 0:
        msg = "indptr decreases"
        raise MalformedValueError(msg)
    major = np.repeat(np.arange(len(counts)), counts)
    shape = stored_shape(raw)
    if _format(raw, shape, len(counts)) == "csc":
        return Coordinates(indices, major, data, (shape[0] if shape else None, len(counts)))
    return Coordinates(major, indices, data, (len(counts), shape[1] if shape else None))


def _format(raw: Raw, shape: tuple[int, int] | None, n_major: int) -> str:
    stated = stored_format(raw)
    if shape is None:
        return stated or "csr"
    fitting = [name for name, length in zip(("csr", "csc"), shape, strict=True) if length == n_major]
    if stated is not None and stated in fitting:
        return stated
    if stated is not None or not fitting:
        msg = f"indptr has {n_major + 1:,} entries, which does not fit {stated or 'any format'} of shape {shape}"
        raise MalformedValueError(msg)
    return "csc" if shape[0] == shape[1] else fitting[0]


def stored_format(raw: Raw) -> str | None:
    """Return the format that a group states, `"csr"` or `"csc"`; `None` if it states none.

    Raises
    ------
    MalformedValueError
        If it is another.
    """
    for key in _FORMAT_KEYS:
        value = raw.attrs.get(key)
        if value is None and key in raw.members:
            value = raw.members[key].value
        if value is not None:
            return _known_format(as_text(value))
    return None


def _known_format(text: str) -> str:
    if text not in _FORMATS:
        msg = f"sparse format {text!r}, where csr_matrix or csc_matrix is expected"
        raise MalformedValueError(msg)
    return _FORMATS[text]


def _coordinate(raw: Raw) -> Coordinates:
    data, row = _pair_of(raw, "row")
    _, col = _pair_of(raw, "col")
    return Coordinates(row, col, data, stored_shape(raw) or (None, None))


def _vector(raw: Raw) -> Coordinates:
    data, indices = _pair_of(raw, "indices")
    shape = stored_shape(raw)
    if shape is not None and 1 not in shape:
        msg = f"data and indices without indptr, where the shape is {shape}"
        raise MalformedValueError(msg)
    entries = Coordinates(np.zeros(len(indices), dtype=np.int64), indices, data, (1, max(shape) if shape else None))
    if shape is None or shape[0] == 1:
        return entries
    return Coordinates(indices, entries.row, data, shape)


def stored_shape(raw: Raw) -> tuple[int, int] | None:
    """Return the shape that a group states; `None` if it states none.

    Raises
    ------
    MalformedValueError
        If it is no shape.
    """
    for key in _SHAPE_KEYS:
        value = raw.attrs.get(key)
        if value is None and key in raw.members:
            value = raw.members[key].value
        if value is not None:
            return _as_shape(np.asarray(value))
    return None


def _as_shape(value: NDArray[Any]) -> tuple[int, int]:
    lengths = value.reshape(-1).tolist()
    if value.dtype.kind not in "iu" or len(lengths) not in (1, 2) or min(lengths) < 0 or max(lengths) > _UNBOUNDED:
        msg = f"shape {lengths!r}, where one or two lengths are expected"
        raise MalformedValueError(msg)
    return (1, lengths[0]) if len(lengths) == 1 else (lengths[0], lengths[1])


# --- members ---------------------------------------------------------------------------------------------------------


def _pair_of(raw: Raw, index: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    data = _numbers(_flat(raw, "data"), "data")
    indices = _integers(raw, index)
    if len(data) != len(indices):
        msg = f"{len(data):,} values in data, {len(indices):,} in {index}"
        raise MalformedValueError(msg)
    return data, indices


def _flat(raw: Raw, name: str) -> NDArray[Any]:
    value = raw.members[name].value
    if value is None or value.ndim != 1:
        msg = f"{name} is {'a group' if value is None else f'of {value.ndim} axes'}, where a list is expected"
        raise MalformedValueError(msg)
    return value


def _numbers(value: NDArray[Any], what: str) -> NDArray[Any]:
    if value.dtype.kind not in "biuf":
        msg = f"{what} holds {value.dtype}, where real numbers are expected"
        raise MalformedValueError(msg)
    return value


def _integers(raw: Raw, name: str) -> NDArray[np.int64]:
    value = _flat(raw, name)
    if value.size and value.dtype.kind not in "iu":
        msg = f"{name} holds {value.dtype}, where integers are expected"
        raise MalformedValueError(msg)
    if value.dtype == np.uint64 and value.size and value.max() > _UNBOUNDED:
        msg = f"{name} holds {value.max()}, beyond any index"
        raise MalformedValueError(msg)
    return value.astype(np.int64, copy=False)
