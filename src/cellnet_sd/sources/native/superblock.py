"""The superblock (II.A): where the file's addresses count from, how wide they are, and where the root group is."""

from typing import Final, NamedTuple

import numpy as np

from cellnet_sd.sources.native.codes import (
    C_BASE,
    C_CHUNK_K,
    C_HEAP,
    C_LEAF_K,
    C_LENGTHS,
    C_NODE_K,
    C_OFFSETS,
    C_STATUS,
    C_STEPS,
    CTX_SIZE,
    M_CACHE_IMAGE,
    M_DRIVER,
    UNDEFINED,
    Reason,
)
from cellnet_sd.sources.native.compiled import Bytes, Ints
from cellnet_sd.sources.native.headers import read_header
from cellnet_sd.sources.native.primitives import lookup3
from cellnet_sd.sources.native.work import Work

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_WIDTHS = (4, 8)
"""Of addresses and lengths. With two bytes libhdf5 itself does not read back all that it writes."""
_LEAF_K, _NODE_K, _CHUNK_K = 4, 16, 32
_M_K_VALUES: Final = 19
_WRITING = 5
"""Bits of the consistency flags: opened for writing, by one writer or by one beside readers."""


class UnreadableStructureError(ValueError):
    """The file as a whole is not for this reader; `reason` says why.

    Parameters
    ----------
    reason
        One of the reasons of `codes`: from `Reason.OUTSIDE` on the file is damaged.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class Superblock(NamedTuple):
    """What a superblock says."""

    buf: Bytes
    """The file, up to the end that the superblock states."""
    ctx: Ints
    """The state to begin with."""
    root: int
    """Position of the root group's object header."""


def read_superblock(mapped: Bytes, work: Work) -> Superblock:
    """Read the superblock of a mapped file.

    Raises
    ------
    UnreadableStructureError
        If there is none, it is damaged, or the file has features that are not known here.
    """
    start = _find(mapped)
    version = int(_bytes(mapped, start + 8, 1)[0])
    if version in (0, 1):
        return _old(mapped, start, version)
    if version in (2, 3):
        return _new(mapped, start, version, work)
    raise UnreadableStructureError(Reason.SUPERBLOCK)


def budget(size: int) -> int:
    """Return the steps that one pass over a file may take: each structure of a sound file has many bytes."""
    return 1_000_000 + size // 2


def _find(mapped: Bytes) -> int:
    """Return where the superblock is: at 0, 512, 1024, 2048, …."""
    start = 0
    while start + len(SIGNATURE) <= mapped.size:
        if mapped[start : start + len(SIGNATURE)].tobytes() == SIGNATURE:
            return start
        start = max(512, 2 * start)
    raise UnreadableStructureError(Reason.SIGNATURE)


def _bytes(mapped: Bytes, start: int, size: int) -> bytes:
    if start + size > mapped.size:
        raise UnreadableStructureError(Reason.TRUNCATED)
    return mapped[start : start + size].tobytes()


def _old(mapped: Bytes, start: int, version: int) -> Superblock:
    """Read a superblock of version 0 or 1."""
    fixed = _bytes(mapped, start, 28)
    ctx = _state(start, fixed[13], fixed[14])
    ctx[C_LEAF_K], ctx[C_NODE_K] = int.from_bytes(fixed[16:18], "little"), int.from_bytes(fixed[18:20], "little")
    pos = start + 24
    if version == 1:
        ctx[C_CHUNK_K] = int.from_bytes(fixed[24:26], "little")
        pos += 4
    offsets = fixed[13]
    fields = _bytes(mapped, pos, 4 * offsets)
    base, _, end, driver = (fields[i * offsets : (i + 1) * offsets] for i in range(4))
    root = _bytes(mapped, pos + 4 * offsets + fixed[14], offsets)  # behind the offset of a name, which is a length
    if driver != b"\xff" * offsets:
        raise UnreadableStructureError(Reason.SUPERBLOCK)
    return _checked_end(mapped, ctx, base, end, root)


def _new(mapped: Bytes, start: int, version: int, work: Work) -> Superblock:
    """Read a superblock of version 2 or 3."""
    fixed = _bytes(mapped, start, 12)
    ctx = _state(start, fixed[9], fixed[10])
    offsets = fixed[9]
    fields = _bytes(mapped, start + 12, 4 * offsets + 4)
    base, extension, end, root = (fields[i * offsets : (i + 1) * offsets] for i in range(4))
    if lookup3(mapped, ctx, start, 12 + 4 * offsets, -4) != int.from_bytes(fields[-4:], "little"):
        raise UnreadableStructureError(Reason.CHECKSUM)
    if version == 3 and fixed[11] & _WRITING:
        raise UnreadableStructureError(Reason.WRITING)
    block = _checked_end(mapped, ctx, base, end, root)
    if extension != b"\xff" * offsets:
        _read_extension(block, _position(block.buf, ctx, extension), work)
    return block


def _state(start: int, offsets: int, lengths: int) -> Ints:
    if offsets not in _WIDTHS or lengths not in _WIDTHS:
        raise UnreadableStructureError(Reason.SUPERBLOCK)
    ctx = np.zeros(CTX_SIZE, np.int64)
    ctx[[C_BASE, C_OFFSETS, C_LENGTHS, C_HEAP]] = start, offsets, lengths, UNDEFINED
    ctx[[C_LEAF_K, C_NODE_K, C_CHUNK_K, C_STEPS]] = _LEAF_K, _NODE_K, _CHUNK_K, 1_000_000
    return ctx


def _checked_end(mapped: Bytes, ctx: Ints, base: bytes, end: bytes, root: bytes) -> Superblock:
    """Return the superblock, once the file is seen to reach as far as it says.

    A file may have been moved behind a user block, or out of one: what counts is where the superblock is.
    """
    stop = int.from_bytes(end, "little") + int(ctx[C_BASE]) - int.from_bytes(base, "little")
    if stop > mapped.size or stop <= 0:
        raise UnreadableStructureError(Reason.TRUNCATED)
    buf = mapped[:stop]
    return Superblock(buf, ctx, _position(buf, ctx, root))


def _position(buf: Bytes, ctx: Ints, address: bytes) -> int:
    """Return the position in the file of an address."""
    position = int.from_bytes(address, "little") + int(ctx[C_BASE])
    if position > buf.size or address == b"\xff" * len(address):
        raise UnreadableStructureError(Reason.OUTSIDE)
    return position


def _read_extension(block: Superblock, header: int, w: Work) -> None:
    """Take the sizes of B-tree nodes from the superblock extension; refuse what lies in other files or in an image."""
    buf, ctx, _ = block
    read_header(buf, ctx, header, w.head, w.blocks, w.link_messages, w.attribute_messages)
    _raise_failure(ctx)
    if w.head[2 * M_DRIVER] >= 0 or w.head[2 * M_CACHE_IMAGE] >= 0:
        raise UnreadableStructureError(Reason.SUPERBLOCK)
    if w.head[2 * _M_K_VALUES] >= 0:  # IV.A.2.t
        values = np.frombuffer(_bytes(buf, int(w.head[2 * _M_K_VALUES]) + 1, 6), "<u2")
        ctx[[C_CHUNK_K, C_NODE_K, C_LEAF_K]] = values


def _raise_failure(ctx: Ints) -> None:
    if ctx[C_STATUS]:
        raise UnreadableStructureError(Reason(int(ctx[C_STATUS])))
