"""The links of a group, however it stores them (IV.A.2.c, g and r)."""

from cellnet_sd.sources.native.btree1 import symbol_table_links
from cellnet_sd.sources.native.btree2 import tree_records
from cellnet_sd.sources.native.codes import (
    C_MORE_LINKS,
    C_OFFSETS,
    C_STATUS,
    C_STEPS,
    H_LINKS,
    HARD,
    INCOMPLETE,
    L_NAME,
    L_NAME_SIZE,
    L_ORDER,
    L_TARGET,
    L_TYPE,
    LINK_VERSION,
    M_LINK_INFO,
    M_SYMBOL_TABLE,
    NAME,
    OUTSIDE,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.fractal_heap import HEAP_ROW, heap_object, open_heap
from cellnet_sd.sources.native.primitives import (
    address,
    ask_room,
    fail,
    has_nul,
    is_before,
    lookup3,
    number,
    same_bytes,
    step,
    u8,
    u32,
    u64,
    within,
)

_BY_NAME = 5
_NAME_HASH = 4
_FEW = 512
"""Links of a group that are all compared with each other at no cost."""
_BYTES_PER_STEP = 64


@part
def group_links(
    buf: Bytes, ctx: Ints, head: Ints, messages: Ints, links: Ints, records: Ints, heap_blocks: Ints, stack: Ints
) -> int:
    """Put the links of the group with the header `head` into `links` (`codes.L_…`); return their number.

    `records`, `heap_blocks` and `stack` are to work in.
    """
    if head[2 * M_SYMBOL_TABLE] >= 0:
        n = symbol_table_links(buf, ctx, head[2 * M_SYMBOL_TABLE], links, stack)
        if n > links.shape[0]:  # those beyond it are not noted
            ask_room(ctx, C_MORE_LINKS, n)
            return 0
        return n
    heap, index = _dense_storage(buf, ctx, head[2 * M_LINK_INFO])
    if heap != UNDEFINED:
        return _dense(buf, ctx, heap, index, links, records, heap_blocks, stack)
    n = head[H_LINKS]
    if n > links.shape[0]:
        ask_room(ctx, C_MORE_LINKS, n)
        return 0
    for i in range(n):
        _link(buf, ctx, messages[i, 0], messages[i, 1], links, i)
    _check_distinct(buf, ctx, links, n)
    return n


@part
def _check_distinct(buf: Bytes, ctx: Ints, links: Ints, n: int) -> None:
    """Check that no two links of a group without an index have one name: libhdf5 finds the first of them alone."""
    for i in range(n):
        size = links[i, L_NAME_SIZE]
        for j in range(i):
            if n > _FEW:
                ctx[C_STEPS] -= size // _BYTES_PER_STEP
                if not step(ctx):
                    return
            if links[j, L_NAME_SIZE] == size and same_bytes(buf, ctx, links[j, L_NAME], links[i, L_NAME], size):
                fail(ctx, NAME)
                return


@part
def is_group(head: Ints) -> bool:
    """Whether an object header is that of a group."""
    return head[2 * M_SYMBOL_TABLE] >= 0 or head[2 * M_LINK_INFO] >= 0


@part
def tracks_order(buf: Bytes, ctx: Ints, head: Ints) -> bool:
    """Whether a group tracks the order in which its links were made (IV.A.2.c)."""
    message = head[2 * M_LINK_INFO]
    return message >= 0 and u8(buf, ctx, message + 1) & 1 == 1


@part
def _dense_storage(buf: Bytes, ctx: Ints, message: int) -> tuple[int, int]:
    """Return the positions of the fractal heap and of the name index that a link info message states (IV.A.2.c)."""
    if message < 0:
        return UNDEFINED, UNDEFINED
    if u8(buf, ctx, message) != 0:
        fail(ctx, LINK_VERSION)
        return UNDEFINED, UNDEFINED
    pos = message + (10 if u8(buf, ctx, message + 1) & 1 else 2)
    heap, index = address(buf, ctx, pos), address(buf, ctx, pos + ctx[C_OFFSETS])
    if heap != UNDEFINED and index == UNDEFINED:
        fail(ctx, INCOMPLETE)
    return heap, index


@part
def _dense(
    buf: Bytes, ctx: Ints, at: int, index: int, links: Ints, records: Ints, heap_blocks: Ints, stack: Ints
) -> int:
    """Read links from a fractal heap, by the records of their name index (III.A.2, type 5)."""
    heap = stack[HEAP_ROW]
    open_heap(buf, ctx, at, heap, heap_blocks, stack)
    n, _ = tree_records(buf, ctx, index, _BY_NAME, records, stack)
    if n > links.shape[0]:
        ask_room(ctx, C_MORE_LINKS, n)
    if ctx[C_STATUS] != 0:
        return 0
    for i in range(n):
        if not step(ctx):
            break
        pos, size = heap_object(buf, ctx, heap, heap_blocks, records[i] + _NAME_HASH)
        if ctx[C_STATUS] == 0:
            _link(buf, ctx, pos, size, links, i)
            _check_hash(buf, ctx, records, i, links)
    return n


@part
def _check_hash(buf: Bytes, ctx: Ints, records: Ints, i: int, links: Ints) -> None:
    """Check that a record has its link's hash, and comes after the one before it: libhdf5 finds no other."""
    own, link = u32(buf, ctx, records[i]), links[i]
    if ctx[C_STATUS] != 0:
        return
    if own != lookup3(buf, ctx, link[L_NAME], link[L_NAME_SIZE], -4):
        fail(ctx, NAME)
    elif i > 0:
        last, earlier = u32(buf, ctx, records[i - 1]), links[i - 1]
        is_after = own > last or is_before(
            buf, ctx, earlier[L_NAME], earlier[L_NAME_SIZE], link[L_NAME], link[L_NAME_SIZE]
        )
        if own < last or not is_after:
            fail(ctx, NAME)


@part
def _link(buf: Bytes, ctx: Ints, message: int, size: int, links: Ints, i: int) -> None:
    """Note a link from its message (IV.A.2.g)."""
    flags = u8(buf, ctx, message + 1)
    if u8(buf, ctx, message) != 1 or flags & 0xE0:
        fail(ctx, LINK_VERSION)
        return
    pos = message + 2
    links[i, L_TYPE] = HARD
    if flags & 8:
        links[i, L_TYPE] = u8(buf, ctx, pos)
        pos += 1
    links[i, L_ORDER] = -1
    if flags & 4:
        links[i, L_ORDER] = u64(buf, ctx, pos)
        pos += 8
    pos += 1 if flags & 16 else 0
    width = 1 << (flags & 3)
    name_size = number(buf, ctx, pos, width)
    pos += width
    if name_size <= 0:
        fail(ctx, NAME)
    elif within(buf, ctx, pos, name_size) and name_size > message + size - pos:
        fail(ctx, OUTSIDE)
    elif has_nul(buf, ctx, pos, name_size):
        fail(ctx, NAME)
    links[i, L_NAME] = pos
    links[i, L_NAME_SIZE] = name_size
    links[i, L_TARGET] = -1
    if links[i, L_TYPE] == HARD and ctx[C_STATUS] == 0:
        links[i, L_TARGET] = address(buf, ctx, pos + name_size)
        if links[i, L_TARGET] == UNDEFINED or pos + name_size + ctx[C_OFFSETS] > message + size:
            fail(ctx, OUTSIDE)
