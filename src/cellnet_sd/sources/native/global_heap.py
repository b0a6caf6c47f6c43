"""Values of variable length, which lie in global heap collections (III.E)."""

from cellnet_sd.sources.native.codes import (
    C_BASE,
    C_HEAP,
    C_HEAP_AT,
    C_HEAP_END,
    C_HEAP_INDEX,
    C_OFFSETS,
    C_STATUS,
    HEAP_REFERENCE,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.primitives import (
    address,
    expect,
    fail,
    has_signature,
    length,
    product,
    step,
    u8,
    u16,
    u32,
    within,
)

_GCOL = 0x4C4F4347
_PREFIX = 16
"""Bytes before the objects of a collection, and before the data of an object: a multiple of 8, however wide lengths."""


@part
def variable_length(buf: Bytes, ctx: Ints, at: int, item_size: int) -> tuple[int, int]:
    """Return position and size in bytes of the value that the reference at `at` names: length, collection, index."""
    size = product(u32(buf, ctx, at), item_size)
    collection = address(buf, ctx, at + 4)
    index = u32(buf, ctx, at + 4 + ctx[C_OFFSETS])
    if ctx[C_STATUS] != 0 or size == 0 or collection == UNDEFINED or collection == ctx[C_BASE]:
        return 0, 0
    return object_of(buf, ctx, collection, index, size), size


@part
def object_of(buf: Bytes, ctx: Ints, collection: int, index: int, size: int) -> int:
    """Return where the object of a collection is, which has at least `size` bytes."""
    pos, stored = _object(buf, ctx, collection, index)
    if size > stored:
        fail(ctx, HEAP_REFERENCE)
    return pos if ctx[C_STATUS] == 0 else 0


@part
def _object(buf: Bytes, ctx: Ints, collection: int, index: int) -> tuple[int, int]:
    """Return position and size of an object of a collection.

    References mostly come in the order of the objects: the search goes on where the last one ended.
    """
    if ctx[C_HEAP] != collection or ctx[C_HEAP_INDEX] >= index:
        _enter(buf, ctx, collection)
    pos, end = ctx[C_HEAP_AT], ctx[C_HEAP_END]
    while pos + _PREFIX <= end and step(ctx):
        found, size = u16(buf, ctx, pos), length(buf, ctx, pos + 8)
        if found == 0 or size > end - pos - _PREFIX:
            break
        after = pos + _PREFIX + (size + 7) // 8 * 8
        if found == index:
            ctx[C_HEAP_INDEX] = index
            ctx[C_HEAP_AT] = after
            expect(buf, after, _PREFIX)
            return pos + _PREFIX, size
        pos = after
    fail(ctx, HEAP_REFERENCE)
    return 0, 0


@part
def _enter(buf: Bytes, ctx: Ints, collection: int) -> None:
    """Begin a collection."""
    ctx[C_HEAP] = UNDEFINED
    ctx[C_HEAP_END] = 0
    if has_signature(buf, ctx, collection, _GCOL):
        size = length(buf, ctx, collection + 8)
        if u8(buf, ctx, collection + 4) != 1 or not within(buf, ctx, collection, size):
            fail(ctx, HEAP_REFERENCE)
            return
        ctx[C_HEAP] = collection
        ctx[C_HEAP_INDEX] = 0
        ctx[C_HEAP_AT] = collection + _PREFIX
        ctx[C_HEAP_END] = collection + size
