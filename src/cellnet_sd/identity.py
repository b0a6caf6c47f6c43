"""What tells one state of a file from another: its size, when it was written, and hashes of some of its bytes."""

import hashlib
import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from cellnet_sd.sources.hdf5_objects import superblock_at
from cellnet_sd.sources.paths import is_remote

_ENDS: Final = 64 * 2**10
_BLOCKS: Final = 64
_BLOCK: Final = 4_096
_ADDRESSES: Final = {0: (13, 24), 1: (13, 28), 2: (9, 12), 3: (9, 12)}
"""Of each version of a superblock: where the width of its addresses is said, and where the first of them is."""


class Identity(msgspec.Struct, frozen=True):
    """What tells one state of a file from another."""

    size: int
    mtime_ns: int | None
    """When it was written; `None` for a remote file, which was put there later."""
    digest: str
    """Hash of the first and the last 64 KiB, where HDF5 keeps its superblock and what was written last."""
    tag: str = ""
    """What the server of a remote file says that changes with it; see `Served`."""
    end: int | None = None
    """Where the superblock says that the file ends; `None` if there is none in what was read."""
    blocks: str | None = None
    """Hash of 64 blocks of 4 KiB spread over the file; `None` for a remote one, where each would be a request."""

    @classmethod
    def of(cls, path: Path) -> "Identity":
        """Return the identity of the file at `path`."""
        if is_remote(path):
            from cellnet_sd.sources.remote import ends_of, served

            size, tag = served(path)
            ends = ends_of(path, size, _ENDS)
            return cls(size, None, _hash(ends), tag, _stated_end(BytesIO(ends[:_ENDS])))
        stat = path.stat()
        with path.open("rb", buffering=0) as file:
            ends = os.pread(file.fileno(), _ENDS, 0) + os.pread(file.fileno(), _ENDS, max(0, stat.st_size - _ENDS))
            blocks = b"".join(os.pread(file.fileno(), _BLOCK, start) for start in _starts(stat.st_size))
            return cls(stat.st_size, stat.st_mtime_ns, _hash(ends), "", _stated_end(file), _hash(blocks))

    def holds_of(self, path: Path) -> bool:
        """Whether the file at `path` is in this state, as far as can be told without reading it."""
        if is_remote(path):
            from cellnet_sd.sources.remote import served

            return served(path) == (self.size, self.tag)
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)

    def takes(self, indexed: "Identity") -> bool:
        """Whether an index that was made of `indexed` is one of this file; of a remote one, before it was put there."""
        known = (self.mtime_ns, indexed.mtime_ns), (self.end, indexed.end), (self.blocks, indexed.blocks)
        return (self.size, self.digest) == (indexed.size, indexed.digest) and all(
            own is None or own == other for own, other in known
        )


def _hash(sampled: bytes) -> str:
    return hashlib.blake2b(sampled, digest_size=16).hexdigest()


def _starts(size: int) -> list[int]:
    """Return where blocks begin that are spread over what lies between the ends, each a page of the system's cache."""
    first, last = _ENDS, max(_ENDS, size - _ENDS)
    return sorted({first + (last - first) * at // _BLOCKS // _BLOCK * _BLOCK for at in range(_BLOCKS)})


def _stated_end(file: BinaryIO) -> int | None:
    """Return where a superblock says that the file ends (HDF5 File Format Specification, II.A)."""
    start = superblock_at(file)
    if start is None or len(fixed := _at(file, start, 28)) < 28:
        return None
    width_at, first = _ADDRESSES.get(fixed[8], (0, 0))
    width = fixed[width_at]
    return int.from_bytes(_at(file, start + first + 2 * width, width), "little") if first else None


def _at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
