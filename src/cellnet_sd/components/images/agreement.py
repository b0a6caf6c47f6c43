"""Whether tissue patches agree about the slide that is rebuilt from them, told by a sample of pairs that overlap.

A pixel of the slide comes from one of the patches over it, and is right for all of them if they agree. So it does not
matter which of them the slide is made from: any two that overlap may tell that they do not, whether one of them is left
out or, as in sparse tissue, both are used and one is drawn over the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.settings import settings

if TYPE_CHECKING:
    from cellnet_sd.components.images.mosaic import Mosaic

Ints = NDArray[np.int64]
_PAIRS_COMPARED: Final = 64
_LOOKED_AT: Final = 256
"""Patches for which another one that overlaps is looked for: in sparse tissue, many have none."""


@dataclass(frozen=True)
class Agreement:
    """How far the patches that a slide is rebuilt from agree with each other.

    Parameters
    ----------
    patches, pixels
        How many were compared with another one, and how many pixels they share with it.
    differing
        How many of the pixels differ in any channel.
    largest
        The largest difference of a value.
    """

    patches: int = 0
    pixels: int = 0
    differing: int = 0
    largest: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against the slide."""
        return self.differing == 0

    @property
    def words(self) -> str:
        """The finding, to follow "the slide rebuilt from tissue patches"."""
        if not self.patches:
            return "shows every patch as it is: none that was looked at overlaps another"
        sample = f"{self.patches:,} patches where others overlap them ({self.pixels:,} pixels)"
        if self.is_good:
            return f"agrees pixel for pixel with {sample}"
        share = self.differing / self.pixels
        return f"differs from {sample} in {share:.2%} of the pixels, by up to {self.largest:g}"


def compare(mosaic: "Mosaic") -> Agreement:
    """Compare patches all over a slide, each with another one that overlaps it.

    Raises
    ------
    MalformedCellError
        If a patch cannot be read.
    """
    pixels = differing = patches = 0
    largest = 0.0
    for difference in _differences(mosaic, overlapping_pairs(mosaic)):
        patches += 1
        pixels += difference.shape[0] * difference.shape[1]
        differing += int(difference.any(axis=2).sum())
        largest = max(largest, float(difference.max(initial=0)))
    return Agreement(patches, pixels, differing, largest)


def overlapping_pairs(mosaic: "Mosaic") -> Ints:
    """Return windows of a mosaic that overlap, (n, 2): up to a bounded number, spread evenly over its blocks."""
    found = (_pair(mosaic, at, over, turn) for turn, (at, over) in enumerate(_spread(mosaic)))
    pairs = list(dict.fromkeys(pair for pair in found if pair is not None))
    kept = np.unique(np.linspace(0, len(pairs) - 1, min(_PAIRS_COMPARED, len(pairs))).astype(int))
    return np.array(pairs, np.int64).reshape(-1, 2)[kept]


def _spread(mosaic: "Mosaic") -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield windows that are spread over the blocks, each with all that reach into its block.

    Blocks that hold any have equal shares, however full they are. Within its share of the way over all blocks, each
    lies where chance, always the same, has it: equal steps could keep to one column of blocks.
    """
    windows, starts = mosaic.by_block
    counts = np.diff(starts)
    filled = np.flatnonzero(counts)
    n = min(_LOOKED_AT, int(counts.sum()))
    way = (np.arange(n) + np.random.default_rng(0).random(n)) * (len(filled) / n)
    for block, part in zip(filled[way.astype(int)].tolist(), (way % 1).tolist(), strict=True):
        over = windows[starts[block] : starts[block + 1]]
        yield int(over[int(part * len(over))]), over


def _pair(mosaic: "Mosaic", at: int, over: NDArray[np.intp], turn: int) -> tuple[int, int] | None:
    """Return a window and, of those over its block, the one that overlaps it about half a window away.

    Close neighbours share more pixels, but are often off by the same. Turns take it up or down, left or right.
    """
    windows = mosaic.windows
    down, right = windows.top[over] - windows.top[at], windows.left[over] - windows.left[at]
    height, width = windows.height, windows.width
    fits = (np.abs(down) < height) & (np.abs(right) < width) & (over != at)
    if not fits.any():
        return None
    vertical, horizontal = (-1 if turn & 1 else 1), (-1 if turn & 2 else 1)
    away = np.abs(2 * down - vertical * height) + np.abs(2 * right - horizontal * width)
    other = int(over[np.where(fits, away, np.iinfo(np.int64).max).argmin()])
    return min(at, other), max(at, other)


def _differences(mosaic: "Mosaic", pairs: Ints) -> Iterator[NDArray[np.float64]]:
    """Yield how far the windows of each pair differ where they overlap, (y, x, c)."""
    size = max(1, settings.batch_bytes // (2 * mosaic.frame.nbytes))
    for start in range(0, len(pairs), size):
        batch = pairs[start : start + size]
        patches = dict(mosaic.patches(np.unique(batch)))
        for one, other in batch.tolist():
            if one in patches and other in patches:
                yield np.abs(_shared(mosaic, patches, one, other) - _shared(mosaic, patches, other, one))


def _shared(mosaic: "Mosaic", patches: dict[int, NDArray[Any]], one: int, other: int) -> NDArray[np.float64]:
    """Return what a window shows of another one."""
    windows = mosaic.windows
    down, right = int(windows.top[other] - windows.top[one]), int(windows.left[other] - windows.left[one])
    rows = slice(max(0, down), min(windows.height, windows.height + down))
    columns = slice(max(0, right), min(windows.width, windows.width + right))
    return patches[one][rows, columns].astype(np.float64)
