"""The slide, rebuilt from the tissue patches that were cut from it.

Each patch is a window of 200 µm around a cell, so in dense tissue every pixel is stored about 400 times. The slide is
laid out in blocks; a block is made, when it is looked at, from a thin cover of the windows over it (`cover`), and only
those are read. Blocks are chosen for alone, so that any of them can be made without the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.images.agreement import Agreement, compare
from cellnet_sd.components.images.cover import Windows, choose_cover
from cellnet_sd.components.images.decode import Frame, read
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problems
from cellnet_sd.settings import settings
from cellnet_sd.sources.base import Source

if TYPE_CHECKING:
    from dask.array import Array

Ints = NDArray[np.int64]
_BLOCK: Final = 1024
_MULTIPLE: Final = 64
"""Sides of blocks are multiples of this, so that the coarser levels of a pyramid are made block by block too."""
_SCREEN: Final = 2048
"""Pixels of the longer side of the coarsest level of a slide."""


def patches_of(source: Source, frame: Frame, rows: Ints, at: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the tissue patches of the cells at some of `rows`, a batch in memory at a time.

    They come in an order that reads the file forward, each with its position in `rows`.

    Raises
    ------
    MalformedCellError
        If a patch cannot be read.
    """
    at = np.sort(at)
    size = max(1, settings.batch_bytes // frame.nbytes)
    names, advice = source.index.names, "Leave the cell out with where= or cells=."
    problems = Problems(source.path.name, lambda row: str(names.iloc[row]), advice=advice)
    for start in range(0, len(at), size):
        batch = at[start : start + size]
        patches, present = read(source, rows[batch], frame, Component.TISSUE_PATCH, problems)
        yield from zip(batch[present].tolist(), patches[present], strict=True)


@dataclass(frozen=True)
class Block:
    """A block of a mosaic: all that making it takes, and no more, so that it can be sent to another process.

    Parameters
    ----------
    source, frame
        As of the mosaic.
    rows, windows
        Of the patches that reach into the block, their pixels counted from its corner.
    corner
        Where that is in the mosaic, y then x.
    shape
        Height and width.
    """

    source: Source
    frame: Frame
    rows: Ints
    windows: Windows
    corner: tuple[int, int]
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.rows)

    def cover(self) -> NDArray[np.intp]:
        """Return which windows the block is made from."""
        return choose_cover(self.windows, self.shape)

    def make(self) -> NDArray[Any]:
        """Return the pixels, (c, y, x); white where no window is.

        Raises
        ------
        MalformedCellError
            If a patch cannot be read.
        """
        out = np.full((*self.shape, self.frame.channels), self.frame.white, self.frame.dtype)
        for at, patch in patches_of(self.source, self.frame, self.rows, self.cover()):
            rows, columns, seen = self._overlap(at)
            out[rows, columns] = patch[seen]
        return np.ascontiguousarray(np.moveaxis(out, -1, 0))

    def _overlap(self, at: int) -> tuple[slice, slice, tuple[slice, slice]]:
        """Return the rows and columns of the block that a window shows, and the part of the window that shows them."""
        (height, width), (down, right) = self.shape, (int(self.windows.top[at]), int(self.windows.left[at]))
        rows = slice(max(0, down), min(height, down + self.windows.height))
        columns = slice(max(0, right), min(width, right + self.windows.width))
        seen = slice(rows.start - down, rows.stop - down), slice(columns.start - right, columns.stop - right)
        return rows, columns, seen


