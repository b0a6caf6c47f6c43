"""What tells one state of a file from another: its size, when it was written, and a hash of its ends."""

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from cellnet_sd.sources.paths import is_remote

_SAMPLED: Final = 64 * 2**10


class Identity(msgspec.Struct, frozen=True):
    """What tells one state of a file from another."""

    size: int
    mtime_ns: int | None
    """When it was written; `None` for a remote file, which was put there later."""
    digest: str
    """Hash of the first and the last 64 KiB, where HDF5 keeps its superblock and what was written last."""
    tag: str = ""
    """What the server of a remote file says that changes with it; see `Served`."""

    @classmethod
    def of(cls, path: Path) -> "Identity":
        """Return the identity of the file at `path`."""
        if is_remote(path):
            from cellnet_sd.sources.remote import ends_of, served

            size, tag = served(path)
            return cls(size, None, _hash(ends_of(path, size, _SAMPLED)), tag)
        stat = path.stat()
        with path.open("rb") as file:
            sampled = file.read(_SAMPLED)
            file.seek(max(0, stat.st_size - _SAMPLED))
            sampled += file.read(_SAMPLED)
        return cls(stat.st_size, stat.st_mtime_ns, _hash(sampled))

    def holds_of(self, path: Path) -> bool:
        """Whether the file at `path` is in this state, as far as can be told without reading it."""
        if is_remote(path):
            from cellnet_sd.sources.remote import served

            return served(path) == (self.size, self.tag)
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)

    def takes(self, indexed: "Identity") -> bool:
        """Whether an index that was made of `indexed` is one of this file; of a remote one, before it was put there."""
        is_same_time = self.mtime_ns is None or self.mtime_ns == indexed.mtime_ns
        return is_same_time and (self.size, self.digest) == (indexed.size, indexed.digest)


def _hash(sampled: bytes) -> str:
    return hashlib.blake2b(sampled, digest_size=16).hexdigest()
