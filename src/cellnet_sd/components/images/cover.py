"""A thin cover: few of many overlapping windows that together show every pixel that any of them shows.

In dense tissue a pixel lies in hundreds of windows. Reading all of them to see it once would be absurd; the fewest are
hard to find; few are easy: take the windows that alone show a pixel, as those at a ragged border do, for any cover has
them; then go to the first pixel that is not yet shown, take the window over it that shows most of what is not yet
shown, and go on. Windows are given by the pixel of their corner at the top left; all have the same size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Windows of one size.

    Parameters
    ----------
    top, left
        (n,) int64, the pixel at the top left of each.
    height, width
        Of all of them, in pixels.
    """

    top: Ints
    left: Ints
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.top)

    def take(self, at: NDArray[np.intp]) -> "Windows":
        """Return the windows at positions `at`."""
        return Windows(self.top[at], self.left[at], self.height, self.width)

    def moved(self, down: int, right: int) -> "Windows":
        """Return the windows moved by so many pixels."""
        return Windows(self.top + down, self.left + right, self.height, self.width)

    def times_shown(self, shape: tuple[int, int]) -> NDArray[np.int32]:
        """Return how many windows show each pixel of an area of this shape, (H, W)."""
        edges = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
        top, bottom, left, right = self._edges(shape)
        for row, column, sign in ((top, left, 1), (bottom, left, -1), (top, right, -1), (bottom, right, 1)):
            np.add.at(edges, (row, column), sign)
        return edges.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)[:-1, :-1]

    def shown_of(self, marked: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return how many of the pixels that are marked in an area each window shows, (n,)."""
        sums = np.zeros((marked.shape[0] + 1, marked.shape[1] + 1), np.int32)
        marked.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, out=sums[1:, 1:])
        top, bottom, left, right = self._edges(marked.shape)
        return sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]

    def _edges(self, shape: tuple[int, ...]) -> tuple[Ints, Ints, Ints, Ints]:
        """Return top, bottom, left and right of the part of each window that lies in an area."""
        top, bottom = (np.clip(edge, 0, shape[0]) for edge in (self.top, self.top + self.height))
        left, right = (np.clip(edge, 0, shape[1]) for edge in (self.left, self.left + self.width))
        return top, bottom, left, right


def choose_cover(windows: Windows, shape: tuple[int, int]) -> NDArray[np.intp]:
    """Return which windows show all that any of them shows of an area, in the order they were taken.

    Parameters
    ----------
    windows
        The windows, their corners counted from that of the area.
    shape
        Height and width of the area.
    """
    times = windows.times_shown(shape)
    alone = np.flatnonzero(windows.shown_of(times == 1))
    hidden = (times > 0) & (windows.take(alone).times_shown(shape) == 0)
    by_top = np.argsort(windows.top, kind="stable")
    sorted_ = windows.take(by_top)
    chosen: list[int] = []
    row = 0
    while row < shape[0]:
        column = int(hidden[row].argmax())
        if not hidden[row, column]:
            row += 1
            continue
        at = _best(sorted_, hidden, row, column)
        chosen.append(at)
        top, left = max(0, int(sorted_.top[at])), max(0, int(sorted_.left[at]))
        hidden[top : sorted_.top[at] + windows.height, left : sorted_.left[at] + windows.width] = False
    return np.concatenate([alone, by_top[np.array(chosen, np.intp)]])


def _best(windows: Windows, hidden: NDArray[np.bool_], row: int, column: int) -> int:
    """Return the window over a pixel that shows most of what is hidden; they are sorted by `top`."""
    start, stop = np.searchsorted(windows.top, (row - windows.height + 1, row + 1))
    left = windows.left[start:stop]
    over = start + np.flatnonzero((left <= column) & (left > column - windows.width))
    top, left_most = max(0, row - windows.height + 1), max(0, column - windows.width + 1)
    around = hidden[top : row + windows.height, left_most : column + windows.width]
    return int(over[windows.take(over).moved(-top, -left_most).shown_of(around).argmax()])
