"""Telling many things of a kind apart at once: rows and lists of integers, and runs of bytes of the file."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def combined(*columns: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Return a code for each distinct row of columns of integers, as they are met, and the first row that has it."""
    key, span = _key(columns)
    if span > len(key):
        codes, distinct = pd.factorize(key)
        return codes.astype(np.int32), _firsts(codes, len(distinct))
    firsts = _firsts(key, span)
    firsts = np.sort(firsts[firsts >= 0])
    number = np.empty(span, np.int32)
    number[key[firsts]] = np.arange(len(firsts))
    return number[key], firsts


def _firsts(codes: NDArray[Any], n_codes: int) -> NDArray[np.intp]:
    """Return the first row of each code, -1 for those that none has."""
    firsts = np.full(n_codes, -1, np.intp)
    firsts[codes[::-1]] = np.arange(len(codes))[::-1]  # the last that is written stays
    return firsts


def _key(columns: tuple[NDArray[Any], ...]) -> tuple[Ints, int]:
    """Return a number for each row of columns, the same for equal rows, and how many numbers there may be."""
    key = np.zeros(len(columns[0]), np.int64)
    span = 1
    for column in columns:
        if not len(column):
            break
        low, high = int(column.min()), int(column.max())
        if high - low >= 2**31:
            column = pd.factorize(column)[0]
            low, high = 0, len(column)
        width = high - low + 1
        if span * width >= 2**62:
            key = pd.factorize(key)[0].astype(np.int64)
            span = len(key)
        if width > 1:
            key = key * width + (column.astype(np.int64) - low)
            span *= width
    return key, span


def combined_lists(counts: Ints, flat: Ints) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Return a code for each distinct list of integers, and the first list that has it; lists follow one another."""
    codes = np.full(len(counts), -1, np.int32)
    starts = np.cumsum(counts) - counts
    firsts: list[NDArray[np.intp]] = []
    n_codes = 0
    for count in np.flatnonzero(np.bincount(counts)).tolist():
        rows = np.flatnonzero(counts == count)
        columns = [flat[starts[rows] + at] for at in range(count)] or [np.zeros(len(rows), np.int64)]
        found, first = combined(*columns)
        codes[rows] = found + n_codes
        firsts.append(rows[first])
        n_codes += len(first)
    return codes, np.concatenate([*firsts, np.empty(0, np.intp)])


def runs_of_equals(ordered: Ints) -> tuple[Ints, Ints]:
    """Return the distinct numbers of a list in which equal ones follow one another, and how often each comes."""
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    return ordered[starts], np.diff(starts, append=len(ordered))


def distinct_runs(data: NDArray[np.uint8], offsets: Ints) -> tuple[NDArray[np.int64], Any]:
    """Return a code for each distinct run of bytes, and the distinct runs as an Arrow array."""
    import pyarrow as pa

    runs = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    encoded = runs.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary
