"""Patches truly cropped from the slide, so that overlapping windows agree pixel for pixel."""

from collections.abc import Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

WHITE: Final = 255
Image = NDArray[np.uint8]


class Crops(Sequence[Image]):
    """A window of `side` pixels around each cell, cut when asked for; white beyond the slide.

    Parameters
    ----------
    slide
        (H, W, 3) uint8.
    xy
        (n, 2) centres, x then y. A window covers rows `y - side // 2` to `y - side // 2 + side`; columns likewise.
    side
        Height and width, px.
    """

    def __init__(self, slide: Image, xy: NDArray[np.int64], side: int) -> None:
        self._slide, self._xy, self._side = slide, xy, side

    def __len__(self) -> int:
        return len(self._xy)

    @overload
    def __getitem__(self, row: int) -> Image: ...
    @overload
    def __getitem__(self, row: slice) -> "Crops": ...
    def __getitem__(self, row: int | slice) -> "Image | Crops":
        if isinstance(row, slice):
            return Crops(self._slide, self._xy[row], self._side)
        left, top = (self._xy[row] - self._side // 2).tolist()
        height, width = self._slide.shape[:2]
        if left >= 0 and top >= 0 and left + self._side <= width and top + self._side <= height:
            return self._slide[top : top + self._side, left : left + self._side]
        window = np.full((self._side, self._side, 3), WHITE, dtype=np.uint8)
        rows = slice(max(top, 0), min(top + self._side, height))
        columns = slice(max(left, 0), min(left + self._side, width))
        window[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = self._slide[
            rows, columns
        ]
        return window


def shrink(slide: Image, block: int) -> Image:
    """Return the means of whole blocks, `block` pixels high and wide, uint8."""
    height, width = slide.shape[0] // block, slide.shape[1] // block
    blocks = slide.reshape(height, block, width, block, 3)
    return blocks.mean(axis=(1, 3), dtype=np.float32).round().astype(np.uint8)