@dataclass(frozen=True)
class Mosaic:
    """Where the tissue patches of one slide lie, and how to make any block of it.

    Parameters
    ----------
    source, frame
        Where the patches come from, and what they have in common.
    rows
        Rows of the cells, int64.
    windows
        What each shows, in pixels of a patch, counted from the corner of the mosaic.
    corner
        Where that corner is, in pixels of a patch, y then x.
    """

    source: Source
    frame: Frame
    rows: Ints
    windows: Windows
    corner: tuple[int, int]

    @classmethod
    def of(cls, source: Source, frame: Frame, rows: Ints, top: Ints, left: Ints) -> Self:
        """Return the mosaic of the cells at `rows`, whose patches have their top left pixels at `top` and `left`."""
        corner = int(top.min()), int(left.min())
        windows = Windows(top - corner[0], left - corner[1], frame.height, frame.width)
        return cls(source, frame, rows, windows, corner)

    @cached_property
    def halvings(self) -> int:
        """How many times it is halved until a screen shows it whole: the coarser levels of its pyramid.

        At least once: SpatialData reads an image of one level back as another type.
        """
        return max(1, int(np.ceil(np.log2(max(self._shown) / _SCREEN))))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels, with a margin that lets every level be exactly half of the one before."""
        step = 2**self.halvings
        height, width = self._shown
        return -(-height // step) * step, -(-width // step) * step

    @cached_property
    def _shown(self) -> tuple[int, int]:
        windows = self.windows
        return int(windows.top.max()) + windows.height, int(windows.left.max()) + windows.width

    @property
    def side(self) -> int:
        """Side of a block: no window reaches into more than four."""
        least = max(_BLOCK, 2 * max(self.windows.height, self.windows.width))
        return -(-least // _MULTIPLE) * _MULTIPLE

    @property
    def grid(self) -> tuple[int, int]:
        """Number of blocks, down and across."""
        return -(-self.shape[0] // self.side), -(-self.shape[1] // self.side)

    @cached_property
    def by_block(self) -> tuple[NDArray[np.intp], Ints]:
        """Which windows reach into each block, block after block, and where the ones of each begin."""
        windows, across = self.windows, self.grid[1]
        rows = windows.top // self.side, (windows.top + windows.height - 1) // self.side
        columns = windows.left // self.side, (windows.left + windows.width - 1) // self.side
        corners = np.stack([row * across + column for row in rows for column in columns])
        corners[2:][:, rows[0] == rows[1]] = -1
        corners[1::2][:, columns[0] == columns[1]] = -1
        corner, at = np.nonzero(corners >= 0)
        block = corners[corner, at]
        order = np.lexsort((at, block))
        return at[order], np.searchsorted(block[order], np.arange(self.grid[0] * across + 1))

    def extent(self, block: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width of a block."""
        row, column = divmod(block, self.grid[1])
        top, left = row * self.side, column * self.side
        return top, left, min(self.side, self.shape[0] - top), min(self.side, self.shape[1] - left)

    def block(self, number: int) -> Block:
        """Return a block, its windows those that reach into it."""
        top, left, height, width = self.extent(number)
        found, starts = self.by_block
        over = found[starts[number] : starts[number + 1]]
        windows = self.windows.take(over).moved(-top, -left)
        return Block(self.source, self.frame, self.rows[over], windows, (top, left), (height, width))

    def patches(self, at: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the patches of windows; see `patches_of`."""
        return patches_of(self.source, self.frame, self.rows, at)

    def compare(self) -> Agreement:
        """Compare a sample of patches from all over the slide with others that overlap them."""
        return compare(self)


def mosaic_array(mosaic: Mosaic) -> "Array":
    """Return a mosaic as a dask array (c, y, x), a block per chunk, each made when it is computed."""
    from dask.array import Array
    from dask.base import tokenize

    token = tokenize(mosaic.source, mosaic.frame, mosaic.rows, mosaic.windows.top, mosaic.windows.left)
    name = f"tissue-{token}"
    down, across = mosaic.grid
    tasks: dict[Any, Any] = {
        (name, 0, row, column): (mosaic.block(row * across + column).make,)
        for row in range(down)
        for column in range(across)
    }
    extents = [[mosaic.extent(row * across)[2] for row in range(down)], [mosaic.extent(i)[3] for i in range(across)]]
    chunks = ((mosaic.frame.channels,), *map(tuple, extents))
    return Array(tasks, name, chunks, dtype=mosaic.frame.dtype)


def halved(image: NDArray[Any]) -> NDArray[Any]:
    """Return the means of blocks of two by two pixels of (c, y, x), as SpatialData's pyramids have them: cut off."""
    channels, height, width = image.shape
    blocks = image.reshape(channels, height // 2, 2, width // 2, 2)
    return np.asarray(blocks.mean(axis=(2, 4)).astype(image.dtype))
