"""Datasets: what their messages say, and where their bytes are (IV.A.2.i)."""

from cellnet_sd.sources.native.chunk_arrays import (
    FILTERED,
    FIRST,
    NBYTES,
    RANK,
    chunks_of_extensible_array,
    chunks_of_fixed_array,
    chunks_of_implicit,
)
from cellnet_sd.sources.native.chunk_output import CHUNK, COUNTS, DIMS, LIMITS, lay_grid, n_chunks, note_chunk
from cellnet_sd.sources.native.chunk_trees import chunks_of_btree1, chunks_of_btree2
from cellnet_sd.sources.native.codes import (
    C_CHUNKS,
    C_LENGTHS,
    C_OFFSETS,
    C_STATUS,
    CHUNK_INDEX,
    CHUNKED,
    COMPACT,
    CONTIGUOUS,
    COUNT,
    EXTERNAL_STORAGE,
    F_ADDRESS,
    F_CHUNK_COUNT,
    F_CHUNK_SHAPE,
    F_CHUNK_START,
    F_DTYPE,
    F_FILL,
    F_FILTERS,
    F_MASK,
    F_SHAPE,
    F_SIZE,
    F_STORAGE,
    F_TEXT,
    F_TEXT_SIZE,
    H_SHARED,
    INCOMPLETE,
    K_ADDRESS,
    K_MASK,
    K_SIZE,
    LAYOUT_CLASS,
    LAYOUT_VERSION,
    M_DATASPACE,
    M_DATATYPE,
    M_EXTERNAL,
    M_FILL,
    M_FILTERS,
    M_LAYOUT,
    M_OLD_FILL,
    NOT_STORED,
    PARTIAL_CHUNKS,
    SHARED_MESSAGE,
    SINGLE,
    SIZE,
    T_CHUNK_SHAPE,
    T_DTYPE,
    T_FILL,
    T_FILTERS,
    T_SHAPE,
    UNDEFINED,
    VIRTUAL,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.dataspaces import n_elements, read_dataspace
from cellnet_sd.sources.native.global_heap import variable_length
from cellnet_sd.sources.native.interning import Tables, intern
from cellnet_sd.sources.native.primitives import address, fail, length, number, product, u8, u16, u32, within
from cellnet_sd.sources.native.work import Work

_NEEDED = 1 << M_DATASPACE | 1 << M_DATATYPE | 1 << M_OLD_FILL | 1 << M_FILL | 1 << M_LAYOUT | 1 << M_FILTERS
_LEAST = (0, 4, 0, 8, 4, 2, 0, 0, 0, 0, 0, 2)
"""The least size of each message, by its type."""
_VLEN = 9
_BASE_TYPE = 8
# indices of chunks (IV.A.2.i, version 4)
_ONE_CHUNK = 1
_IMPLICIT = 2
_FIXED_ARRAY = 3
_EXTENSIBLE_ARRAY = 4
_BTREE_2 = 5


@part
def is_dataset(head: Ints) -> bool:
    """Whether an object header is that of a dataset."""
    return head[2 * M_LAYOUT] >= 0 and head[2 * M_DATASPACE] >= 0 and head[2 * M_DATATYPE] >= 0


@part
def read_dataset(
    buf: Bytes, ctx: Ints, head: Ints, tables: Tables, use: int, out: Ints, chunks: Ints, work: Work
) -> None:
    """Fill the row `out` (`codes.F_…`) of the dataset with the header `head`."""
    if head[2 * M_EXTERNAL] >= 0:
        fail(ctx, EXTERNAL_STORAGE)
    elif head[H_SHARED] & _NEEDED:
        fail(ctx, SHARED_MESSAGE)
    if ctx[C_STATUS] != 0:
        return
    _describe(buf, ctx, head, tables, use, out)
    grid = work.grid
    space = head[2 * M_DATASPACE]
    rank = read_dataspace(buf, ctx, space, head[2 * M_DATASPACE + 1], grid[DIMS], grid[LIMITS])
    nbytes = product(n_elements(rank, grid[DIMS]), u32(buf, ctx, head[2 * M_DATATYPE] + 4))
    if ctx[C_STATUS] == 0:
        _locate(buf, ctx, head, tables, use, out, rank, nbytes, chunks, work)
    if ctx[C_STATUS] == 0 and u8(buf, ctx, head[2 * M_DATATYPE]) & 15 == _VLEN and n_elements(rank, grid[DIMS]) == 1:
        _read_text(buf, ctx, head[2 * M_DATATYPE], out)


@part
def _describe(buf: Bytes, ctx: Ints, head: Ints, tables: Tables, use: int, out: Ints) -> None:
    """Note the codes of datatype, dataspace, fill value and filters."""
    fill = M_FILL if head[2 * M_FILL] >= 0 else M_OLD_FILL
    out[F_DTYPE] = _code(buf, ctx, head, tables, T_DTYPE, use, M_DATATYPE)
    out[F_SHAPE] = _code(buf, ctx, head, tables, T_SHAPE, use, M_DATASPACE)
    out[F_FILL] = _code(buf, ctx, head, tables, T_FILL, use, fill)
    out[F_FILTERS] = _code(buf, ctx, head, tables, T_FILTERS, use, M_FILTERS)


@part
def _code(buf: Bytes, ctx: Ints, head: Ints, tables: Tables, table: int, use: int, kind: int) -> int:
    if head[2 * kind] < 0:
        return -1
    if head[2 * kind + 1] < _LEAST[kind]:
        fail(ctx, INCOMPLETE)
        return -1
    return intern(buf, ctx, tables, table, use, head[2 * kind], head[2 * kind + 1], kind)


@part
def _locate(
    buf: Bytes,
    ctx: Ints,
    head: Ints,
    tables: Tables,
    use: int,
    out: Ints,
    rank: int,
    nbytes: int,
    chunks: Ints,
    work: Work,
) -> None:
    """Note where the bytes of a dataset are: its data layout message (IV.A.2.i)."""
    pos = head[2 * M_LAYOUT]
    version, storage = u8(buf, ctx, pos), u8(buf, ctx, pos + 1)
    if not 3 <= version <= 5:
        fail(ctx, LAYOUT_VERSION)
    elif storage == 0:
        out[F_STORAGE], out[F_ADDRESS], out[F_SIZE] = COMPACT, pos + 4, u16(buf, ctx, pos + 2)
        if out[F_SIZE] > head[2 * M_LAYOUT + 1] - 4 or nbytes > out[F_SIZE]:
            fail(ctx, SIZE)
    elif storage == 1:
        _contiguous(buf, ctx, pos, nbytes, out)
    elif storage == 3:
        fail(ctx, VIRTUAL)
    elif storage != 2:
        fail(ctx, LAYOUT_CLASS)
    elif rank <= 0:
        fail(ctx, COUNT)
    else:
        _chunked(buf, ctx, head, tables, use, out, rank, chunks, work)


@part
def _contiguous(buf: Bytes, ctx: Ints, pos: int, nbytes: int, out: Ints) -> None:
    at = address(buf, ctx, pos + 2)
    size = length(buf, ctx, pos + 2 + ctx[C_OFFSETS])
    if at == UNDEFINED or size == nbytes == 0:
        out[F_STORAGE] = NOT_STORED
        return
    out[F_STORAGE], out[F_ADDRESS], out[F_SIZE] = CONTIGUOUS, at, size
    if nbytes > size:
        fail(ctx, SIZE)
    within(buf, ctx, at, size)


@part
def _chunked(
    buf: Bytes,
    ctx: Ints,
    head: Ints,
    tables: Tables,
    use: int,
    out: Ints,
    rank: int,
    chunks: Ints,
    work: Work,
) -> None:
    """Note the chunks of a dataset, and the code of their shape."""
    pos, grid = head[2 * M_LAYOUT], work.grid
    old = u8(buf, ctx, pos) == 3
    flags = 0 if old else u8(buf, ctx, pos + 2)
    width = 4 if old else u8(buf, ctx, pos + 4)
    dims = pos + 3 + ctx[C_OFFSETS] if old else pos + 5
    nbytes = _chunk_shape(buf, ctx, u8(buf, ctx, pos + (2 if old else 3)), width, dims, rank, grid)
    if flags & 1:
        fail(ctx, PARTIAL_CHUNKS)
    lay_grid(ctx, rank, grid)
    out[F_CHUNK_SHAPE] = intern(buf, ctx, tables, T_CHUNK_SHAPE, use, dims, rank * width, width)
    start = ctx[C_CHUNKS]
    filtered = 1 if head[2 * M_FILTERS] >= 0 else 0
    if ctx[C_STATUS] == 0:
        if old:
            root = address(buf, ctx, pos + 3)
            if root != UNDEFINED:
                chunks_of_btree1(buf, ctx, root, rank, grid, chunks, work.stack)
        else:
            _indexed(buf, ctx, dims + (rank + 1) * width, flags, filtered, rank, nbytes, chunks, work)
    if ctx[C_STATUS] == 0:
        _summarise(ctx, start, n_chunks(rank, grid, COUNTS), chunks, out)


@part
def _chunk_shape(buf: Bytes, ctx: Ints, n_dims: int, width: int, dims: int, rank: int, grid: Ints) -> int:
    """Fill the shape of a chunk; return its size in bytes, unfiltered."""
    if n_dims != rank + 1 or width < 1 or width > 8:
        fail(ctx, INCOMPLETE)
        return 0
    nbytes = number(buf, ctx, dims + rank * width, width)
    for axis in range(rank):
        grid[CHUNK, axis] = number(buf, ctx, dims + axis * width, width)
        if grid[CHUNK, axis] <= 0 or nbytes <= 0:
            fail(ctx, COUNT)
            return 0
        nbytes = product(nbytes, grid[CHUNK, axis])
    return nbytes


@part
def _indexed(
    buf: Bytes,
    ctx: Ints,
    pos: int,
    flags: int,
    filtered: int,
    rank: int,
    nbytes: int,
    chunks: Ints,
    work: Work,
) -> None:
    """Note the chunks that one of the indices of version 4 names (IV.A.2.i; VII)."""
    kind = u8(buf, ctx, pos)
    grid, array = work.grid, work.array
    array[:] = 0
    array[RANK], array[FILTERED], array[NBYTES] = rank, filtered, nbytes
    if kind == _ONE_CHUNK:
        _one_chunk(buf, ctx, pos + 1, flags & 2, nbytes, chunks)
    elif kind == _IMPLICIT:
        at = address(buf, ctx, pos + 1)
        if at != UNDEFINED:
            chunks_of_implicit(buf, ctx, at, array, grid, chunks)
    elif kind == _FIXED_ARRAY:
        at = address(buf, ctx, pos + 2)
        if at != UNDEFINED:
            chunks_of_fixed_array(buf, ctx, at, array, grid, chunks)
    elif kind == _EXTENSIBLE_ARRAY:
        at = address(buf, ctx, pos + 6)
        array[FIRST] = _unlimited_axis(ctx, rank, grid)
        if at != UNDEFINED and ctx[C_STATUS] == 0:
            chunks_of_extensible_array(buf, ctx, at, array, grid, chunks)
    elif kind == _BTREE_2:
        at = address(buf, ctx, pos + 7)
        if at != UNDEFINED:
            chunks_of_btree2(buf, ctx, at, rank, grid, filtered, nbytes, chunks, work.records, work.stack)
    else:
        fail(ctx, CHUNK_INDEX)


@part
def _unlimited_axis(ctx: Ints, rank: int, grid: Ints) -> int:
    """Return the one axis without a limit."""
    found = -1
    for axis in range(rank):
        if grid[LIMITS, axis] < 0:
            found = axis
    if found < 0:
        fail(ctx, CHUNK_INDEX)
    return found


@part
def _one_chunk(buf: Bytes, ctx: Ints, pos: int, filtered: int, nbytes: int, chunks: Ints) -> None:
    mask = 0
    if filtered:
        nbytes, mask = length(buf, ctx, pos), u32(buf, ctx, pos + ctx[C_LENGTHS])
        pos += ctx[C_LENGTHS] + 4
    note_chunk(buf, ctx, chunks, address(buf, ctx, pos), nbytes, mask, 0)


@part
def _summarise(ctx: Ints, start: int, in_grid: int, chunks: Ints, out: Ints) -> None:
    """Note the extent of a dataset's chunks; one that covers it all moves into the dataset's own row."""
    count = ctx[C_CHUNKS] - start
    size = 0
    for i in range(start, start + count):
        size += chunks[i, K_SIZE]
    out[F_STORAGE], out[F_SIZE] = NOT_STORED, size
    if count == 1 and in_grid == 1:
        out[F_STORAGE], out[F_ADDRESS], out[F_MASK] = SINGLE, chunks[start, K_ADDRESS], chunks[start, K_MASK]
        ctx[C_CHUNKS] = start
    elif count > 0:
        out[F_STORAGE], out[F_CHUNK_START], out[F_CHUNK_COUNT] = CHUNKED, start, count


@part
def _read_text(buf: Bytes, ctx: Ints, datatype: int, out: Ints) -> None:
    """Note where the one value of variable length is, if its reference is stored as it is."""
    plain = (
        out[F_STORAGE] == COMPACT or out[F_STORAGE] == CONTIGUOUS or (out[F_STORAGE] == SINGLE and out[F_FILTERS] < 0)
    )
    if plain:
        item = u32(buf, ctx, datatype + _BASE_TYPE + 4)
        out[F_TEXT], out[F_TEXT_SIZE] = variable_length(buf, ctx, out[F_ADDRESS], item)
