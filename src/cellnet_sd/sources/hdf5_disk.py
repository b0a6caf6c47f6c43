"""An HDF5 file that is written in parts, on a disk that may be full.

libhdf5 cannot give up a file: where it cannot write what it has cached, closing fails, and the process crashes over it
later (HDF5 1.14 and 2.0). So it never sees a write fail: what the disk does not take is kept in memory, and the error
is raised where Python has control, between the parts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from h5py import File


class Disk:
    """A new file, as h5py takes one in the place of a path, whose writes do not fail.

    Parameters
    ----------
    path
        Where it is made.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._at = self._end = 0
        self._kept: list[tuple[int, bytes]] = []
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def check(self) -> None:
        """Raise the error of the first write that failed, if one has."""
        if self._error is not None:
            raise self._error

    # --- what h5py calls ---------------------------------------------------------------------------------------------

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted from the beginning or the end."""
        self._at = offset + (self._end if whence == os.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def write(self, data: memoryview) -> int:
        """Write, to the disk as long as that takes it."""
        if self._error is None:
            try:
                self._write(data)
            except OSError as error:
                self._error = error
        if self._error is not None:
            self._kept.append((self._at, bytes(data)))
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def _write(self, data: memoryview) -> None:
        written = 0
        while written < len(data):
            written += os.pwrite(self._file.fileno(), data[written:], self._at + written)

    def read(self, size: int) -> bytes:
        """Read, into memory of its own: h5py knows a file by this method, and calls the next."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, buffer: memoryview) -> int:
        """Read what was written, wherever it is."""
        size = max(0, min(len(buffer), self._end - self._at))
        found = os.pread(self._file.fileno(), size, self._at)
        buffer[:size] = found.ljust(size, b"\0")
        for begin, data in self._kept:
            low, high = max(begin, self._at), min(begin + len(data), self._at + size)
            if low < high:
                buffer[low - self._at : high - self._at] = data[low - begin : high - begin]
        self._at += size
        return size

    def truncate(self, size: int) -> int:
        """Set the length."""
        try:
            self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
        self._end = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""


class Output(NamedTuple):
    """An HDF5 file that is being made, and the disk it is on."""

    file: "File"
    disk: Disk


@contextmanager
def hdf5_output(path: Path) -> Iterator[Output]:
    """Make an HDF5 file, to be closed when the block ends.

    Parameters
    ----------
    path
        Where; what is there is replaced.

    Raises
    ------
    OSError
        If the disk did not take it, be it for what was written as it was closed.
    """
    import h5py

    with Disk(path) as disk:
        with h5py.File(disk, "w") as file:
            yield Output(file, disk)
        disk.check()
