"""What reading the CCC of one cell takes to know of the other cells of the file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.ccc.layouts import CCCLayoutName, Counting
from cellnet_sd.components.sparse import MalformedValueError

_SEVERAL: Final = -1
_WHOLE_FILE: Final = -1


@dataclass(frozen=True)
class CCCContext:
    """The cells of a file, by row, slide and name.

    Parameters
    ----------
    n_file
        Number of cells of the file.
    slide_of_row
        Slide code of each row, int32 `(n_file,)`.
    rows_of_slide
        Rows of each slide, int64, in the order of the file.
    names
        Bare cell names in row order, or a function that returns them, called at most once, when CCC lists cells.
        Names may repeat from slide to slide.
    pair_names
        Names of the pairs, as stored at the root or container (`layout.PAIR_KEYS`).
    override
        `ccc_layout=`: what the user, or the file, says the layout is.
    file
        Name of the file, for messages.
    """

    n_file: int
    slide_of_row: NDArray[np.int32]
    rows_of_slide: Sequence[NDArray[np.int64]]
    names: Sequence[str] | Callable[[], Sequence[str]]
    pair_names: tuple[str, ...] | None = None
    override: CCCLayoutName | None = None
    file: str = "the file"
    _cache: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def slide_rows(self, row: int) -> NDArray[np.int64]:
        """Return the rows of the slide of the cell at `row`."""
        return self.rows_of_slide[int(self.slide_of_row[row])]

    def n_cells(self, row: int, counting: Counting) -> int:
        """Return the length of a cell axis that counts the cells of the file, or of the slide of `row`."""
        return len(self.slide_rows(row)) if counting is Counting.SLIDE else self.n_file

    def all_names(self) -> Sequence[str]:
        """Return the bare names of all cells in row order."""
        return self._listed

    @cached_property
    def _listed(self) -> Sequence[str]:
        return self.names() if callable(self.names) else self.names

    def rows_of_cells(self, cells: Sequence[str] | NDArray[np.int64], row: int) -> NDArray[np.int64]:
        """Return the rows of the cells that the CCC of the cell at `row` lists.

        Names are looked up in the cell's own slide first, then in the file. Numbers are rows, unless the cell's own
        name is a number.

        Raises
        ------
        MalformedValueError
            If a cell is not in the file, is listed twice, or its name belongs to several.
        """
        if isinstance(cells, np.ndarray) and not self.all_names()[row].isdigit():
            rows = self._checked(cells)
        else:
            rows = np.array([self._row_of(str(cell), row) for cell in cells], dtype=np.int64)
        if len(np.unique(rows)) < len(rows):
            msg = "a cell is listed twice among the cells that CCC is about"
            raise MalformedValueError(msg)
        return rows

    def _checked(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        outside = rows[(rows < 0) | (rows >= self.n_file)]
        if len(outside):
            msg = f"the listed cell {outside[0]} is outside the {self.n_file:,} cells of the file"
            raise MalformedValueError(msg)
        return rows

    def _row_of(self, name: str, row: int) -> int:
        slide = int(self.slide_of_row[row])
        found = self._lookup(slide).get(name)
        if found is None:
            found = self._lookup(_WHOLE_FILE).get(name)
        if found is None:
            msg = f"the listed cell {name!r} is not in the file"
            raise MalformedValueError(msg)
        if found == _SEVERAL:
            msg = f"the listed cell {name!r} is the name of several cells"
            raise MalformedValueError(msg)
        return found

    def _lookup(self, slide: int) -> Mapping[str, int]:
        if slide not in self._cache:
            rows = range(self.n_file) if slide == _WHOLE_FILE else self.rows_of_slide[slide].tolist()
            names = self.all_names()
            found: dict[str, int] = {}
            for row in rows:
                name = names[row]
                found[name] = _SEVERAL if name in found else row
            self._cache[slide] = found
        lookup: Mapping[str, int] = self._cache[slide]
        return lookup
