"""B-trees of version 2 (III.A.2): the positions of all records."""

from cellnet_sd.sources.native.codes import (
    C_LENGTHS,
    C_MORE_RECORDS,
    C_OFFSETS,
    C_STATUS,
    COUNT,
    GROUP_INDEX_VERSION,
    LOOP,
    OUTSIDE,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.primitives import (
    address,
    ask_room,
    checked,
    fail,
    has_signature,
    length,
    log2,
    number,
    product,
    step,
    u8,
    u16,
    u32,
)

_BTHD = 0x44485442
_BTIN = 0x4E495442
_BTLF = 0x464C5442
_PREFIX = 6
_OVERHEAD = 10
_MAX_DEPTH = 24
_WIDTHS = 4


@part
def tree_records(buf: Bytes, ctx: Ints, at: int, kind: int, found: Ints, stack: Ints) -> tuple[int, int]:
    """Put the positions of all records into `found`, in the order of the tree; return their number and size.

    The tree at `at` must be of type `kind`.
    """
    if not has_signature(buf, ctx, at, _BTHD):
        return 0, 0
    if u8(buf, ctx, at + 4) != 0 or u8(buf, ctx, at + 5) != kind:
        fail(ctx, GROUP_INDEX_VERSION)
        return 0, 0
    node_size, size, depth = u32(buf, ctx, at + 6), u16(buf, ctx, at + 10), u16(buf, ctx, at + 12)
    root = address(buf, ctx, at + 16)
    pos = at + 16 + ctx[C_OFFSETS]
    in_root, total = u16(buf, ctx, pos), length(buf, ctx, pos + 2)
    if not checked(buf, ctx, at, pos + 2 + ctx[C_LENGTHS]) or total == 0:
        return 0, size
    if size == 0 or node_size <= _OVERHEAD or depth > _MAX_DEPTH or root == UNDEFINED or total > buf.size // size:
        fail(ctx, COUNT)
        return 0, size
    if total > found.size:
        ask_room(ctx, C_MORE_RECORDS, total)
        return 0, size
    _pointer_sizes(ctx, node_size, size, depth, stack)
    n = _walk(buf, ctx, root, in_root, depth, size, stack, found, total)
    if n != total:
        fail(ctx, COUNT)
    return n, size


@part
def _pointer_sizes(ctx: Ints, node_size: int, size: int, depth: int, stack: Ints) -> None:
    """Fill, per depth, the bytes that the two record counts of a child pointer take (III.A.2, child node pointer)."""
    widths = stack[:, _WIDTHS:]
    widths[0, 0] = widths[0, 1] = 0
    in_leaf = (node_size - _OVERHEAD) // size
    width = log2(in_leaf) // 8 + 1
    below, below_width = in_leaf, 0
    for level in range(1, depth + 1):
        widths[level, 0] = width
        widths[level, 1] = below_width
        pointer = ctx[C_OFFSETS] + width + below_width
        at_most = max(0, node_size - _OVERHEAD - pointer) // (size + pointer)
        below = product(at_most + 1, below) + at_most
        below_width = log2(below) // 8 + 1


@part
def _walk(
    buf: Bytes, ctx: Ints, root: int, in_root: int, depth: int, size: int, stack: Ints, found: Ints, total: int
) -> int:
    """Note the positions of the records of all nodes; return how many."""
    widths = stack[:, _WIDTHS:]  # before them, per level: node, its records, next child
    stack[0, 0], stack[0, 1], stack[0, 2] = root, in_root, 0
    top = 0
    n = _node(buf, ctx, root, in_root, depth, size, widths, found, 0, total)
    while top >= 0 and step(ctx):
        node, records, child = stack[top, 0], stack[top, 1], stack[top, 2]
        level = depth - top
        if level == 0 or child > records:
            top -= 1
            continue
        if child > 0:  # a record of an inner node comes between those below it
            if n >= total:
                fail(ctx, LOOP)
                return n
            found[n] = node + _PREFIX + (child - 1) * size
            n += 1
        stack[top, 2] += 1
        pointer = ctx[C_OFFSETS] + widths[level, 0] + widths[level, 1]
        pos = node + _PREFIX + records * size + child * pointer
        below = address(buf, ctx, pos)
        count = number(buf, ctx, pos + ctx[C_OFFSETS], widths[level, 0])
        if below == UNDEFINED:
            fail(ctx, OUTSIDE)
        if ctx[C_STATUS] != 0:
            return n
        n = _node(buf, ctx, below, count, level - 1, size, widths, found, n, total)
        top += 1
        stack[top, 0], stack[top, 1], stack[top, 2] = below, count, 0
    return n


@part
def _node(
    buf: Bytes, ctx: Ints, at: int, records: int, level: int, size: int, widths: Ints, found: Ints, n: int, total: int
) -> int:
    """Check a node, and note the positions of the records of a leaf; return how many are known."""
    if not has_signature(buf, ctx, at, _BTIN if level else _BTLF):
        return n
    if records > total - n:
        fail(ctx, LOOP)
        return n
    pointers = (records + 1) * (ctx[C_OFFSETS] + widths[level, 0] + widths[level, 1]) if level else 0
    if checked(buf, ctx, at, at + _PREFIX + records * size + pointers) and level == 0:
        for i in range(records):
            found[n + i] = at + _PREFIX + i * size
        n += records
    return n
