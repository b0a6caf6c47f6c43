"""Names that AnnData and SpatialData accept, made from names that they do not.

SpatialData refuses names with other characters than letters, digits, `_`, `-` and `.`, names that start with `__`, and
names that differ only in case (`spatialdata._core.validation`). AnnData reads a slash in a key as a path.
"""

import re
from collections.abc import Iterable, Sequence
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

    Names of a text and a number (`Cell_1`, `aahfknkh-1`) are sorted by Arrow and NumPy, others one by one.
    """
    import pyarrow.compute as pc

    parts = pc.extract_regex(names, "^(?P<text>[^0-9]*)(?P<digits>[0-9]{1,18})$")
    if parts.null_count:
        texts = names.to_pylist()
        return np.array(sorted(range(len(texts)), key=lambda at: natural_key(texts[at])), dtype=np.int64)
    text, digits = parts.flatten()
    encoded = text.dictionary_encode()
    rank = np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist(), dtype=object)))
    number = digits.cast("int64").to_numpy()
    length = pc.utf8_length(digits).to_numpy()
    ties = np.where(number == 0, length, -length)  # "001" < "01" < "1", but "0" < "00"
    return np.lexsort((ties, number, rank[encoded.indices.to_numpy()])).astype(np.int64)
