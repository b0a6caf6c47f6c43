"""Groups as symbol tables: B-tree of version 1 (III.A.1), symbol table nodes (III.B), local heap (III.D)."""

from cellnet_sd.sources.native.codes import (
    C_LEAF_K,
    C_LENGTHS,
    C_NODE_K,
    C_OFFSETS,
    C_STATUS,
    COUNT,
    GROUP_INDEX_VERSION,
    HARD,
    L_NAME,
    L_NAME_SIZE,
    L_ORDER,
    L_TARGET,
    L_TYPE,
    LOOP,
    MAX_DEPTH,
    NAME,
    OUTSIDE,
    SOFT,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, part, uint64
from cellnet_sd.sources.native.primitives import (
    address,
    fail,
    has_signature,
    is_before,
    length,
    step,
    u8,
    u16,
    u32,
    within,
)

_TREE = 0x45455254
_SNOD = 0x444F4E53
_HEAP = 0x50414548
_SOFT_CACHE = 2


@part
def symbol_table_links(buf: Bytes, ctx: Ints, message: int, links: Ints, stack: Ints) -> int:
    """Note the links of a group by its symbol table message (IV.A.2.r); return their number.

    Only those that `links` has room for are noted.
    """
    tree, heap = address(buf, ctx, message), address(buf, ctx, message + ctx[C_OFFSETS])
    if tree == UNDEFINED or heap == UNDEFINED or not has_signature(buf, ctx, heap, _HEAP):
        fail(ctx, OUTSIDE)
        return 0
    if u8(buf, ctx, heap + 4) != 0:
        fail(ctx, GROUP_INDEX_VERSION)
    size = length(buf, ctx, heap + 8)
    names = address(buf, ctx, heap + 8 + 2 * ctx[C_LENGTHS])
    if names == UNDEFINED or not within(buf, ctx, names, size):
        fail(ctx, OUTSIDE)
        return 0
    # on the stack: node, entries, next entry, level
    top = _enter(buf, ctx, tree, -1, stack)
    n = 0
    while top >= 0 and step(ctx):
        node, entries, entry, level = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
        if entry >= entries:
            top -= 1
            continue
        stack[top, 2] += 1
        stride = ctx[C_LENGTHS] + ctx[C_OFFSETS]
        below = address(buf, ctx, node + 8 + 2 * ctx[C_OFFSETS] + entry * stride + ctx[C_LENGTHS])
        if below == UNDEFINED:
            fail(ctx, OUTSIDE)
        elif level == 0:
            before = n
            n = _symbols(buf, ctx, below, names, size, links, n)
            if n <= links.shape[0]:
                _check_order(buf, ctx, _key(ctx, node, entry), names, size, links, before, n)
        else:
            top = _enter(buf, ctx, below, top, stack)
            if ctx[C_STATUS] == 0:
                _check_keys(buf, ctx, node, entry, stack[top], names, size)
    return n


@part
def _key(ctx: Ints, node: int, entry: int) -> int:
    """Return where the key before an entry of a node is."""
    return node + 8 + 2 * ctx[C_OFFSETS] + entry * (ctx[C_LENGTHS] + ctx[C_OFFSETS])


@part
def _check_order(buf: Bytes, ctx: Ints, key: int, names: int, size: int, links: Ints, first: int, end: int) -> None:
    """Check that links `first` to `end` are in the order of their names, and between the keys around their node.

    libhdf5 searches by halves: what is out of order it does not find.
    """
    low = names + length(buf, ctx, key)
    n_low = _key_size(buf, ctx, low, names + size)
    for i in range(first, end):
        if ctx[C_STATUS] != 0:
            return
        if i > 0 and not is_before(
            buf, ctx, links[i - 1, L_NAME], links[i - 1, L_NAME_SIZE], links[i, L_NAME], links[i, L_NAME_SIZE]
        ):
            fail(ctx, NAME)
    if first >= end or ctx[C_STATUS] != 0:
        return
    high = names + length(buf, ctx, key + ctx[C_LENGTHS] + ctx[C_OFFSETS])
    n_high = _key_size(buf, ctx, high, names + size)
    if not is_before(buf, ctx, low, n_low, links[first, L_NAME], links[first, L_NAME_SIZE]) or is_before(
        buf, ctx, high, n_high, links[end - 1, L_NAME], links[end - 1, L_NAME_SIZE]
    ):
        fail(ctx, NAME)


@part
def _check_keys(buf: Bytes, ctx: Ints, node: int, entry: int, below: Ints, names: int, size: int) -> None:
    """Check that the keys of the node `below` lie between those around the entry that leads to it."""
    low, first = (
        names + length(buf, ctx, _key(ctx, node, entry)),
        names + length(buf, ctx, _key(ctx, below[0], 0)),
    )
    high, last = (
        names + length(buf, ctx, _key(ctx, node, entry + 1)),
        names + length(buf, ctx, _key(ctx, below[0], below[1])),
    )
    end = names + size
    n_low, n_first = _key_size(buf, ctx, low, end), _key_size(buf, ctx, first, end)
    n_high, n_last = _key_size(buf, ctx, high, end), _key_size(buf, ctx, last, end)
    if is_before(buf, ctx, first, n_first, low, n_low) or is_before(buf, ctx, high, n_high, last, n_last):
        fail(ctx, NAME)


@part
def _key_size(buf: Bytes, ctx: Ints, pos: int, end: int) -> int:
    """Return the length of the name that is a key, which may be empty."""
    if pos < end and u8(buf, ctx, pos) == 0:
        return 0
    return _name_size(buf, ctx, pos, end)


@part
def _enter(buf: Bytes, ctx: Ints, node: int, top: int, stack: Ints) -> int:
    """Put a node of the tree on the stack; return the new top."""
    if not has_signature(buf, ctx, node, _TREE):
        return top
    level, entries = u8(buf, ctx, node + 5), u16(buf, ctx, node + 6)
    if u8(buf, ctx, node + 4) != 0 or entries > 2 * ctx[C_NODE_K]:
        fail(ctx, COUNT)
    elif top + 1 >= MAX_DEPTH or (top >= 0 and level != stack[top, 3] - 1):
        fail(ctx, LOOP)
    else:
        top += 1
        stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = node, entries, 0, level
    return top


@part
def _symbols(buf: Bytes, ctx: Ints, node: int, names: int, size: int, links: Ints, n: int) -> int:
    """Note the links of a symbol table node; return how many are known."""
    if not has_signature(buf, ctx, node, _SNOD):
        return n
    count = u16(buf, ctx, node + 6)
    if u8(buf, ctx, node + 4) != 1 or count > 2 * ctx[C_LEAF_K]:
        fail(ctx, COUNT)
    entry = ctx[C_LENGTHS] + ctx[C_OFFSETS] + 24
    for i in range(count):
        if not step(ctx):
            break
        if n < links.shape[0]:
            _symbol(buf, ctx, node + 8 + i * entry, names, size, links, n)
        n += 1
    return n


@part
def _symbol(buf: Bytes, ctx: Ints, pos: int, names: int, size: int, links: Ints, n: int) -> None:
    """Note one symbol table entry (III.C)."""
    name = length(buf, ctx, pos)
    header = pos + ctx[C_LENGTHS]
    cache = u32(buf, ctx, header + ctx[C_OFFSETS])
    links[n, L_NAME] = names + name
    links[n, L_NAME_SIZE] = _name_size(buf, ctx, names + name, names + size)
    links[n, L_TYPE] = SOFT if cache == _SOFT_CACHE else HARD
    links[n, L_ORDER] = -1
    links[n, L_TARGET] = -1
    if cache != _SOFT_CACHE:
        links[n, L_TARGET] = address(buf, ctx, header)
        if links[n, L_TARGET] == UNDEFINED and ctx[C_STATUS] == 0:
            fail(ctx, OUTSIDE)


@part
def _name_size(buf: Bytes, ctx: Ints, pos: int, end: int) -> int:
    """Return the length of the name at `pos`, which a NUL must end before `end`."""
    size = 0
    if pos < end and within(buf, ctx, pos, end - pos):
        while size < end - pos and buf[uint64(pos + size)] != 0:
            size += 1
    if size == 0 or size == end - pos:
        fail(ctx, NAME)
        return 0
    return size
