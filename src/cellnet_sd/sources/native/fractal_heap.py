"""Fractal heaps (III.G): the direct blocks of a heap, and the objects in them."""

from cellnet_sd.sources.native.codes import (
    C_LENGTHS,
    C_MORE_BLOCKS,
    C_OFFSETS,
    C_STATUS,
    C_STEPS,
    CHECKSUM,
    COUNT,
    FILTERED_HEAP,
    HEAP_OBJECT,
    LOOP,
    OUTSIDE,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, int64, part
from cellnet_sd.sources.native.primitives import (
    address,
    ask_room,
    checked,
    fail,
    has_signature,
    length,
    log2,
    lookup3,
    number,
    step,
    u8,
    u16,
    u32,
    within,
)

_FRHP = 0x50485246
_FHIB = 0x42494846
_FHDB = 0x42444846
_MAX_LEVELS = 40
# a heap's parameters
OFFSET_SIZE = 0
LENGTH_SIZE = 1
WIDTH = 2
START = 3
DIRECT_ROWS = 4
CHECKSUMS = 5
HEADER = 6
N_BLOCKS = 7
HEAP_SIZE = 8
HEAP_ROW = 63
"""Row of the stack that keeps a heap's parameters: no structure is nested that deep."""


@part
def open_heap(buf: Bytes, ctx: Ints, at: int, heap: Ints, blocks: Ints, stack: Ints) -> None:
    """Read the heap at `at`: its parameters into `heap`, its direct blocks, in order, into `blocks`.

    A block is (first offset in the heap, size, position in the file).
    """
    heap[:] = 0
    if not has_signature(buf, ctx, at, _FRHP):
        return
    offsets, lengths = ctx[C_OFFSETS], ctx[C_LENGTHS]
    flags, largest_object = u8(buf, ctx, at + 9), u32(buf, ctx, at + 10)
    pos = at + 14 + 10 * lengths + 2 * offsets
    width, start, largest = u16(buf, ctx, pos), length(buf, ctx, pos + 2), length(buf, ctx, pos + 2 + lengths)
    bits = u16(buf, ctx, pos + 2 + 2 * lengths)
    root = address(buf, ctx, pos + 6 + 2 * lengths)
    rows = u16(buf, ctx, pos + 6 + 2 * lengths + offsets)
    if ctx[C_STATUS] == 0 and u16(buf, ctx, at + 7) != 0:
        fail(ctx, FILTERED_HEAP)
    if not checked(buf, ctx, at, pos + 8 + 2 * lengths + offsets):
        return
    if width == 0 or start == 0 or largest < start or bits > 64 or largest_object == 0 or u8(buf, ctx, at + 4) != 0:
        fail(ctx, COUNT)
        return
    heap[OFFSET_SIZE] = (bits + 7) // 8
    heap[LENGTH_SIZE] = min((log2(largest) + 7) // 8, log2(largest_object) // 8 + 1)
    heap[WIDTH], heap[START], heap[HEADER] = width, start, at
    heap[DIRECT_ROWS] = log2(largest) - log2(start) + 2
    heap[CHECKSUMS] = flags & 2
    if root != UNDEFINED:
        _find_blocks(buf, ctx, root, rows, heap, blocks, stack)


@part
def _find_blocks(buf: Bytes, ctx: Ints, root: int, rows: int, heap: Ints, blocks: Ints, stack: Ints) -> None:
    """Note the direct blocks below the root, which is a direct block itself if it has no rows."""
    if rows == 0:
        _direct(buf, ctx, root, 0, heap[START], heap, blocks)
        return
    # on the stack: indirect block, its rows, offset in the heap, next entry
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = root, rows, 0, 0
    top = 0
    _check_indirect(buf, ctx, root, rows, heap)
    while top >= 0 and step(ctx):
        at, rows, offset, entry = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
        row = entry // heap[WIDTH]
        if row >= rows:
            top -= 1
            continue
        size = _row_size(heap, row)
        stack[top, 2] += size
        stack[top, 3] += 1
        below = address(buf, ctx, at + 5 + ctx[C_OFFSETS] + heap[OFFSET_SIZE] + entry * ctx[C_OFFSETS])
        if below == UNDEFINED:
            continue
        if row < heap[DIRECT_ROWS]:
            _direct(buf, ctx, below, offset, size, heap, blocks)
            continue
        top += 1
        if top >= _MAX_LEVELS:
            fail(ctx, LOOP)
            break
        below_rows = log2(size) - log2(heap[START]) - log2(heap[WIDTH]) + 1
        _check_indirect(buf, ctx, below, below_rows, heap)
        stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = below, below_rows, offset, 0


@part
def _row_size(heap: Ints, row: int) -> int:
    """Return the size of a block in a row of the doubling table."""
    return heap[START] << min(row - 1, 62 - log2(heap[START])) if row else heap[START]


@part
def _check_indirect(buf: Bytes, ctx: Ints, at: int, rows: int, heap: Ints) -> None:
    if rows < 0 or rows > 64:
        fail(ctx, COUNT)
    elif has_signature(buf, ctx, at, _FHIB):
        end = at + 5 + ctx[C_OFFSETS] + heap[OFFSET_SIZE] + rows * heap[WIDTH] * ctx[C_OFFSETS]
        if address(buf, ctx, at + 5) != heap[HEADER]:
            fail(ctx, COUNT)
        checked(buf, ctx, at, end)


@part
def _direct(buf: Bytes, ctx: Ints, at: int, offset: int, size: int, heap: Ints, blocks: Ints) -> None:
    """Note a direct block (III.G, direct block), once its checksum is seen to be right."""
    if not within(buf, ctx, at, size) or not has_signature(buf, ctx, at, _FHDB):
        return
    if address(buf, ctx, at + 5) != heap[HEADER]:
        fail(ctx, COUNT)
    if heap[CHECKSUMS]:
        field = at + 5 + ctx[C_OFFSETS] + heap[OFFSET_SIZE]
        ctx[C_STEPS] -= size // 64
        if int64(lookup3(buf, ctx, at, size, field)) != u32(buf, ctx, field):
            fail(ctx, CHECKSUM)
    n = heap[N_BLOCKS]
    if n >= blocks.shape[0]:
        ask_room(ctx, C_MORE_BLOCKS, 2 * n)
        return
    blocks[n, 0], blocks[n, 1], blocks[n, 2] = offset, size, at
    heap[N_BLOCKS] += 1


@part
def heap_object(buf: Bytes, ctx: Ints, heap: Ints, blocks: Ints, at: int) -> tuple[int, int]:
    """Return position and size of the managed object whose heap ID is at `at` (III.G, fractal heap ID)."""
    if u8(buf, ctx, at) & 0xF0:
        fail(ctx, HEAP_OBJECT)
        return 0, 0
    offset = number(buf, ctx, at + 1, heap[OFFSET_SIZE])
    size = number(buf, ctx, at + 1 + heap[OFFSET_SIZE], heap[LENGTH_SIZE])
    low, high = 0, heap[N_BLOCKS]
    while low < high:
        middle = (low + high) // 2
        if blocks[middle, 0] <= offset:
            low = middle + 1
        else:
            high = middle
    if low == 0 or offset < 0 or size < 0 or offset - blocks[low - 1, 0] > blocks[low - 1, 1] - size:
        fail(ctx, OUTSIDE)
        return 0, 0
    return blocks[low - 1, 2] + offset - blocks[low - 1, 0], size
