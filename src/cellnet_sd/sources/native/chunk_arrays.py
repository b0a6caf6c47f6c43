"""Chunks indexed by fixed arrays (VII.C) and extensible arrays (VII.D)."""

from cellnet_sd.sources.native.chunk_output import MAX_COUNTS, n_chunks, note_chunk, place
from cellnet_sd.sources.native.codes import (
    C_LENGTHS,
    C_OFFSETS,
    C_STATUS,
    CHUNK_INDEX,
    COUNT,
    OUTSIDE,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.primitives import (
    address,
    checked,
    fail,
    has_signature,
    length,
    log2,
    number,
    step,
    u8,
    u32,
    within,
)

_FAHD = 0x44484146
_FADB = 0x42444146
_EAHD = 0x44484145
_EAIB = 0x42494145
_EASB = 0x42534145
_EADB = 0x42444145
# what is known of an array
RANK = 0
FIRST = 1
FILTERED = 2
NBYTES = 3
ELEMENT = 4
LIMIT = 5
PAGE = 6
HEADER = 7
OFFSET_SIZE = 8
ARRAY_SIZE = 9


@part
def chunks_of_fixed_array(buf: Bytes, ctx: Ints, at: int, array: Ints, grid: Ints, chunks: Ints) -> None:
    """Note the chunks in a fixed array (VII.C)."""
    if not has_signature(buf, ctx, at, _FAHD):
        return
    if u8(buf, ctx, at + 4) != 0 or u8(buf, ctx, at + 5) != array[FILTERED]:
        fail(ctx, CHUNK_INDEX)
        return
    array[ELEMENT], array[PAGE] = u8(buf, ctx, at + 6), 1 << min(u8(buf, ctx, at + 7), 40)
    count, block = length(buf, ctx, at + 8), address(buf, ctx, at + 8 + ctx[C_LENGTHS])
    array[LIMIT] = count
    if not checked(buf, ctx, at, at + 8 + ctx[C_LENGTHS] + ctx[C_OFFSETS]) or block == UNDEFINED:
        return
    if not _element_fits(ctx, array) or count > buf.size // array[ELEMENT]:
        fail(ctx, COUNT)
    elif has_signature(buf, ctx, block, _FADB):
        if address(buf, ctx, block + 6) != at:
            fail(ctx, COUNT)
        _fixed_block(buf, ctx, block, count, array, grid, chunks)


@part
def _fixed_block(buf: Bytes, ctx: Ints, block: int, count: int, array: Ints, grid: Ints, chunks: Ints) -> None:
    """Note the chunks in a data block; a long one comes in pages, and a bit map says which of them are in use."""
    start = block + 6 + ctx[C_OFFSETS]
    if count <= array[PAGE]:
        if checked(buf, ctx, block, start + count * array[ELEMENT]):
            _elements(buf, ctx, start, 0, count, array, grid, chunks)
        return
    pages = (count + array[PAGE] - 1) // array[PAGE]
    bits = (pages + 7) // 8
    if checked(buf, ctx, block, start + bits):
        _pages(buf, ctx, start + bits + 4, 0, count, start, 0, array, grid, chunks)


@part
def _pages(
    buf: Bytes, ctx: Ints, pos: int, first: int, count: int, bits: int, bit: int, array: Ints, grid: Ints, chunks: Ints
) -> None:
    """Note the chunks in the pages from `pos`; page `i` is in use if bit `bit + i` of the map at `bits` is set."""
    done = 0
    while done < count and step(ctx):
        size = min(array[PAGE], count - done)
        if u8(buf, ctx, bits + bit // 8) & (0x80 >> (bit % 8)) and checked(buf, ctx, pos, pos + size * array[ELEMENT]):
            _elements(buf, ctx, pos, first + done, size, array, grid, chunks)
        done += size
        pos += size * array[ELEMENT] + 4
        bit += 1


@part
def _element_fits(ctx: Ints, array: Ints) -> bool:
    """Whether the size of an element is that of an address, or of an address, a size and a filter mask."""
    size = array[ELEMENT] - ctx[C_OFFSETS]
    return 5 <= size <= 12 if array[FILTERED] else size == 0


@part
def _elements(buf: Bytes, ctx: Ints, pos: int, first: int, count: int, array: Ints, grid: Ints, chunks: Ints) -> None:
    """Note consecutive elements: chunk addresses, with size and filter mask where there are filters."""
    width = array[ELEMENT] - ctx[C_OFFSETS] - 4
    for i in range(min(count, array[LIMIT] - first)):
        at = pos + i * array[ELEMENT]
        where = address(buf, ctx, at)
        if ctx[C_STATUS] != 0 or not step(ctx):
            return
        if where == UNDEFINED:
            continue
        stored, mask = array[NBYTES], 0
        if array[FILTERED]:
            stored = number(buf, ctx, at + ctx[C_OFFSETS], width)
            mask = u32(buf, ctx, at + ctx[C_OFFSETS] + width)
        note_chunk(buf, ctx, chunks, where, stored, mask, place(array[RANK], grid, first + i, array[FIRST]))


@part
def chunks_of_implicit(buf: Bytes, ctx: Ints, at: int, array: Ints, grid: Ints, chunks: Ints) -> None:
    """Note the chunks of a dataset whose chunks lie one after the other, all allocated (VII.B)."""
    count = n_chunks(array[RANK], grid, MAX_COUNTS)
    if array[NBYTES] == 0 or count > buf.size // array[NBYTES] or not within(buf, ctx, at, count * array[NBYTES]):
        fail(ctx, OUTSIDE)
        return
    for i in range(count):
        index = place(array[RANK], grid, i, 0)
        if index >= 0:
            note_chunk(buf, ctx, chunks, at + i * array[NBYTES], array[NBYTES], 0, index)
        if ctx[C_STATUS] != 0:
            return


# --- extensible arrays -----------------------------------------------------------------------------------------------


@part
def chunks_of_extensible_array(buf: Bytes, ctx: Ints, at: int, array: Ints, grid: Ints, chunks: Ints) -> None:
    """Note the chunks in an extensible array (VII.D)."""
    if not has_signature(buf, ctx, at, _EAHD):
        return
    if u8(buf, ctx, at + 4) != 0 or u8(buf, ctx, at + 5) != array[FILTERED]:
        fail(ctx, CHUNK_INDEX)
        return
    array[ELEMENT], bits, in_index = u8(buf, ctx, at + 6), u8(buf, ctx, at + 7), u8(buf, ctx, at + 8)
    least, pointers = u8(buf, ctx, at + 9), u8(buf, ctx, at + 10)
    array[PAGE] = 1 << min(u8(buf, ctx, at + 11), 40)
    array[LIMIT] = length(buf, ctx, at + 12 + 4 * ctx[C_LENGTHS])
    block = address(buf, ctx, at + 12 + 6 * ctx[C_LENGTHS])
    if not checked(buf, ctx, at, at + 12 + 6 * ctx[C_LENGTHS] + ctx[C_OFFSETS]) or block == UNDEFINED:
        return
    array[HEADER], array[OFFSET_SIZE] = at, (bits + 7) // 8
    sound = _element_fits(ctx, array) and 0 < bits <= 64 and least > 0 and pointers > 1
    if not sound or least & (least - 1) or pointers & (pointers - 1) or log2(least) >= bits:
        fail(ctx, COUNT)
    else:
        _index_block(buf, ctx, block, bits, in_index, least, pointers, array, grid, chunks)


@part
def _index_block(
    buf: Bytes,
    ctx: Ints,
    block: int,
    bits: int,
    in_index: int,
    least: int,
    pointers: int,
    array: Ints,
    grid: Ints,
    chunks: Ints,
) -> None:
    """Note the chunks below an index block: its elements, data blocks, then secondary blocks."""
    if not _belongs(buf, ctx, block, _EAIB, array):
        return
    pos = block + 6 + ctx[C_OFFSETS]
    direct, secondary = 2 * (pointers - 1), 1 + bits - log2(least) - 2 * log2(pointers)
    blocks = pos + in_index * array[ELEMENT]
    if secondary < 0:
        fail(ctx, COUNT)
    if not checked(buf, ctx, block, blocks + (direct + max(0, secondary)) * ctx[C_OFFSETS]):
        return
    _elements(buf, ctx, pos, 0, in_index, array, grid, chunks)
    first, entry, level = in_index, blocks, 0
    while level < 1 + bits - log2(least) and first < array[LIMIT] and step(ctx):
        count, size = 1 << (level // 2), least << ((level + 1) // 2)
        if level < 2 * log2(pointers):
            for i in range(count):
                _data_block(buf, ctx, address(buf, ctx, entry), first + i * size, size, -1, 0, array, grid, chunks)
                entry += ctx[C_OFFSETS]
        else:
            _secondary_block(buf, ctx, address(buf, ctx, entry), first, count, size, array, grid, chunks)
            entry += ctx[C_OFFSETS]
        first += count * size
        level += 1


@part
def _belongs(buf: Bytes, ctx: Ints, block: int, signature: int, array: Ints) -> bool:
    """Whether a block has its signature and is of the array; a failure if not."""
    if has_signature(buf, ctx, block, signature) and address(buf, ctx, block + 6) != array[HEADER]:
        fail(ctx, COUNT)
    return ctx[C_STATUS] == 0


@part
def _secondary_block(
    buf: Bytes, ctx: Ints, block: int, first: int, count: int, size: int, array: Ints, grid: Ints, chunks: Ints
) -> None:
    """Note the chunks below a secondary block: `count` data blocks of `size` elements each."""
    if block == UNDEFINED or not _belongs(buf, ctx, block, _EASB, array):
        return
    pages = size // array[PAGE] if size > array[PAGE] else 0
    bytes_per_block = (pages + 7) // 8
    bits = block + 6 + ctx[C_OFFSETS] + array[OFFSET_SIZE]
    pointers = bits + count * bytes_per_block
    if not checked(buf, ctx, block, pointers + count * ctx[C_OFFSETS]):
        return
    for i in range(count):
        if not step(ctx):
            return
        below = address(buf, ctx, pointers + i * ctx[C_OFFSETS])
        map_at = bits + i * bytes_per_block if pages else -1
        _data_block(buf, ctx, below, first + i * size, size, map_at, 0, array, grid, chunks)


@part
def _data_block(
    buf: Bytes,
    ctx: Ints,
    block: int,
    first: int,
    size: int,
    bits: int,
    bit: int,
    array: Ints,
    grid: Ints,
    chunks: Ints,
) -> None:
    """Note the chunks in a data block; `bits` is the bit map of its pages, -1 if it has none."""
    if block == UNDEFINED or ctx[C_STATUS] != 0 or not _belongs(buf, ctx, block, _EADB, array):
        return
    pos = block + 6 + ctx[C_OFFSETS] + array[OFFSET_SIZE]
    if bits >= 0:
        if checked(buf, ctx, block, pos):
            _pages(buf, ctx, pos + 4, first, size, bits, bit, array, grid, chunks)
    elif checked(buf, ctx, block, pos + size * array[ELEMENT]):
        _elements(buf, ctx, pos, first, size, array, grid, chunks)
