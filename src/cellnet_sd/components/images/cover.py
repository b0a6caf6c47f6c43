"""A thin cover: few of many overlapping windows that together show every pixel that any of them shows.

In dense tissue a pixel lies in hundreds of windows. Reading all of them to see it once would be absurd; the fewest are
hard to find; few are easy: go to the first pixel that is not yet shown, take the window over it that reaches furthest
right and down, and go on. Windows are given by the pixel of their corner at the top left; all have the same size.
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

    def shown(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return which pixels of an area of this shape any window shows, (H, W)."""
        edges = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
        top, bottom = (np.clip(edge, 0, shape[0]) for edge in (self.top, self.top + self.height))
        left, right = (np.clip(edge, 0, shape[1]) for edge in (self.left, self.left + self.width))
        for row, column, sign in ((top, left, 1), (bottom, left, -1), (top, right, -1), (bottom, right, 1)):
            np.add.at(edges, (row, column), sign)
        return np.asarray(edges.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0)


def choose_cover(windows: Windows, shape: tuple[int, int]) -> NDArray[np.intp]:
    """Return which windows show all that any of them shows of an area, in the order they were taken.

    Parameters
    ----------
    windows
        The windows, their corners counted from that of the area.
    shape
        Height and width of the area.
    """
    hidden = windows.shown(shape)
    by_top = np.argsort(windows.top, kind="stable")
    sorted_ = windows.take(by_top)
    chosen: list[int] = []
    row = 0
    while row < shape[0]:
        column = int(hidden[row].argmax())
        if not hidden[row, column]:
            row += 1
            continue
        at = _furthest(sorted_, row, column)
        chosen.append(at)
        top, left = max(0, int(sorted_.top[at])), max(0, int(sorted_.left[at]))
        hidden[top : sorted_.top[at] + windows.height, left : sorted_.left[at] + windows.width] = False
    return by_top[np.array(chosen, np.intp)]


def _furthest(windows: Windows, row: int, column: int) -> int:
    """Return the window over a pixel that shows most of what lies right of it and below; they are sorted by `top`."""
    start, stop = np.searchsorted(windows.top, (row - windows.height + 1, row + 1))
    down, right = windows.top[start:stop] - row, windows.left[start:stop] - column
    reach = np.where((right <= 0) & (right > -windows.width), (windows.height + down) * (windows.width + right), -1)
    return int(start + reach.argmax())
