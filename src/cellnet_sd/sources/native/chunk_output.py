"""Noting the chunks of a dataset, and the numbers that every chunk index needs."""

from cellnet_sd.sources.native.codes import (
    C_CHUNKS,
    C_ROWS,
    C_STATUS,
    CHUNK_OUTSIDE_EXTENT,
    GROW,
    K_ADDRESS,
    K_INDEX,
    K_MASK,
    K_SIZE,
    OUTSIDE,
    SHARED_BUDGET,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.primitives import fail, product, step

# the grid of chunks: `grid[row, axis]`
DIMS = 0
LIMITS = 1
CHUNK = 2
COUNTS = 3
"""Chunks along the axis, in the current extent."""
MAX_COUNTS = 4
"""Chunks along the axis in the largest extent; 0 where that is unlimited."""
GRID_ROWS = 5


@part
def lay_grid(ctx: Ints, rank: int, grid: Ints) -> None:
    """Fill the number of chunks along each axis from `DIMS`, `LIMITS` and `CHUNK`."""
    for axis in range(rank):
        chunk = grid[CHUNK, axis]
        if chunk <= 0:
            fail(ctx, OUTSIDE)
            return
        grid[COUNTS, axis] = (grid[DIMS, axis] + chunk - 1) // chunk
        limit = grid[LIMITS, axis]
        grid[MAX_COUNTS, axis] = 0 if limit < 0 else limit // chunk + (1 if limit % chunk else 0)


@part
def n_chunks(rank: int, grid: Ints, row: int) -> int:
    """Return the number of chunks of the extent in `row`."""
    count = 1
    for axis in range(rank):
        count = product(count, grid[row, axis])
    return count


@part
def place(rank: int, grid: Ints, index: int, first: int) -> int:
    """Return the row-major index in the current extent of the chunk at `index` in the largest; -1 if it is outside.

    Chunk indices other than B-trees count in the largest extent, with axis `first` slowest.
    """
    here = 0
    for back in range(rank):
        axis = rank - 1 - back
        if axis == first:
            continue
        count = max(1, grid[MAX_COUNTS, axis])
        at = index % count
        index //= count
        if at >= grid[COUNTS, axis]:
            return -1
        here += at * _stride(rank, grid, axis)
    return here + index * _stride(rank, grid, first) if index < grid[COUNTS, first] else -1


@part
def _stride(rank: int, grid: Ints, axis: int) -> int:
    stride = 1
    for later in range(axis + 1, rank):
        stride *= grid[COUNTS, later]
    return stride


@part
def note_chunk(buf: Bytes, ctx: Ints, chunks: Ints, address: int, size: int, mask: int, index: int) -> None:
    """Note a chunk, unless its address is undefined: then it is all fill value."""
    if address == UNDEFINED or not step(ctx):
        return
    n = ctx[C_CHUNKS]
    if index < 0:
        fail(ctx, CHUNK_OUTSIDE_EXTENT)
    elif size < 0 or size > buf.size or address > buf.size - size:
        fail(ctx, OUTSIDE)
    elif ctx[C_ROWS] <= 0:
        fail(ctx, SHARED_BUDGET)
    elif n >= chunks.shape[0]:
        fail(ctx, GROW)
    if ctx[C_STATUS] == 0:
        chunks[n, K_ADDRESS], chunks[n, K_SIZE], chunks[n, K_MASK], chunks[n, K_INDEX] = address, size, mask, index
        ctx[C_CHUNKS] += 1
        ctx[C_ROWS] -= 1
