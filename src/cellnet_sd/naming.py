"""Names that AnnData and SpatialData accept, made from names that they do not.

SpatialData refuses names with other characters than letters, digits, `_`, `-` and `.`, names that start with `__`, and
names that differ only in case (`spatialdata._core.validation`). AnnData reads a slash in a key as a path.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESERVED = frozenset({"", ".", "..", "_index"})


def legal_name(name: str) -> str:
    """Return `name` with every refused character replaced by `_`."""
    legal = "".join(char if char.isalnum() or char in "_-." else "_" for char in name)
    legal = re.sub(r"^__+", "_", legal)
    return f"{legal}_" if legal in _RESERVED else legal


def legal_names(names: Sequence[str], *, taken: Iterable[str] = ()) -> list[str]:
    """Return a legal name for each of `names`, all different from each other and from `taken` even without case.

    A name that clashes with an earlier one gets a suffix: `Tissue`, `tissue` → `Tissue`, `tissue_2`.
    """
    used = {name.lower() for name in taken}
    unique = []
    for name in map(legal_name, names):
        candidate, count = name, 1
        while candidate.lower() in used:
            count += 1
            candidate = legal_name(f"{name}_{count}")  # `_` and its twin: `_2`, not `__2`
        used.add(candidate.lower())
        unique.append(candidate)
    return unique


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

    Names of a text and a number (`Cell_1`, `aahfknkh-1`) are sorted by NumPy, others one by one.
    """
    numbered = _Numbered.of(names)
    if numbered is None:
        texts = names.to_pylist()
        return np.array(sorted(range(len(texts)), key=lambda at: natural_key(texts[at])), dtype=np.int64)
    rank = np.argsort(np.argsort(np.array([*numbered.texts], dtype=object)))
    number, length = numbered.number, numbered.length
    ties = np.where(number == 0, length, -length)  # "001" < "01" < "1", but "0" < "00"
    return np.lexsort((ties, number, rank[numbered.text])).astype(np.int64)


_AT_ONCE = 2**17
_MOST_DIGITS = 18


@dataclass
class _Numbered:
    """Names that are a text without digits and a number: codes of the texts, the numbers, and how long these are."""

    texts: dict[bytes, int]
    """Their codes; in UTF-8, whose bytes have the order of the characters."""
    text: NDArray[np.int32]
    number: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def of(cls, names: Any) -> "_Numbered | None":
        """Take names apart; `None` if one is spelled otherwise."""
        import pyarrow as pa

        n = len(names)
        _, offsets, data = names.cast(pa.large_string()).buffers()
        bounds = np.frombuffer(offsets, np.int64)[names.offset : names.offset + n + 1] if n else np.zeros(1, np.int64)
        chars = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
        found = cls({}, np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int64))
        for start in range(0, n, _AT_ONCE):
            sizes = np.diff(bounds[start : start + _AT_ONCE + 1])
            for size in np.unique(sizes).tolist():
                rows = start + np.flatnonzero(sizes == size)
                if not found._take(rows, chars[bounds[rows][:, None] + np.arange(size)]):
                    return None
        return found

    def _take(self, rows: NDArray[np.int64], chars: NDArray[np.uint8]) -> bool:
        """Take names of one size apart, (n, size); whether all are a text and a number."""
        is_digit = (chars >= ord("0")) & (chars <= ord("9"))
        length = np.logical_and.accumulate(is_digit[:, ::-1], axis=1).sum(axis=1)
        others = is_digit.sum(axis=1) != length
        if others.any() or (length == 0).any() or (length > _MOST_DIGITS).any() or not chars.all():
            return False
        self.length[rows] = length
        for n_digits in np.unique(length).tolist():
            own = length == n_digits
            digits = chars[own, -n_digits:].astype(np.int64) - ord("0")
            self.number[rows[own]] = digits @ 10 ** np.arange(n_digits)[::-1]
            self.text[rows[own]] = self._codes(chars[own, :-n_digits])
        return True

    def _codes(self, chars: NDArray[np.uint8]) -> NDArray[np.int32]:
        if not chars.shape[1]:
            return np.full(len(chars), self.texts.setdefault(b"", len(self.texts)), np.int32)
        texts, codes = np.unique(np.ascontiguousarray(chars).view(f"S{chars.shape[1]}"), return_inverse=True)
        return np.array([self.texts.setdefault(text, len(self.texts)) for text in texts.tolist()], np.int32)[
            codes.reshape(-1)
        ]
