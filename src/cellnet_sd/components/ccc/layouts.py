"""The readings of CCC: what its axes count."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

MAX_PAIRS: Final = 1_000_000
"""More ligand-receptor pairs than this in one file is absurd; the names alone would fill the memory."""

CCCLayoutName = Literal[
    "cells",
    "pairs_by_cells",
    "cells_by_pairs",
    "scores",
    "neighbours",
    "neighbours_by_pairs",
    "groups",
]
"""What `ccc_layout=` may say.

`"cells"`
    `(1, N)`, `(N, 1)` or `(N,)`: the signal of this cell to every cell of its slide or file.
`"pairs_by_cells"`, `"cells_by_pairs"`
    `(P, N)` or `(N, P)`: the same for each of P ligand-receptor pairs or pathways.
`"scores"`
    `(L, R)`, `(P,)` or `(P, 1)`: a score per pair; no axis counts cells.
`"neighbours"`
    `(k, k)` over a list of cells stored with it (or over all N cells): the row of the cell itself is what it sends.
`"neighbours_by_pairs"`
    `(k, P)` over a list of cells stored with it: the signal of this cell to each of them, by pair.
`"groups"`
    A group of matrices, one per pair, each read as `"cells"` or `"neighbours"`.
"""


class Form(StrEnum):
    """What the axes of one stored matrix count."""

    CELLS = "cells"
    PAIRS_BY_CELLS = "pairs_by_cells"
    CELLS_BY_PAIRS = "cells_by_pairs"
    SCORES = "scores"
    NEIGHBOURS = "neighbours"


class Counting(StrEnum):
    """Which cells a cell axis counts."""

    FILE = "file"
    SLIDE = "slide"
    NAMES = "names"
    NOTHING = "nothing"


_PLACES: Final = {
    Counting.FILE: "all cells of the file",
    Counting.SLIDE: "all cells of the slide",
    Counting.NAMES: "the cells listed with it",
}


@dataclass(frozen=True)
class CCCLayout:
    """How CCC is stored in a file.

    Parameters
    ----------
    form
        What the axes of each matrix count.
    counting
        Which cells the cell axis counts; `NOTHING` for scores.
    grouped
        Whether each cell has a group of matrices, one per pair.
    n_pairs
        Number of pairs on the pair axis; `None` if there is no such axis or its length is not stored.
    pairs
        Names of the pairs, `pair_0` onwards if the file does not name them; empty if there are none.
    named
        Whether the file names the pairs.
    """

    form: Form
    counting: Counting
    grouped: bool = False
    n_pairs: int | None = None
    pairs: tuple[str, ...] = ()
    named: bool = False

    @property
    def name(self) -> CCCLayoutName:
        """The word that `ccc_layout=` knows this layout by."""
        if self.grouped:
            return "groups"
        if self.form is Form.CELLS_BY_PAIRS and self.counting is Counting.NAMES:
            return "neighbours_by_pairs"
        return self.form.value

    def describe(self) -> str:
        """Return the layout in plain words."""
        text = self._matrix()
        if self.grouped:
            text = f"a group of matrices, one per ligand-receptor pair, each {text}"
        if self.n_pairs is not None and self.n_pairs > 1 and not self.named:
            text += "; the pairs are not named"
        return f"{text} (ccc_layout={self.name!r})"

    def _matrix(self) -> str:
        place = _PLACES.get(self.counting, "")
        pairs = "pairs" if self.n_pairs is None else f"{self.n_pairs:,} pairs"
        return {
            Form.CELLS: f"the signal of the cell to {place}",
            Form.PAIRS_BY_CELLS: f"{pairs} by {place}",
            Form.CELLS_BY_PAIRS: f"{place} by {pairs}",
            Form.SCORES: f"a score for each of {pairs}, without receiving cells",
            Form.NEIGHBOURS: f"the signals among {place}, of which the cell's own row is taken",
        }[self.form]


def pair_names(n: int) -> tuple[str, ...]:
    """Return names for `n` pairs that the file does not name."""
    return tuple(f"pair_{i}" for i in range(n))


def unique_pairs(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` with `_2`, `_3`, … added to those that came before."""
    seen: dict[str, int] = {}
    taken = set(names)
    unique = []
    for name in names:
        seen[name] = count = seen.get(name, 0) + 1
        candidate = name
        while count > 1 and candidate in taken:
            candidate, count = f"{name}_{count}", count + 1
        taken.add(candidate)
        unique.append(candidate)
    return tuple(unique)
