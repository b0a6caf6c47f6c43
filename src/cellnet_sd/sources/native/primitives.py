"""Reading numbers from the mapped bytes: the only functions of the compiled code that touch them.

Each checks its range first, and sets the status and returns 0 instead of reading outside.
"""

from cellnet_sd.sources.native.codes import (
    BUDGET,
    C_BASE,
    C_LENGTHS,
    C_OFFSETS,
    C_STATUS,
    C_STEPS,
    CHECKSUM,
    GROW,
    OUTSIDE,
    SIGNATURE,
    SIZE,
    UNDEFINED,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints, compiled, int64, part, uint32, uint64
from cellnet_sd.sources.native.instructions import fetch_ahead

_HUGE = 1 << 62
_CACHE_LINE = 64
AHEAD = 8
"""Runs, or objects, that bytes are asked for ahead of; see `expect`."""


@part
def fail(ctx: Ints, reason: int) -> None:
    """Keep the first reason for failure."""
    if ctx[C_STATUS] == 0:
        ctx[C_STATUS] = reason


@part
def ask_room(ctx: Ints, which: int, rows: int) -> None:
    """Give up until an array to work in (`codes.C_MORE_…`) has room for `rows`."""
    if ctx[C_STATUS] == 0:
        ctx[C_STATUS] = GROW
        ctx[which] = rows


@part
def step(ctx: Ints) -> bool:
    """Count one step of work; whether to go on. What may be visited is bounded by the size of the file."""
    ctx[C_STEPS] -= 1
    if ctx[C_STEPS] < 0:
        fail(ctx, BUDGET)
    return ctx[C_STATUS] == 0


@part
def within(buf: Bytes, ctx: Ints, pos: int, size: int) -> bool:
    """Whether `size` bytes at `pos` lie in the file."""
    if pos < 0 or size < 0 or size > buf.size or pos > buf.size - size:
        fail(ctx, OUTSIDE)
        return False
    return True


@part
def expect(buf: Bytes, pos: int, size: int) -> None:
    """Have the bytes from `pos` on brought into the processor's caches while it goes on: objects lie far apart."""
    if pos >= 0 and size <= buf.size and pos <= buf.size - size:
        for at in range(pos, pos + size, _CACHE_LINE):
            fetch_ahead(buf, at)


@part
def u8(buf: Bytes, ctx: Ints, pos: int) -> int:
    """Return a byte."""
    if pos < 0 or pos >= buf.size:
        fail(ctx, OUTSIDE)
        return 0
    return int64(buf[uint64(pos)])


@part
def u16(buf: Bytes, ctx: Ints, pos: int) -> int:
    """Return a little-endian number of two bytes."""
    if pos < 0 or pos > buf.size - 2:
        fail(ctx, OUTSIDE)
        return 0
    at = uint64(pos)
    return int64(buf[at]) | int64(buf[at + uint64(1)]) << 8


@part
def u32(buf: Bytes, ctx: Ints, pos: int) -> int:
    """Return a little-endian number of four bytes."""
    if pos < 0 or pos > buf.size - 4:
        fail(ctx, OUTSIDE)
        return 0
    return int64(_word(buf, uint64(pos)))


@part
def _word(buf: Bytes, at: int) -> int:
    low = uint32(buf[at]) | uint32(buf[at + uint64(1)]) << uint32(8)
    return uint32(low | uint32(buf[at + uint64(2)]) << uint32(16) | uint32(buf[at + uint64(3)]) << uint32(24))


@part
def number(buf: Bytes, ctx: Ints, pos: int, size: int) -> int:
    """Return a little-endian number of 0 to 8 bytes; one of 2**63 or more comes out negative."""
    if size < 0 or size > 8 or pos < 0 or pos > buf.size - size:
        fail(ctx, OUTSIDE)
        return 0
    value = uint64(0)
    for i in range(size):
        value |= uint64(buf[uint64(pos + i)]) << uint64(8 * i)
    return int64(value)


@part
def u64(buf: Bytes, ctx: Ints, pos: int) -> int:
    """Return a little-endian number of eight bytes; one of 2**63 or more comes out negative."""
    if pos < 0 or pos > buf.size - 8:
        fail(ctx, OUTSIDE)
        return 0
    return int64(_long(buf, uint64(pos)))


@part
def _long(buf: Bytes, at: int) -> int:
    return uint64(uint64(_word(buf, at)) | uint64(_word(buf, at + uint64(4))) << uint64(32))


@part
def length(buf: Bytes, ctx: Ints, pos: int) -> int:
    """Return a length (of the superblock's size of lengths); what no file can hold is a failure."""
    value = u64(buf, ctx, pos) if ctx[C_LENGTHS] == 8 else number(buf, ctx, pos, ctx[C_LENGTHS])
    if value < 0 or value > _HUGE:
        fail(ctx, SIZE)
        return 0
    return value


@part
def address(buf: Bytes, ctx: Ints, pos: int) -> int:
    """Return a position in the file from an address relative to the base; `UNDEFINED` for all bits one."""
    if ctx[C_OFFSETS] == 8:
        value = u64(buf, ctx, pos)
    else:
        value = number(buf, ctx, pos, ctx[C_OFFSETS])
        if value == (1 << (8 * ctx[C_OFFSETS])) - 1:
            return UNDEFINED
    if value == -1:
        return UNDEFINED
    if value < 0 or value > buf.size - ctx[C_BASE]:
        fail(ctx, OUTSIDE)
        return UNDEFINED
    return value + ctx[C_BASE]


@part
def has_signature(buf: Bytes, ctx: Ints, pos: int, word: int) -> bool:
    """Whether four bytes are a signature, given as a little-endian number; a failure if not."""
    if u32(buf, ctx, pos) != word:
        fail(ctx, SIGNATURE)
    return ctx[C_STATUS] == 0


@part
def log2(value: int) -> int:
    """Return the position of the highest bit of a positive number; 0 for 0."""
    bits = 0
    while value > 1:
        value >>= 1
        bits += 1
    return bits


@part
def copy_numbers(source: Ints, target: Ints) -> None:
    """Copy the numbers of a row to another one, as far as both reach; slices would need memory of their own."""
    for i in range(min(source.size, target.size)):
        target[i] = source[i]


@part
def product(a: int, b: int) -> int:
    """Return `a * b` for numbers that are not negative, or 2**62 if it is more."""
    if a != 0 and b > _HUGE // a:
        return _HUGE
    return a * b


@part
def same_bytes(buf: Bytes, ctx: Ints, first: int, second: int, size: int) -> bool:
    """Whether two runs of bytes of the file are equal."""
    if not (within(buf, ctx, first, size) and within(buf, ctx, second, size)):
        return False
    return are_equal(buf, first, buf, second, size)


@part
def are_equal(one: Bytes, first: int, other: Bytes, second: int, size: int) -> bool:
    """Whether two runs of bytes are equal that the caller has seen to lie in their arrays."""
    done = 0
    while done <= size - 8 and _long(one, uint64(first + done)) == _long(other, uint64(second + done)):
        done += 8
    while done < size and one[uint64(first + done)] == other[uint64(second + done)]:
        done += 1
    return done == size


@part
def has_nul(buf: Bytes, ctx: Ints, pos: int, size: int) -> bool:
    """Whether one of some bytes of the file is NUL, at which libhdf5 ends a name."""
    if within(buf, ctx, pos, size):
        for i in range(size):
            if buf[pos + i] == 0:
                return True
    return False


@part
def is_before(buf: Bytes, ctx: Ints, first: int, n_first: int, second: int, n_second: int) -> bool:
    """Whether one run of bytes of the file comes before another: byte by byte, a shorter one before what it begins."""
    if not within(buf, ctx, first, n_first) or not within(buf, ctx, second, n_second):
        return False
    for i in range(min(n_first, n_second)):
        if buf[first + i] != buf[second + i]:
            return buf[first + i] < buf[second + i]
    return n_first < n_second


@part
def matches(buf: Bytes, ctx: Ints, pos: int, size: int, word: Bytes) -> bool:
    """Whether bytes of the file are those of the array `word`."""
    return size == word.size and within(buf, ctx, pos, size) and are_equal(buf, pos, word, 0, size)


# --- checksums -------------------------------------------------------------------------------------------------------


@part
def _rotate(value: int, bits: int) -> int:
    return uint32(uint32(value << uint32(bits)) | (value >> uint32(32 - bits)))


@part
def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = uint32(uint32(a - c) ^ _rotate(c, 4))
    c = uint32(c + b)
    b = uint32(uint32(b - a) ^ _rotate(a, 6))
    a = uint32(a + c)
    c = uint32(uint32(c - b) ^ _rotate(b, 8))
    b = uint32(b + a)
    a = uint32(uint32(a - c) ^ _rotate(c, 16))
    c = uint32(c + b)
    b = uint32(uint32(b - a) ^ _rotate(a, 19))
    a = uint32(a + c)
    c = uint32(uint32(c - b) ^ _rotate(b, 4))
    return a, uint32(b + a), c


@part
def _final(a: int, b: int, c: int) -> int:
    c = uint32(uint32(c ^ b) - _rotate(b, 14))
    a = uint32(uint32(a ^ c) - _rotate(c, 11))
    b = uint32(uint32(b ^ a) - _rotate(a, 25))
    c = uint32(uint32(c ^ b) - _rotate(b, 16))
    a = uint32(uint32(a ^ c) - _rotate(c, 4))
    b = uint32(uint32(b ^ a) - _rotate(a, 14))
    return uint32(uint32(c ^ b) - _rotate(b, 24))


@part
def _tail(buf: Bytes, pos: int, size: int, zero: int) -> int:
    """Return up to four bytes as a number, missing ones as 0; none of those from `zero` to `zero + 4`."""
    value = uint32(0)
    for i in range(min(size, 4)):
        if not zero <= pos + i < zero + 4:
            value |= uint32(buf[uint64(pos + i)]) << uint32(8 * i)
    return uint32(value)


@compiled
def lookup3(buf: Bytes, ctx: Ints, pos: int, size: int, zero: int) -> int:
    """Return Jenkins' lookup3 hash of bytes, those at `zero` to `zero + 4` taken as 0 (-4: none)."""
    if not within(buf, ctx, pos, size):
        return uint32(0)
    a = b = c = uint32(uint32(0xDEADBEEF) + uint32(size))
    while size > 12:
        if zero + 4 <= pos or zero >= pos + 12:
            at = uint64(pos)
            x, y, z = _word(buf, at), _word(buf, at + uint64(4)), _word(buf, at + uint64(8))
        else:
            x, y, z = _tail(buf, pos, 4, zero), _tail(buf, pos + 4, 4, zero), _tail(buf, pos + 8, 4, zero)
        a, b, c = _mixed(uint32(a + x), uint32(b + y), uint32(c + z))
        pos += 12
        size -= 12
    if size == 0:
        return c
    a = uint32(a + _tail(buf, pos, size, zero))
    b = uint32(b + _tail(buf, pos + 4, size - 4, zero))
    return _final(a, b, uint32(c + _tail(buf, pos + 8, size - 8, zero)))


@part
def checked(buf: Bytes, ctx: Ints, start: int, end: int) -> bool:
    """Whether the checksum at `end` is that of the bytes from `start` to `end`; a failure if not."""
    found = lookup3(buf, ctx, start, end - start, -4)
    if ctx[C_STATUS] == 0 and u32(buf, ctx, end) != int64(found):
        fail(ctx, CHECKSUM)
    return ctx[C_STATUS] == 0
