"""An array as long as a remote file, into which the bytes are brought that are looked at; the rest takes no room.

Whatever decodes bytes of a mapped file decodes these: they have the same addresses.
"""

import hashlib
import io
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.errors import CellNetError
from cellnet_sd.sources.paths import file_name
from cellnet_sd.sources.remote import ranges_of, served

if TYPE_CHECKING:
    from cellnet_sd.identity import Identity

Ints = NDArray[np.int64]
BLOCK: Final = 2**12
"""Bytes that are brought together: a page of memory."""
_GAP: Final = 2**14 // BLOCK
"""Blocks between two pieces that are always asked for along with them.

Many requests are made at the same time, so that one more takes about as long as 16 KiB take to come.
"""
_LONG_GAP: Final = 2**16 // BLOCK
"""The most blocks that may be asked for along with pieces that are as long."""
_RUN: Final = 2**22 // BLOCK
"""The most blocks that are asked for as one."""
_READ_AHEAD: Final = 2**16
"""Bytes that libhdf5 is given at least: it reads structures of a few bytes, one after the other."""


class SparseBytes(ABC):
    """The bytes of a remote file, as far as they were brought.

    Parameters
    ----------
    path
        The file.
    buf
        All its bytes, read-only; zeros where they were not brought.
    have
        Which blocks are there, 0 or 1.
    """

    def __init__(self, path: Path, buf: NDArray[np.uint8], have: NDArray[np.uint8]) -> None:
        self.path, self.buf, self._have = path, buf, have

    @abstractmethod
    def _put(self, start: int, data: bytes) -> None:
        """Put bytes where `buf` shows them."""

    def _settle(self) -> None:  # noqa: B027  # not everything has to be settled
        """See that what was put stays there."""

    def bring(self, address: Ints, size: Ints) -> None:
        """Bring runs of bytes, as far as they lie in the file and are not there; see `ranges_of`."""
        blocks = _blocks_of(address, size, len(self.buf))
        missing = blocks[self._have[blocks] == 0]
        if not len(missing):
            return
        starts, stops = _runs(missing)
        ranges = zip((starts * BLOCK).tolist(), np.minimum(stops * BLOCK, len(self.buf)).tolist(), strict=True)
        for start, data in ranges_of(self.path, list(ranges)):
            self._put(start, data)
        self._settle()
        self._have[np.concatenate([np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])] = 1


