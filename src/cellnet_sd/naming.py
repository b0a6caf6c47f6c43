"""Names that AnnData and SpatialData accept, made from names that they do not.

SpatialData refuses names with other characters than letters, digits, `_`, `-` and `.`, names that start with `__`, and
names that differ only in case (`spatialdata._core.validation`). AnnData reads a slash in a key as a path.
"""

import re
from collections.abc import Iterable, Sequence

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
    counts: dict[str, int] = {}
    unique = []
    for name in map(legal_name, names):
        candidate, count = name, counts.get(name.lower(), 1)
        while candidate.lower() in used:
            count += 1
            candidate = legal_name(f"{name}_{count}")  # `_` and its twin: `_2`, not `__2`
        counts[name.lower()] = count
        used.add(candidate.lower())
        unique.append(candidate)
    return unique
