"""Headers that say what another has said: datasets of a kind, written one after the other, differ in few bytes.

Of each use, the dataset read last is known. It stands for those whose header has the same bytes, but for what is read
of each (the dataspace and the data layout), what is read of none (times), and the checksum, which must be right.
"""

from cellnet_sd.sources.native.codes import (
    C_STATUS,
    DATASET,
    F_ATTRIBUTES,
    F_DTYPE,
    F_FILL,
    F_FILTERS,
    F_HEADER,
    F_KIND,
    H_ATTRIBUTES,
    H_BLOCKS,
    H_SHARED,
    HEAD_SIZE,
    M_DATASPACE,
    M_LAYOUT,
    M_TIME,
    N_TYPES,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, int64, part, uint8, uint64
from cellnet_sd.sources.native.primitives import copy_numbers, lookup3, u8, u32
from cellnet_sd.sources.native.work import ALIKE_GAPS, Work

_VERSION_1 = 1
_TIMES = 32
"""The flag of a header of version 2 that has times, after its first six bytes (IV.A.1.b)."""


@part
def recall(buf: Bytes, ctx: Ints, row: Ints, use: int, w: Work) -> bool:
    """Whether a header says what the known one says; then `w.head` is its own, and the row has what is known."""
    known, gaps, at = w.alike[use & 15], w.alike_gaps[use & 15], row[F_HEADER]
    before, size = known[F_HEADER], gaps[ALIKE_GAPS, 0]
    if before < 0 or at < 0 or at > buf.size - size - 4:
        return False
    start = 0
    for gap in range(ALIKE_GAPS + 1):
        if _differ(buf, before + start, at + start, gaps[gap, 0] - start):
            return False
        start = gaps[gap, 1]
    if u8(buf, ctx, at) != _VERSION_1 and u32(buf, ctx, at + size) != int64(lookup3(buf, ctx, at, size, -4)):
        return False
    for kind in range(2 * N_TYPES):
        moved = kind & 1 == 0 and w.alike_heads[use & 15, kind] >= 0
        w.head[kind] = w.alike_heads[use & 15, kind] + (at - before if moved else 0)
    w.head[2 * N_TYPES : HEAD_SIZE] = 0
    row[F_DTYPE], row[F_FILL], row[F_FILTERS], row[F_ATTRIBUTES] = known[F_DTYPE], known[F_FILL], known[F_FILTERS], 0
    return True


@part
def _differ(buf: Bytes, first: int, second: int, size: int) -> bool:
    """Whether two runs of bytes, which lie in the file, are not the same; without a branch, thus many at a time."""
    differing = uint8(0)
    for i in range(size):
        differing = uint8(differing | (buf[uint64(first + i)] ^ buf[uint64(second + i)]))
    return differing != 0


@part
def remember(buf: Bytes, ctx: Ints, row: Ints, use: int, w: Work) -> None:
    """Know the dataset whose header was read last, if it is one block without attributes or shared messages."""
    head, known, gaps = w.head, w.alike[use & 15], w.alike_gaps[use & 15]
    known[F_HEADER] = -1
    is_plain = head[H_BLOCKS] == 1 and head[H_SHARED] == 0 and head[H_ATTRIBUTES] == 0
    if ctx[C_STATUS] != 0 or row[F_KIND] != DATASET or row[F_ATTRIBUTES] != 0 or not is_plain:
        return
    at = row[F_HEADER]
    copy_numbers(row, known)
    copy_numbers(head, w.alike_heads[use & 15])
    gaps[:] = w.blocks[0, 1] - at
    if u8(buf, ctx, at) != _VERSION_1 and u8(buf, ctx, at + 5) & _TIMES:
        _leave_out(gaps, 6, 22)
    for kind in (M_DATASPACE, M_LAYOUT, M_TIME):
        if head[2 * kind] >= 0:
            _leave_out(gaps, head[2 * kind] - at, head[2 * kind] - at + head[2 * kind + 1])


@part
def _leave_out(gaps: Ints, start: int, stop: int) -> None:
    """Add a gap in its place; gaps that are not in use are at the end."""
    at = ALIKE_GAPS
    while at > 0 and gaps[at - 1, 0] > start:
        gaps[at, 0], gaps[at, 1] = gaps[at - 1, 0], gaps[at - 1, 1]
        at -= 1
    gaps[at, 0], gaps[at, 1] = start, stop
