"""Attributes in an object's header (IV.A.2.m): where the value of each is."""

from cellnet_sd.sources.native.btree2 import tree_records
from cellnet_sd.sources.native.codes import (
    A_ADDRESS,
    A_DTYPE,
    A_NAME,
    A_PARENT,
    A_SHAPE,
    A_SIZE,
    A_TEXT,
    A_TEXT_SIZE,
    ATTRIBUTE_VERSION,
    C_ATTRIBUTES,
    C_OFFSETS,
    C_ROWS,
    C_STATUS,
    GROW,
    H_ATTRIBUTES,
    M_ATTRIBUTE_INFO,
    MANY_MESSAGES,
    NAME,
    OUTSIDE,
    SHARED_BUDGET,
    SHARED_MESSAGE,
    SIZE,
    T_DTYPE,
    T_NAME,
    T_SHAPE,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.dataspaces import n_elements, read_dataspace
from cellnet_sd.sources.native.fractal_heap import HEAP_ROW, heap_object, open_heap
from cellnet_sd.sources.native.global_heap import variable_length
from cellnet_sd.sources.native.interning import Tables, intern
from cellnet_sd.sources.native.primitives import address, fail, has_nul, lookup3, product, step, u8, u16, u32

ATTRIBUTE_USE = 14
_BY_NAME = 8
_HASH = 13
_VLEN = 9
# parts of a message
P_NAME = 0
P_NAME_SIZE = 1
P_DTYPE = 2
P_DTYPE_SIZE = 3
P_SPACE = 4
P_SPACE_SIZE = 5
P_VALUE = 6
P_VALUE_SIZE = 7
PARTS = 8


@part
def find_attributes(
    buf: Bytes, ctx: Ints, head: Ints, messages: Ints, records: Ints, heap_blocks: Ints, stack: Ints
) -> int:
    """Return the number of an object's attributes, whose messages are in `messages` from then on.

    Those in the header are there already; those stored outside it (IV.A.2.v) are looked up. `records`,
    `heap_blocks` and `stack` are to work in.
    """
    message = head[2 * M_ATTRIBUTE_INFO]
    if message < 0:
        return head[H_ATTRIBUTES]
    if u8(buf, ctx, message) != 0:
        fail(ctx, ATTRIBUTE_VERSION)
        return 0
    pos = message + (4 if u8(buf, ctx, message + 1) & 1 else 2)
    at, index = address(buf, ctx, pos), address(buf, ctx, pos + ctx[C_OFFSETS])
    if at == UNDEFINED:
        return head[H_ATTRIBUTES]
    heap = stack[HEAP_ROW]
    open_heap(buf, ctx, at, heap, heap_blocks, stack)
    n, _ = tree_records(buf, ctx, index, _BY_NAME, records, stack)
    if n > messages.shape[0]:
        fail(ctx, MANY_MESSAGES)
        return 0
    for i in range(n):
        if ctx[C_STATUS] != 0 or not step(ctx):
            return 0
        if u8(buf, ctx, records[i] + 8):
            fail(ctx, SHARED_MESSAGE)
        messages[i, 0], messages[i, 1] = heap_object(buf, ctx, heap, heap_blocks, records[i])
        _check_hash(buf, ctx, records, i, messages[i, 0])
    return n


@part
def _check_hash(buf: Bytes, ctx: Ints, records: Ints, i: int, message: int) -> None:
    """Check that a record has its attribute's hash, and comes after the one before it: libhdf5 finds no other."""
    own = u32(buf, ctx, records[i] + _HASH)
    name = message + (9 if u8(buf, ctx, message) == 3 else 8)
    size = u16(buf, ctx, message + 2) - 1
    if ctx[C_STATUS] != 0:
        return
    if size <= 0 or own != lookup3(buf, ctx, name, size, -4) or (i > 0 and own < u32(buf, ctx, records[i - 1] + _HASH)):
        fail(ctx, NAME)


@part
def split_attribute(buf: Bytes, ctx: Ints, message: int, size: int, parts: Ints) -> bool:
    """Find the parts of an attribute message."""
    version = u8(buf, ctx, message)
    if not 1 <= version <= 3:
        fail(ctx, ATTRIBUTE_VERSION)
        return False
    if version > 1 and u8(buf, ctx, message + 1):
        fail(ctx, SHARED_MESSAGE)
    round_to = 8 if version == 1 else 1
    pos = message + (9 if version == 3 else 8)
    for i in range(3):
        parts[2 * i] = pos
        parts[2 * i + 1] = u16(buf, ctx, message + 2 + 2 * i)
        pos += (parts[2 * i + 1] + round_to - 1) // round_to * round_to
    parts[P_VALUE], parts[P_VALUE_SIZE] = pos, message + size - pos
    last = parts[P_NAME_SIZE] - 1
    if last < 1 or u8(buf, ctx, parts[P_NAME] + last) != 0 or has_nul(buf, ctx, parts[P_NAME], last):
        fail(ctx, NAME)
    if pos > message + size or parts[P_DTYPE_SIZE] < 8 or parts[P_SPACE_SIZE] < 4:
        fail(ctx, OUTSIDE)
    parts[P_NAME_SIZE] = last
    return ctx[C_STATUS] == 0


@part
def note_attributes(
    buf: Bytes, ctx: Ints, messages: Ints, n: int, parent: int, tables: Tables, parts: Ints, grid: Ints, out: Ints
) -> None:
    """Append the attributes of an object to `out` (`codes.A_…`)."""
    for i in range(n):
        if ctx[C_STATUS] != 0 or not step(ctx):
            return
        if ctx[C_ROWS] <= 0:
            fail(ctx, SHARED_BUDGET)
        elif ctx[C_ATTRIBUTES] >= out.shape[0]:
            fail(ctx, GROW)
        elif split_attribute(buf, ctx, messages[i, 0], messages[i, 1], parts):
            _note(buf, ctx, parent, tables, ATTRIBUTE_USE + (i & 1), parts, grid, out[ctx[C_ATTRIBUTES]])
            if ctx[C_STATUS] == 0:
                ctx[C_ATTRIBUTES] += 1
                ctx[C_ROWS] -= 1


@part
def _note(buf: Bytes, ctx: Ints, parent: int, tables: Tables, use: int, parts: Ints, grid: Ints, row: Ints) -> None:
    row[A_PARENT] = parent
    row[A_NAME] = intern(buf, ctx, tables, T_NAME, use, parts[P_NAME], parts[P_NAME_SIZE], 0)
    row[A_DTYPE] = intern(buf, ctx, tables, T_DTYPE, use, parts[P_DTYPE], parts[P_DTYPE_SIZE], 3)
    row[A_SHAPE] = intern(buf, ctx, tables, T_SHAPE, use, parts[P_SPACE], parts[P_SPACE_SIZE], 1)
    row[A_ADDRESS] = parts[P_VALUE]
    row[A_TEXT], row[A_TEXT_SIZE] = 0, -1
    rank = read_dataspace(buf, ctx, parts[P_SPACE], parts[P_SPACE_SIZE], grid[0], grid[1])
    count = n_elements(rank, grid[0])
    row[A_SIZE] = product(count, u32(buf, ctx, parts[P_DTYPE] + 4))
    if row[A_SIZE] > parts[P_VALUE_SIZE]:
        fail(ctx, SIZE)
    if ctx[C_STATUS] == 0 and count == 1 and u8(buf, ctx, parts[P_DTYPE]) & 15 == _VLEN:
        item = u32(buf, ctx, parts[P_DTYPE] + 12)
        row[A_TEXT], row[A_TEXT_SIZE] = variable_length(buf, ctx, parts[P_VALUE], item)
