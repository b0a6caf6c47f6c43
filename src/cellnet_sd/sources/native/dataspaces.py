"""Dataspaces (IV.A.2.b): the length of each axis."""

from cellnet_sd.sources.native.codes import C_LENGTHS, DATASPACE_VERSION, INCOMPLETE, MAX_RANK, SIZE
from cellnet_sd.sources.native.compiled import Bytes, Ints, part
from cellnet_sd.sources.native.primitives import fail, length, number, product, u8

NULL = -1
"""Rank of a dataspace without elements."""
UNLIMITED = -1


@part
def read_dataspace(buf: Bytes, ctx: Ints, message: int, size: int, dims: Ints, maxdims: Ints) -> int:
    """Fill `dims` and `maxdims` (`UNLIMITED` where it is); return the rank, 0 for a scalar, `NULL` for none."""
    version, rank, flags = u8(buf, ctx, message), u8(buf, ctx, message + 1), u8(buf, ctx, message + 2)
    if version not in (1, 2):
        fail(ctx, DATASPACE_VERSION)
        return 0
    pos = message + (8 if version == 1 else 4)
    if rank > MAX_RANK or pos + rank * ctx[C_LENGTHS] * (2 if flags & 1 else 1) > message + size:
        fail(ctx, INCOMPLETE)
        return 0
    if version == 2 and u8(buf, ctx, message + 3) == 2:
        return NULL
    for axis in range(rank):
        dims[axis] = maxdims[axis] = length(buf, ctx, pos + axis * ctx[C_LENGTHS])
    if flags & 1:
        for axis in range(rank):
            at = pos + (rank + axis) * ctx[C_LENGTHS]
            maxdims[axis] = _limit(buf, ctx, at)
            if maxdims[axis] != UNLIMITED and maxdims[axis] < dims[axis]:
                fail(ctx, SIZE)
    return rank


@part
def _limit(buf: Bytes, ctx: Ints, pos: int) -> int:
    width = ctx[C_LENGTHS]
    value = number(buf, ctx, pos, width)
    if value < 0 or (width < 8 and value == (1 << (8 * width)) - 1):
        return UNLIMITED
    return value


@part
def n_elements(rank: int, dims: Ints) -> int:
    """Return the number of elements, at most 2**62."""
    if rank == NULL:
        return 0
    count = 1
    for axis in range(rank):
        count = product(count, dims[axis])
    return count
