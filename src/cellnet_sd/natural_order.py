"""The natural order of names, in which `Cell_999` comes before `Cell_1000`: of millions at once, by NumPy.

Most names of a file are of one form, and the order of their bytes is theirs; a few others are put in their places one
by one. Names of many forms become bytes that have the order of their keys.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.buffers import bytes_of

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[tuple[str, int, str, str], ...]:
    """Return a sort key by which `Cell_999` comes before `Cell_1000`; ties (`a01`, `a1`) are settled by the text.

    Numbers are compared as text of equal length, so that no run of digits is too long.
    """
    parts = _DIGITS.split(name)
    pairs = zip(parts[::2], [*parts[1::2], ""], strict=True)
    return tuple((text, len(digits.lstrip("0")), digits.lstrip("0"), digits) for text, digits in pairs)


def natural_order(names: Any) -> NDArray[np.int64]:
    """Return the order of names, an Arrow array of strings, by `natural_key`.

    They are sorted by NumPy, as bytes that have the order of the keys; names too odd for that are sorted by Python.
    """
    import pyarrow as pa

    names = names.cast(pa.large_string())
    chars, bounds = bytes_of(names)
    alike = _are_alike(chars, bounds)
    if np.count_nonzero(~alike) <= _FEW:
        rows = np.flatnonzero(alike)
        return _with_odd(rows[_order(_own_bytes(chars, bounds, alike))], np.flatnonzero(~alike), names)
    keys = _sort_keys(chars, bounds)
    if keys is None:
        texts = names.to_pylist()
        return np.array(sorted(range(len(texts)), key=lambda at: natural_key(texts[at])), dtype=np.int64)
    return _order(keys)


_AT_ONCE = 2**17
_FEW = 64
"""Names of another form than most that are put in their places one by one."""
_WIDEST = 256
"""Bytes of a key, of whose numbers the lengths are one byte."""
_MOST_ZEROS = 255
"""Zeros before a number: one byte too."""


def _order(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the order of keys (n, w), each of several numbers."""
    differing = [column for column in keys.T[::-1] if (column != column[:1]).any()]
    is_sorted = np.ones(max(len(keys) - 1, 0), bool)
    for column in differing:
        is_sorted = (column[:-1] < column[1:]) | ((column[:-1] == column[1:]) & is_sorted)
    return np.arange(len(keys)) if is_sorted.all() else np.lexsort(differing).astype(np.int64)


# --- names of one form -----------------------------------------------------------------------------------------------


