"""Loops over stored bytes: copying runs of them, packing what is not zero, checking, and following references."""

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.sources.native.codes import C_BASE, C_OFFSETS, C_STATUS
from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled, int64, part, uint32, uint64
from cellnet_sd.sources.native.global_heap import object_of
from cellnet_sd.sources.native.instructions import LANES, not_zero, pread, put
from cellnet_sd.sources.native.primitives import AHEAD, expect, number, product, u32, within

_EXPECTED = 512
"""Bytes of a run that are asked for ahead; of longer ones the processor itself sees what comes."""
_PIECES = 16
_PIECE = 256
PACKED = 4
"""Arrays that are packed at a time."""
_COUNTS = np.array([number.bit_count() for number in range(1 << LANES)], np.uint64)
_PLACES = np.zeros((1 << LANES, LANES), np.int32)
"""Of each number of eight bits: which of them are set, as many as there are."""
for _number in range(1 << LANES):
    _PLACES[_number, : _COUNTS[_number]] = [bit for bit in range(LANES) if _number >> bit & 1]


@compiled
def copy_runs(buf: Bytes, ctx: Ints, positions: Ints, offsets: Ints, out: Bytes) -> None:
    """Copy runs of bytes of the file one after the other: the one from `positions[i]` to `out[offsets[i]:]`."""
    n = min(positions.size, offsets.size - 1)
    for i in range(n):
        if i + AHEAD < n:
            expect(buf, positions[i + AHEAD], min(offsets[i + AHEAD + 1] - offsets[i + AHEAD], _EXPECTED))
        start, stop = offsets[i], offsets[i + 1]
        if start < 0 or stop < start or stop > out.size or not within(buf, ctx, positions[i], stop - start):
            return
        _copy(buf, positions[i], out, start, stop - start)


@compiled
def copy_rows(buf: Bytes, ctx: Ints, positions: Ints, size: int, rows: Ints, out: Bytes) -> int:
    """Copy runs of `size` bytes: the one from `positions[i]` to row `rows[i]` of `out`, whose rows have that size.

    Returns how many were copied before one that does not lie in the file.
    """
    for i in range(min(positions.size, rows.size)):
        start = rows[i] * size
        if start < 0 or start > out.size - size or not within(buf, ctx, positions[i], size):
            return i
        _copy(buf, positions[i], out, start, size)
    return min(positions.size, rows.size)


@compiled
def read_runs(descriptor: int, positions: Ints, offsets: Ints, out: Bytes) -> int:
    """Read runs of bytes of an open file as `copy_runs` copies them from one that is in memory or mapped.

    Returns how many were read before one that does not lie in the file.
    """
    n = min(positions.size, offsets.size - 1)
    for i in range(n):
        if not _read(descriptor, positions[i], out, offsets[i], offsets[i + 1] - offsets[i]):
            return i
    return n


@compiled
def read_rows(descriptor: int, positions: Ints, size: int, rows: Ints, out: Bytes) -> int:
    """Read runs of `size` bytes of an open file as `copy_rows` copies them from one that is in memory or mapped.

    To map so many pages that lie far apart takes several times as long as to have the system copy them. Returns how
    many were read before one that does not lie in the file.
    """
    n = min(positions.size, rows.size)
    for i in range(n):
        if not _read(descriptor, positions[i], out, rows[i] * size, size):
            return i
    return n


@part
def _read(descriptor: int, position: int, out: Bytes, start: int, size: int) -> bool:
    """Read bytes of an open file into `out[start:]`; whether all of them are there."""
    if size < 0 or position < 0 or start < 0 or start > out.size - size:
        return False
    done = 0
    while done < size:  # the system may give less than is asked for
        n = pread(descriptor, out, uint64(start + done), size - done, position + done)
        if n <= 0 or n > size - done:
            return False
        done += n
    return True


@part
def _copy(source: Bytes, start: int, target: Bytes, at: int, size: int) -> None:
    """Copy bytes that the caller has seen to lie in both arrays."""
    for i in range(size):
        target[uint64(at + i)] = source[uint64(start + i)]


@compiled
def pack(
    arrays: tuple[NDArray[np.float32], ...],
    at: int,
    indices: NDArray[np.int32],
    kept: NDArray[np.float32],
    found: Ints,
    row: int,
) -> int:
    """Append the values of `PACKED` arrays that are not zero, and their indices, from position `at` on.

    Several at a time, as whoever calls has to get hold of the GIL again for each call. Fills a row of `found` (n, 2)
    for each array, from `row` on: how many are kept, and how many of them float32 cannot hold exactly. None is kept,
    and the number is -1, where one is not finite as float32, or there is no room for all values and `LANES` more.
    Returns the position after the last.
    """
    for i, values in enumerate(arrays):
        stop, inexact = _pack_one(values, at, indices, kept)
        if 0 <= row + i < found.shape[0]:
            found[row + i, 0], found[row + i, 1] = stop - at, inexact
        at = max(at, stop)
    return at


@part
def _pack_one(
    values: NDArray[np.float32], at: int, indices: NDArray[np.int32], kept: NDArray[np.float32]
) -> tuple[int, int]:
    """Append the values of one array; return the position after the last, `at - 1` if none is kept; and the inexact."""
    n = values.size
    if at < 0 or at + n + LANES > indices.size or at + n > kept.size:
        return at - 1, 0
    end = int64(_indices_of(values, uint64(at), indices))
    inexact = odd = 0
    for k in range(at, end):
        value = values[uint64(indices[uint64(k)])]
        kept[uint64(k)] = value
        inexact += kept[uint64(k)] != value
        odd += not np.isfinite(kept[uint64(k)])
    return (end, inexact) if odd == 0 else (at - 1, 0)


