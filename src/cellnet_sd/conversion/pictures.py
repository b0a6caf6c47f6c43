"""Images in parts: the rebuilt slide block by block, its coarser levels from the finer ones, and stacks of patches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.images import Mosaic
from cellnet_sd.components.images.lazy import STACK_CHUNK, PatchStack
from cellnet_sd.conversion.arrays import about, items_per_shard, make_array, open_array
from cellnet_sd.conversion.workspace import Job

_CHUNKS_PER_BLOCK: Final = 4
"""Chunks along the side of a block of the slide, which is a shard: a view of a few hundred pixels reads little more."""


@dataclass(frozen=True)
class SlideOutput:
    """The levels of a rebuilt slide in a store.

    Parameters
    ----------
    name
        Of the element, for the names of jobs.
    mosaic
        The slide.
    levels
        Folders of the arrays, the finest first; they are there, of another shape.
    """

    name: str
    mosaic: Mosaic
    levels: Sequence[Path]

    def make(self) -> None:
        """Make the arrays."""
        mosaic = self.mosaic
        height, width = mosaic.shape
        for level, path in enumerate(self.levels):
            side = mosaic.side
            shape = (mosaic.frame.channels, height >> level, width >> level)
            chunk = (mosaic.frame.channels, side // _CHUNKS_PER_BLOCK, side // _CHUNKS_PER_BLOCK)
            shard = (mosaic.frame.channels, side, side)
            dtype = mosaic.frame.dtype
            make_array(path, shape, dtype, chunks=chunk, shards=shard, fill=mosaic.frame.white, like=about(path))

    def jobs(self) -> list[Job]:
        """Return the jobs that fill the finest level; blocks that no patch shows are left as they are."""
        n_blocks = self.mosaic.grid[0] * self.mosaic.grid[1]
        blocks = [block for block in range(n_blocks) if len(self.mosaic.over(block))]
        return [Job(f"{self.name}-0-{block:09d}", lambda block=block: self._fill(block)) for block in blocks]  # type: ignore[misc]

    def _fill(self, block: int) -> None:
        top, left, height, width = self.mosaic.extent(block)
        open_array(self.levels[0])[:, top : top + height, left : left + width] = self.mosaic.make(block)

    def coarser(self) -> Iterator[list[Job]]:
        """Yield the jobs of each coarser level, to be done when those of the finer one are."""
        side = self.mosaic.side
        for level in range(1, len(self.levels)):
            height, width = (length >> level for length in self.mosaic.shape)
            corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
            yield [
                Job(f"{self.name}-{level}-{top:09d}-{left:09d}", lambda at=(top, left), to=level: self._halve(to, *at))  # type: ignore[misc]
                for top, left in corners
            ]

    def _halve(self, level: int, top: int, left: int) -> None:
        target, side = open_array(self.levels[level]), self.mosaic.side
        bottom, right = (min(start + side, end) for start, end in zip((top, left), target.shape[1:], strict=True))
        finer = open_array(self.levels[level - 1])[:, 2 * top : 2 * bottom, 2 * left : 2 * right]
        target[:, top:bottom, left:right] = halved(finer)


def halved(image: NDArray[Any]) -> NDArray[Any]:
    """Return the means of blocks of two by two pixels of (c, y, x), as SpatialData's pyramids have them: cut off."""
    channels, height, width = image.shape
    blocks = image.reshape(channels, height // 2, 2, width // 2, 2)
    return np.asarray(blocks.mean(axis=(2, 4)).astype(image.dtype))


@dataclass(frozen=True)
class StackOutput:
    """A stack of patches in a store: its name, the patches, and the folder of its array, which is there already."""

    name: str
    stack: PatchStack
    path: Path

    @property
    def _step(self) -> int:
        frame = self.stack.frame
        return items_per_shard(frame.shape, np.dtype(frame.dtype).itemsize, STACK_CHUNK, len(self.stack.rows))

    def make(self) -> None:
        """Make the array."""
        frame, n = self.stack.frame, len(self.stack.rows)
        height, width, channels = frame.shape
        chunk, shard = (channels, STACK_CHUNK, height, width), (channels, self._step, height, width)
        make_array(
            self.path, (channels, n, height, width), frame.dtype, chunks=chunk, shards=shard, fill=frame.white,
            like=about(self.path),
        )  # fmt: skip

    def jobs(self) -> list[Job]:
        """Return the jobs that fill it, a shard each."""
        starts = range(0, len(self.stack.rows), self._step)
        return [Job(f"{self.name}-{start:012d}", lambda start=start: self._fill(start)) for start in starts]  # type: ignore[misc]

    def _fill(self, start: int) -> None:
        part = slice(start, start + self._step)
        open_array(self.path)[:, part] = self.stack.part(part).czyx()