def _are_alike(chars: NDArray[np.uint8], bounds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which names are as long as the middle one, and have digits just where it has some: most of a file do.

    The order of their bytes is theirs.
    """
    widths, middle = np.diff(bounds), len(bounds) // 2 - 1
    if not len(widths) or not 0 < (width := int(widths[middle])) <= _WIDEST:
        return np.zeros(len(widths), bool)
    form = _are_digits(chars[bounds[middle] : bounds[middle + 1]])
    alike = widths == width
    for start in range(0, len(widths), _AT_ONCE):
        part = alike[start : start + _AT_ONCE]
        own = _own_chars(chars, bounds[start : start + _AT_ONCE + 1], part)
        same = _are_digits(own.reshape(-1, width)) == form
        part[part] = same.all() or same.all(axis=1)
    return alike


def _own_chars(chars: NDArray[np.uint8], bounds: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the bytes of the chosen names."""
    own = chars[bounds[0] : bounds[-1]]
    return own if chosen.all() else own[np.repeat(chosen, np.diff(bounds))]


def _own_bytes(chars: NDArray[np.uint8], bounds: NDArray[np.int64], alike: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return the bytes of names that are alike as keys (n, w), padded with zeros."""
    own, n = _own_chars(chars, bounds, alike), int(np.count_nonzero(alike))
    width = len(own) // max(n, 1)
    keys = np.zeros((n, -(-width // 8) * 8), np.uint8)
    keys[:, :width] = own.reshape(n, width)
    return keys.view(">u8").astype(np.uint64)


def _with_odd(order: NDArray[np.int64], odd: NDArray[np.int64], names: Any) -> NDArray[np.int64]:
    """Return an order of names with those that are still to be put in their places."""

    def key(at: int) -> tuple[tuple[str, int, str, str], ...]:
        return natural_key(names[int(at)].as_py())

    rows = sorted(odd.tolist(), key=key)
    return np.insert(order, [bisect_right(order, key(row), key=key) for row in rows], rows)


# --- names of all kinds ----------------------------------------------------------------------------------------------


def _sort_keys(chars: NDArray[np.uint8], bounds: NDArray[np.int64]) -> NDArray[np.uint64] | None:
    """Return a key for each name, (n, w), its bytes as numbers; `None` if one is too long or has a NUL."""
    n = len(bounds) - 1
    parts = []
    for start in range(0, n, _AT_ONCE):
        ends = bounds[start : start + _AT_ONCE + 1]
        part = _key_bytes(chars[ends[0] : ends[-1]], ends - ends[0])
        if part is None:
            return None
        parts.append(part.view(">u8").astype(np.uint64))
    keys = np.zeros((n, max(own.shape[1] for own in parts)), np.uint64)
    for number, own in enumerate(parts):
        keys[number * _AT_ONCE :][: len(own), : own.shape[1]] = own
    return keys


def _are_digits(chars: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return chars - np.uint8(ord("0")) < 10  # those before it come out large


def _key_bytes(chars: NDArray[np.uint8], bounds: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    """Return bytes, padded with zeros, that are in the order of `natural_key`.

    Of each text and number: the text, 0, one more than the digits of the number, these, and a byte for the zeros before
    it. UTF-8 has the order of the characters. A name ends with a text, so the last number is none.
    """
    runs = _DigitRuns.of(chars, bounds)
    if runs.n_zeros.max(initial=0) > _MOST_ZEROS:
        return None
    kept = runs.kept(len(chars))
    before, after = np.zeros(len(chars), np.int8), np.zeros(len(chars), np.int8)
    before[runs.start], after[runs.end - 1] = 2, 1
    place = np.concatenate([[0], np.cumsum(before + kept + after, dtype=np.int64)])  # of all keys in a row
    sizes = np.diff(place[bounds]) + 3
    if sizes.max() > _WIDEST or not chars.all():
        return None
    keys = np.zeros((len(sizes), -(-int(sizes.max()) // 8) * 8), np.uint8)
    shift = np.arange(len(sizes)) * keys.shape[1] - place[bounds[:-1]]
    flat, shifts = keys.reshape(-1), np.repeat(shift, np.diff(bounds))
    flat[(place[:-1] + before + shifts)[kept]] = chars[kept]
    flat[place[runs.start] + 1 + shifts[runs.start]] = runs.n_digits + 1
    flat[place[runs.end] - 1 + shifts[runs.start]] = np.where(
        runs.n_digits > 0, _MOST_ZEROS - runs.n_zeros, runs.n_zeros
    )
    flat[place[bounds[1:]] + 1 + shift] = 1
    return keys


@dataclass
class _DigitRuns:
    """Runs of digits in names that lie one after another: where they start and end, the zeros in front, the rest."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    n_zeros: NDArray[np.int64]

    @property
    def n_digits(self) -> NDArray[np.int64]:
        """Digits without the zeros in front."""
        return self.end - self.start - self.n_zeros

    @classmethod
    def of(cls, chars: NDArray[np.uint8], bounds: NDArray[np.int64]) -> "_DigitRuns":
        is_digit = np.zeros(len(chars) + 2, bool)
        is_digit[1:-1] = _are_digits(chars)
        is_edge = np.zeros(len(chars) + 1, bool)
        is_edge[bounds] = True
        start = np.flatnonzero(is_digit[1:] & (is_edge | ~is_digit[:-1]))
        end = np.flatnonzero(is_digit[:-1] & (is_edge | ~is_digit[1:]))
        other = np.append(np.flatnonzero(chars != ord("0")), len(chars))
        return cls(start, end, np.minimum(other[np.searchsorted(other, start)], end) - start)

    def kept(self, n: int) -> NDArray[np.bool_]:
        """Tell which of all characters are no zeros in front of a number."""
        step, led = np.zeros(n + 1, np.int8), self.n_zeros > 0
        step[self.start[led]] += 1
        step[(self.start + self.n_zeros)[led]] -= 1
        return np.cumsum(step[:-1], dtype=np.int8) == 0
