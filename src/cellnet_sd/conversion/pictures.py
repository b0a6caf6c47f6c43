"""Images in parts: the rebuilt slide block by block, its coarser levels from the finer ones, and stacks of patches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from cellnet_sd.components.images import Block, Mosaic, halved
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
        return [
            Job(f"{self.name}-0-{number:09d}", partial(_fill_block, self.levels[0], block))
            for number in range(n_blocks)
            if len(block := self.mosaic.block(number))
        ]

    def coarser(self) -> Iterator[list[Job]]:
        """Yield the jobs of each coarser level, to be done when those of the finer one are."""
        side = self.mosaic.side
        for level in range(1, len(self.levels)):
            height, width = (length >> level for length in self.mosaic.shape)
            corners = [(top, left) for top in range(0, height, side) for left in range(0, width, side)]
            finer, coarser = self.levels[level - 1], self.levels[level]
            yield [
                Job(f"{self.name}-{level}-{top:09d}-{left:09d}", partial(_halve, finer, coarser, (top, left), side))
                for top, left in corners
            ]


def _fill_block(path: Path, block: Block) -> None:
    (top, left), (height, width) = block.corner, block.shape
    open_array(path)[:, top : top + height, left : left + width] = block.make()


def _halve(finer: Path, coarser: Path, corner: tuple[int, int], side: int) -> None:
    target, (top, left) = open_array(coarser), corner
    bottom, right = (min(start + side, end) for start, end in zip(corner, target.shape[1:], strict=True))
    target[:, top:bottom, left:right] = halved(open_array(finer)[:, 2 * top : 2 * bottom, 2 * left : 2 * right])


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
        parts = [slice(start, start + self._step) for start in range(0, len(self.stack.rows), self._step)]
        return [
            Job(f"{self.name}-{part.start:012d}", partial(_fill_stack, self.path, part, self.stack.part(part)))
            for part in parts
        ]


def _fill_stack(path: Path, at: slice, stack: PatchStack) -> None:
    open_array(path)[:, at] = stack.czyx()