def _blocks_of(address: Ints, size: Ints, end: int) -> Ints:
    """Return the blocks that hold runs of bytes, each once, in order."""
    inside = (address >= 0) & (size > 0) & (address < end)
    address, size = address[inside], size[inside]
    first = address // BLOCK
    count = -(-np.minimum(address + size, end) // BLOCK) - first
    before = np.cumsum(count) - count
    return np.unique(np.repeat(first - before, count) + np.arange(count.sum()))


def _runs(blocks: Ints) -> tuple[Ints, Ints]:
    """Return where runs of blocks start and end: close ones are one run, and no run is too long for a request."""
    near = _near(blocks)
    starts = blocks[np.searchsorted(near, near, side="left")]
    piece = near * (blocks[-1] + 1) + (blocks - starts) // _RUN
    firsts = np.flatnonzero(np.concatenate([[True], np.diff(piece) > 0]))
    lasts = np.append(firsts[1:], len(blocks)) - 1
    return blocks[firsts], blocks[lasts] + 1


def _near(blocks: Ints) -> Ints:
    """Return a number for each block that those share between which it pays to ask for the gaps too.

    A gap that is no longer than the pieces beside it are on average at most doubles what is fetched, as every piece has
    but two.
    """
    piece = np.concatenate([[0], np.cumsum(np.diff(blocks) > 1)])
    sizes = np.bincount(piece)
    gaps = np.diff(blocks)[np.diff(blocks) > 1] - 1
    is_far = (gaps > _GAP) & ((gaps > _LONG_GAP) | (2 * gaps > sizes[:-1] + sizes[1:]))
    return np.concatenate([[0], np.cumsum(is_far)])[piece]


def _n_blocks(size: int) -> int:
    return -(-size // BLOCK)


class MemoryBytes(SparseBytes):
    """Bytes in memory, for as long as they are used: only pages that were written take any.

    Parameters
    ----------
    path, size
        The file, and how many bytes it has.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._map = _anonymous(size)
        super().__init__(path, _read_only(self._map, size), _writable(_anonymous(_n_blocks(size))))

    def _put(self, start: int, data: bytes) -> None:
        self._map[start : start + len(data)] = data


class FolderBytes(SparseBytes):
    """Bytes in a folder: two sparse files of them and of which are there. Any number of processes may fill them.

    Parameters
    ----------
    path, identity
        The file, and the state of it that the bytes are of.
    folder
        Where they are kept.

    Raises
    ------
    CellNetError
        If the folder cannot be written.
    """

    def __init__(self, path: Path, identity: "Identity", folder: Path) -> None:
        state = f"{path}\n{identity.size}\n{identity.digest}\n{identity.tag}"
        name = f"{file_name(path)}-{hashlib.blake2b(state.encode(), digest_size=12).hexdigest()}"
        self.local = folder / f"{name}.bytes"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            data = _of_length(self.local, identity.size)
            have = _of_length(self.local.with_suffix(".blocks"), _n_blocks(identity.size))
        except OSError as error:
            raise self._failed(error) from error
        super().__init__(path, _read_only(data, identity.size), _writable(have))

    def _put(self, start: int, data: bytes) -> None:
        try:
            with self.local.open("r+b") as file:
                file.seek(start)
                file.write(data)
        except OSError as error:
            raise self._failed(error) from error

    def _settle(self) -> None:
        with self.local.open("r+b") as file:
            os.fsync(file.fileno())  # a block counts as there only once its bytes would outlive a crash

    def _failed(self, error: OSError) -> CellNetError:
        msg = (
            f"{self.local.parent} cannot keep what is read of a remote file ({error.strerror}). Make room, or set "
            "cellnet_sd.settings.cache_dir (of indexes) or block_cache (of files) to another folder."
        )
        return CellNetError(msg)


def _anonymous(size: int) -> mmap.mmap:
    """Return memory of which only what is written takes room."""
    if not hasattr(os, "memfd_create"):
        return mmap.mmap(-1, max(1, size))
    descriptor = os.memfd_create("cellnet_sd")  # Linux refuses to map more than it has, unless it is a sparse file
    try:
        os.truncate(descriptor, max(1, size))
        return mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)


def _of_length(path: Path, size: int) -> mmap.mmap:
    """Map a file of this length, made of holes where it is new."""
    with path.open("ab") as file:  # what is there is kept, whoever makes it first
        os.truncate(file.fileno(), max(1, size))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _writable(mapped: mmap.mmap) -> NDArray[np.uint8]:
    return np.frombuffer(mapped, np.uint8)


def _read_only(mapped: mmap.mmap, size: int) -> NDArray[np.uint8]:
    buf = np.frombuffer(mapped, np.uint8, count=size)
    buf.flags.writeable = False
    return buf


# --- for libhdf5 -----------------------------------------------------------------------------------------------------


class _Handle(io.RawIOBase):
    """A remote file as libhdf5 reads it through h5py; notes what the network did, which libhdf5 takes for damage."""

    def __init__(self, stored: SparseBytes) -> None:
        self._stored = stored
        self._at = 0
        self.fault: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._stored.buf)}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed's Buffer has no length
        size = min(len(buffer), max(0, len(self._stored.buf) - self._at))
        try:
            self._stored.bring(np.array([self._at]), np.array([max(size, _READ_AHEAD)]))
        except (CellNetError, FileNotFoundError) as error:
            self.fault = error
            raise OSError(str(error)) from error
        np.frombuffer(buffer, np.uint8)[:size] = self._stored.buf[self._at : self._at + size]
        self._at += size
        return size


@contextmanager
def remote_handle(path: Path) -> Iterator[io.RawIOBase]:
    """Give a remote file as a Python file, for h5py.

    Raises
    ------
    RemoteError
        If bytes of it could not be had, whatever was made of that.
    """
    handle = _Handle(MemoryBytes(path, served(path).size))
    try:
        yield handle
    finally:
        if handle.fault is not None:
            raise handle.fault
