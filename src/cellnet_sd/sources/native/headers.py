"""Object headers (IV.A.1): where each message of an object is."""

from cellnet_sd.sources.native.codes import (
    C_OFFSETS,
    C_STATUS,
    H_ATTRIBUTES,
    H_LINKS,
    H_SHARED,
    HEADER_VERSION,
    LOOP,
    M_ATTRIBUTE,
    M_CONTINUATION,
    M_LINK,
    MANY_MESSAGES,
    MAX_BLOCKS,
    N_TYPES,
    OUTSIDE,
    UNDEFINED,
    UNKNOWN_MESSAGE,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled, part
from cellnet_sd.sources.native.primitives import (
    address,
    checked,
    fail,
    has_signature,
    length,
    number,
    step,
    u8,
    u16,
    u32,
)

_OHDR = 0x5244484F
_OCHK = 0x4B48434F
_SHARED = 2
_MUST_BE_KNOWN = 128


@compiled
def read_header(buf: Bytes, ctx: Ints, at: int, head: Ints, blocks: Ints, links: Ints, attributes: Ints) -> bool:
    """Find the messages of the object header at `at`.

    Fills `head` (`codes.H_…`), and the positions and sizes of link and attribute messages. Shared messages are found as
    bits of `head[H_SHARED]`. `blocks` is to work in.
    """
    head[:] = -1
    head[H_LINKS] = head[H_ATTRIBUTES] = head[H_SHARED] = 0
    entry = _first_block_v1(buf, ctx, at, blocks) if u8(buf, ctx, at) == 1 else _first_block_v2(buf, ctx, at, blocks)
    n_blocks = 1
    done = 0
    while ctx[C_STATUS] == 0 and done < n_blocks:
        n_blocks = _read_block(buf, ctx, entry, head, blocks, done, n_blocks, links, attributes)
        done += 1
    return ctx[C_STATUS] == 0


@part
def _first_block_v1(buf: Bytes, ctx: Ints, at: int, blocks: Ints) -> int:
    """Note the first block of a header of version 1 (IV.A.1.a); return the size of a message's prefix, as -8."""
    blocks[0, 0] = at + 16
    blocks[0, 1] = at + 16 + u32(buf, ctx, at + 8)
    return -8


@part
def _first_block_v2(buf: Bytes, ctx: Ints, at: int, blocks: Ints) -> int:
    """Note the first block of a header of version 2 (IV.A.1.b); return the size of a message's prefix."""
    if not has_signature(buf, ctx, at, _OHDR):
        return 0
    if u8(buf, ctx, at + 4) != 2:
        fail(ctx, HEADER_VERSION)
        return 0
    flags = u8(buf, ctx, at + 5)
    pos = at + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
    width = 1 << (flags & 3)
    size = number(buf, ctx, pos, width)
    if size < 0 or size > buf.size:
        fail(ctx, OUTSIDE)
        return 0
    blocks[0, 0] = pos + width
    blocks[0, 1] = pos + width + size
    checked(buf, ctx, at, pos + width + size)
    return 6 if flags & 4 else 4


@part
def _read_block(
    buf: Bytes,
    ctx: Ints,
    entry: int,
    head: Ints,
    blocks: Ints,
    block: int,
    n_blocks: int,
    links: Ints,
    attributes: Ints,
) -> int:
    """Note the messages of one block; return the number of blocks known."""
    pos, end = blocks[block, 0], blocks[block, 1]
    prefix = abs(entry)
    while pos + prefix <= end and step(ctx):
        if entry < 0:
            kind, size, flags = u16(buf, ctx, pos), u16(buf, ctx, pos + 2), u8(buf, ctx, pos + 4)
        else:
            kind, size, flags = u8(buf, ctx, pos), u16(buf, ctx, pos + 1), u8(buf, ctx, pos + 3)
        if size > end - pos - prefix:
            fail(ctx, OUTSIDE)
        elif kind == M_CONTINUATION:
            n_blocks = _continue(buf, ctx, pos + prefix, entry, blocks, n_blocks)
        else:
            _note(ctx, head, kind, pos + prefix, size, flags, links, attributes)
        pos += prefix + size
    return n_blocks


@part
def _continue(buf: Bytes, ctx: Ints, pos: int, entry: int, blocks: Ints, n_blocks: int) -> int:
    """Note the block that a continuation message (IV.A.2.q) names; return the number of blocks known."""
    start = address(buf, ctx, pos)
    size = length(buf, ctx, pos + ctx[C_OFFSETS])
    if start == UNDEFINED or start > buf.size - size:
        fail(ctx, OUTSIDE)
    if n_blocks >= MAX_BLOCKS:
        fail(ctx, LOOP)
    for i in range(n_blocks):
        if blocks[i, 0] == start or blocks[i, 0] == start + 4:
            fail(ctx, LOOP)
    if ctx[C_STATUS] != 0:
        return n_blocks
    if entry > 0:
        if size < 8:
            fail(ctx, OUTSIDE)
        elif has_signature(buf, ctx, start, _OCHK):
            checked(buf, ctx, start, start + size - 4)
        start += 4
        size -= 8
    blocks[n_blocks, 0] = start
    blocks[n_blocks, 1] = start + size
    return n_blocks + 1


@part
def _note(ctx: Ints, head: Ints, kind: int, pos: int, size: int, flags: int, links: Ints, attributes: Ints) -> None:
    if kind == M_LINK:
        head[H_LINKS] = _append(ctx, links, head[H_LINKS], pos, size)
    elif kind == M_ATTRIBUTE:
        head[H_ATTRIBUTES] = _append(ctx, attributes, head[H_ATTRIBUTES], pos, size)
    elif kind < N_TYPES and head[2 * kind] == -1:
        head[2 * kind] = pos
        head[2 * kind + 1] = size
    elif kind >= N_TYPES and flags & _MUST_BE_KNOWN:
        fail(ctx, UNKNOWN_MESSAGE)
    if flags & _SHARED and kind < N_TYPES:
        head[H_SHARED] |= 1 << kind


@part
def _append(ctx: Ints, table: Ints, n: int, pos: int, size: int) -> int:
    if n >= table.shape[0]:
        fail(ctx, MANY_MESSAGES)
        return n
    table[n, 0] = pos
    table[n, 1] = size
    return n + 1
