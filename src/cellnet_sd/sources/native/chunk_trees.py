"""Chunks indexed by B-trees of version 1 (III.A.1, node type 1) and 2 (III.A.2, types 10 and 11)."""

from cellnet_sd.sources.native.btree2 import tree_records
from cellnet_sd.sources.native.chunk_output import CHUNK, COUNTS, note_chunk
from cellnet_sd.sources.native.codes import C_CHUNK_K, C_OFFSETS, C_STATUS, COUNT, LOOP, MAX_DEPTH, OUTSIDE, UNDEFINED
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.primitives import address, fail, has_signature, number, step, u8, u16, u32, u64

_TREE = 0x45455254


@part
def chunks_of_btree1(buf: Bytes, ctx: Ints, root: int, rank: int, grid: Ints, chunks: Ints, stack: Ints) -> None:
    """Note the chunks in a B-tree of version 1."""
    # on the stack: node, entries, next entry, level
    top = _enter(buf, ctx, root, -1, stack)
    key = 8 + 8 * (rank + 1)
    last = -1
    while top >= 0 and step(ctx):
        node, entries, entry, level = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
        if entry >= entries:
            top -= 1
            continue
        stack[top, 2] += 1
        pos = node + 8 + 2 * ctx[C_OFFSETS] + entry * (key + ctx[C_OFFSETS])
        below = address(buf, ctx, pos + key)
        if below == UNDEFINED:
            fail(ctx, OUTSIDE)
        elif level == 0:
            index = _index_of_offsets(buf, ctx, pos + 8, rank, grid)
            if 0 <= index <= last or u64(buf, ctx, pos + 8 + 8 * rank) != 0:
                fail(ctx, COUNT)  # out of order: libhdf5 searches by halves, and does not find it
            last = index
            if not _is_before(buf, ctx, pos + 8, pos + key + ctx[C_OFFSETS] + 8, rank):
                fail(ctx, COUNT)
            note_chunk(buf, ctx, chunks, below, u32(buf, ctx, pos), u32(buf, ctx, pos + 4), index)
        else:
            top = _enter(buf, ctx, below, top, stack)
            if ctx[C_STATUS] == 0:
                begin, stride = stack[top, 0] + 8 + 2 * ctx[C_OFFSETS], key + ctx[C_OFFSETS]
                end = begin + stack[top, 1] * stride
                if _is_before(buf, ctx, begin + 8, pos + 8, rank) or _is_before(
                    buf, ctx, pos + stride + 8, end + 8, rank
                ):
                    fail(ctx, COUNT)  # its keys do not lie between those around it


@part
def _is_before(buf: Bytes, ctx: Ints, first: int, second: int, rank: int) -> bool:
    """Whether the chunk whose first element is named at `first` comes before the one named at `second`."""
    for axis in range(rank + 1):
        one, two = u64(buf, ctx, first + 8 * axis), u64(buf, ctx, second + 8 * axis)
        if one != two:
            return one < two if (one < 0) == (two < 0) else two < 0
    return False


@part
def _enter(buf: Bytes, ctx: Ints, node: int, top: int, stack: Ints) -> int:
    """Put a node of the tree on the stack; return the new top."""
    if not has_signature(buf, ctx, node, _TREE):
        return top
    level, entries = u8(buf, ctx, node + 5), u16(buf, ctx, node + 6)
    if u8(buf, ctx, node + 4) != 1 or entries > 2 * ctx[C_CHUNK_K]:
        fail(ctx, COUNT)
    elif top + 1 >= MAX_DEPTH or (top >= 0 and level != stack[top, 3] - 1):
        fail(ctx, LOOP)
    else:
        top += 1
        stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = node, entries, 0, level
    return top


@part
def _index_of_offsets(buf: Bytes, ctx: Ints, pos: int, rank: int, grid: Ints) -> int:
    """Return the row-major index of the chunk whose first element is named at `pos`; -1 if it is outside."""
    index = 0
    for axis in range(rank):
        offset = u64(buf, ctx, pos + 8 * axis)
        if offset < 0 or offset % grid[CHUNK, axis]:
            fail(ctx, COUNT)
            return -1
        at = offset // grid[CHUNK, axis]
        if at >= grid[COUNTS, axis]:
            return -1
        index = index * grid[COUNTS, axis] + at
    return index


@part
def chunks_of_btree2(
    buf: Bytes,
    ctx: Ints,
    root: int,
    rank: int,
    grid: Ints,
    filtered: int,
    nbytes: int,
    chunks: Ints,
    records: Ints,
    stack: Ints,
) -> None:
    """Note the chunks in a B-tree of version 2."""
    n, size = tree_records(buf, ctx, root, 11 if filtered else 10, records, stack)
    width = size - ctx[C_OFFSETS] - 8 * rank - (4 if filtered else 0)
    if ctx[C_STATUS] == 0 and n > 0 and not (1 <= width <= 8 if filtered else width == 0):
        fail(ctx, COUNT)
    last = -1
    for i in range(n):
        if ctx[C_STATUS] != 0:
            return
        pos = records[i] + ctx[C_OFFSETS]
        stored, mask = nbytes, 0
        if filtered:
            stored, mask = number(buf, ctx, pos, width), u32(buf, ctx, pos + width)
            pos += width + 4
        index = _index_of_scaled(buf, ctx, pos, rank, grid)
        if 0 <= index <= last:
            fail(ctx, COUNT)  # out of order, as above
        last = index
        note_chunk(buf, ctx, chunks, address(buf, ctx, records[i]), stored, mask, index)


@part
def _index_of_scaled(buf: Bytes, ctx: Ints, pos: int, rank: int, grid: Ints) -> int:
    """Return the row-major index of the chunk whose place in the grid is named at `pos`; -1 if it is outside."""
    index = 0
    for axis in range(rank):
        at = u64(buf, ctx, pos + 8 * axis)
        if at < 0 or at >= grid[COUNTS, axis]:
            return -1
        index = index * grid[COUNTS, axis] + at
    return index