@part
def _indices_of(values: NDArray[np.float32], end: int, indices: NDArray[np.int32]) -> int:
    """Write the indices of the values that are not zero, without a branch; return the position after the last."""
    n, done = values.size, 0
    while done + LANES <= n:
        found = not_zero(values, done)
        put(indices, end, done, _PLACES, found)
        end = end + _COUNTS[found]
        done += LANES
    for i in range(done, n):
        indices[end] = i
        end = end + uint64(values[uint64(i)] != 0)
    return end


@compiled
def to_columns(
    rows: Ints, start: int, small: NDArray[np.uint8], coded: NDArray[np.int32], wide: NDArray[np.int64]
) -> None:
    """Put rows (n * slots, fields), slot by slot of each cell, into columns (fields, slots, cells) from `start` on.

    The first fields go to `small`, which has no negative numbers, the next ones to `coded` and `wide`, where all
    negative ones are -1.
    """
    slots = min(small.shape[1], coded.shape[1], wide.shape[1])
    cells = min(small.shape[2], coded.shape[2], wide.shape[2])
    if slots == 0 or start < 0 or small.shape[0] + coded.shape[0] + wide.shape[0] > rows.shape[1]:
        return
    for slot in range(slots):
        for i in range(min(rows.shape[0] // slots, cells - start)):
            row, at = rows[i * slots + slot], start + i
            for field in range(small.shape[0]):
                small[field, slot, at] = max(row[field], 0)
            field = small.shape[0]
            for k in range(coded.shape[0]):
                coded[k, slot, at] = max(row[field + k], -1)
            field += coded.shape[0]
            for k in range(wide.shape[0]):
                wide[k, slot, at] = max(row[field + k], -1)


@compiled
def fletcher32(data: Bytes, size: int) -> int:
    """Return Fletcher's checksum of the first `size` bytes, as HDF5 computes it: over big-endian words of 16 bits."""
    first = second = uint32(0)
    size = min(size, data.size)
    at = 0
    while at + 1 < size:
        stop = min(size - size % 2, at + 720)  # sums of 360 words fit into 32 bits
        while at < stop:
            first = uint32(first + (uint32(data[at]) << uint32(8) | uint32(data[at + 1])))
            second = uint32(second + first)
            at += 2
        first = uint32((first & uint32(0xFFFF)) + (first >> uint32(16)))
        second = uint32((second & uint32(0xFFFF)) + (second >> uint32(16)))
    if at < size:
        first = uint32(first + (uint32(data[at]) << uint32(8)))
        second = uint32(second + first)
        first = uint32((first & uint32(0xFFFF)) + (first >> uint32(16)))
        second = uint32((second & uint32(0xFFFF)) + (second >> uint32(16)))
    first = uint32((first & uint32(0xFFFF)) + (first >> uint32(16)))
    second = uint32((second & uint32(0xFFFF)) + (second >> uint32(16)))
    return uint32(second << uint32(16) | first)


@compiled
def unshuffle(data: Bytes, size: int, out: Bytes) -> None:
    """Undo the shuffle filter for elements of `size` bytes; what is left of an element at the end stays as it is."""
    n = min(data.size, out.size)
    if size <= 1 or size > n:
        _copy(data, 0, out, 0, n)
        return
    count = n // size
    for byte in range(size):
        start = byte * count
        for i in range(count):
            out[uint64(i * size + byte)] = data[uint64(start + i)]
    _copy(data, count * size, out, count * size, n - count * size)


@compiled
def resolve(buf: Bytes, ctx: Ints, references: Bytes, item_sizes: Ints, positions: Ints, sizes: Ints) -> int:
    """Find values of variable length by their references (length, collection, index; IV.A.2.d, class 9).

    Fills position and size in bytes of each; the size of each item is given. Returns how many were found: fewer than
    there are where one cannot be, `ctx[C_STATUS]` then says why.
    """
    width = 8 + ctx[C_OFFSETS]
    for i in range(min(positions.size, sizes.size, item_sizes.size)):
        count = u32(references, ctx, i * width)
        collection = number(references, ctx, i * width + 4, ctx[C_OFFSETS])
        index = u32(references, ctx, i * width + 4 + ctx[C_OFFSETS])
        positions[i], sizes[i] = 0, 0
        size = product(count, item_sizes[i])
        if ctx[C_STATUS] == 0 and size > 0 and collection != 0:
            positions[i], sizes[i] = object_of(buf, ctx, collection + ctx[C_BASE], index, size), size
        if ctx[C_STATUS] != 0:
            return i
    return positions.size


@compiled
def sample_hash(buf: Bytes, ctx: Ints, positions: Ints, sizes: Ints, out: Ints) -> None:
    """Fill `out` with two hashes (n, 2) of each run of bytes: of its size and 16 pieces of 256 bytes spread over it.

    Not a cryptographic hash: what it takes for equal is compared in full.
    """
    for i in range(min(positions.size, sizes.size, out.shape[0])):
        size = sizes[i]
        first, second = size * 0x2545F4914F6CDD1D, size ^ 0x2127599BF4325C37
        if not within(buf, ctx, positions[i], size):
            return
        for piece in range(_PIECES):
            start = max(0, size - _PIECE) * piece // (_PIECES - 1)
            for at in range(start, min(start + _PIECE, size)):
                byte = buf[positions[i] + at]
                first = (first ^ byte) * 0x100000001B3
                second = (second + byte) * 0x5851F42D4C957F2D + 1
                second ^= second >> 31
        out[i, 0], out[i, 1] = first, second
