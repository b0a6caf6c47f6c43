"""Files behind URLs: what the server says of them, and ranges of their bytes, many at a time."""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from cellnet_sd.errors import AccessDeniedError, LayoutError, MissingDependencyError, RemoteError
from cellnet_sd.progress import progress
from cellnet_sd.sources.paths import file_name

if TYPE_CHECKING:
    from upath import UPath

Range = tuple[int, int]
_PAUSES: Final = (0.1, 0.4, 1.6)
"""Seconds after which what failed is tried again."""
_AT_ONCE: Final = 2**25
"""Bytes that are fetched at the same time."""
_TAGS: Final = ("ETag", "etag", "md5Hash", "Content-MD5", "LastModified", "Last-Modified", "mtime", "created")
"""What file systems call that which changes with a file, the surest first."""
_HTTP: Final = ("aiohttp", "ClientError")
_S3: Final = ("botocore.exceptions", "BotoCoreError")
_NO_CREDENTIALS: Final = ("botocore.exceptions", "NoCredentialsError")
"""Errors of the network that are no `OSError`: those of the clients of HTTP and S3."""
_GONE, _DENIED = (404, 410), (401, 403)


class Served(NamedTuple):
    """What a server says of a file."""

    size: int
    tag: str
    """What changes with the file: a checksum, or when it was written; empty if the server does not say."""


def served(path: Path) -> Served:
    """Ask a server for the state of a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    LayoutError
        If it is a folder.
    RemoteError
        If the server cannot be reached, refuses, or does not say how large the file is.
    """
    files, name = _file_system(path)
    files.invalidate_cache(name)  # else S3 answers from the listing of a folder
    found = _persistently(path, lambda: files.info(name))
    if found["type"] == "directory":
        msg = f"{path} is a folder. Cell-NET is read from an HDF5 file: pass one of its files."
        raise LayoutError(msg)
    if found["size"] is None:
        msg = f"{path}: its server does not say how large it is, so that it cannot be read in parts. Download it first."
        raise RemoteError(msg)
    return Served(int(found["size"]), next((str(found[key]) for key in _TAGS if found.get(key)), ""))


def ends_of(path: Path, size: int, length: int) -> bytes:
    """Return the first and the last `length` bytes of a file of `size` bytes.

    They are read in a way that takes no more than that from a server which ignores that a part was asked for: later
    ranges may be trusted to be ranges.

    Raises
    ------
    RemoteError
        If the server cannot be reached, or serves whole files only.
    """
    files, name = _file_system(path)

    def read() -> bytes:
        with files.open(name, "rb", cache_type="none") as file:
            start: bytes = file.read(min(length, size))
            file.seek(max(0, size - length))
            return start + cast("bytes", file.read(min(length, size)))

    try:
        return _persistently(path, read)
    except ValueError as error:  # fsspec's own: the server sent more than was asked for, or cannot seek
        msg = f"{path}: its server serves whole files only, no ranges of bytes ({error}). Download it first."
        raise RemoteError(msg) from error


def ranges_of(path: Path, ranges: Sequence[Range]) -> Iterator[tuple[int, bytes]]:
    """Yield the start and the bytes of ranges of a file; many are fetched at the same time.

    Parameters
    ----------
    path
        The file.
    ranges
        Start and end of each.

    Raises
    ------
    FileNotFoundError
        If the file is gone.
    RemoteError
        If a range cannot be had, or is not served whole.
    """
    files, name = _file_system(path)
    batches = list(_batches(ranges))
    shown = progress(batches, total=len(batches), desc=f"Fetching {file_name(path)}", unit=f"{_AT_ONCE / 1e6:.0f} MB")
    for batch in batches if len(batches) == 1 else shown:
        yield from _fetched(path, files, name, batch)


def start_of(path: Path, length: int) -> bytes:
    """Return up to `length` bytes from the start of a small file; raises as `ranges_of`."""
    files, name = _file_system(path)
    return cast("bytes", _persistently(path, lambda: files.cat_file(name, 0, length)))


def existing(paths: Sequence[Path]) -> list[Path]:
    """Return those of some files of one server that are there.

    What is denied counts as not there: S3 says so of what is missing, where folders may not be listed.

    Raises
    ------
    RemoteError
        If the server cannot be reached.
    """
    files = _file_system(paths[0])[0]
    names = [cast("UPath", path).path for path in paths]
    found = files.cat_ranges(names, [0] * len(names), [1] * len(names), on_error="return")
    return [path for path, data in zip(paths, found, strict=True) if not isinstance(data, Exception) or _is_there(path)]


def _is_there(path: Path) -> bool:
    try:
        served(path)
    except (FileNotFoundError, AccessDeniedError):
        return False
    return True


def _batches(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    batch: list[Range] = []
    size = 0
    for start, stop in ranges:
        batch.append((start, stop))
        size += stop - start
        if size >= _AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _fetched(path: Path, files: Any, name: str, left: list[Range]) -> Iterator[tuple[int, bytes]]:
    """Yield ranges as they come; those that failed are asked for again."""
    for pause in (*_PAUSES, None):
        starts, stops = (list(each) for each in zip(*left, strict=True))
        failed: list[Range] = []
        reason: Exception | None = None
        found = files.cat_ranges([name] * len(left), starts, stops, on_error="return")
        for (start, stop), data in zip(left, found, strict=True):
            if not isinstance(data, Exception) and len(data) == stop - start:
                yield start, data
                continue
            failed.append((start, stop))
            reason = data if isinstance(data, Exception) else _short(path, start, stop, len(data))
            _refuse_at_once(path, reason)
        if reason is None:
            return
        if pause is None:
            _give_up(path, reason)
        time.sleep(pause)
        left = failed


def _short(path: Path, start: int, stop: int, size: int) -> RemoteError:
    msg = f"{path}: its server gave {size:,} bytes where {stop - start:,} at {start:,} were asked for."
    return RemoteError(msg)


def _file_system(path: Path) -> tuple[Any, str]:
    """Return the file system of a URL and what it calls the file.

    Not the one that the `UPath` holds: that is its parent's after a fork, which fsspec refuses. fsspec keeps one of
    each kind per process itself.
    """
    import fsspec

    url = cast("UPath", path)
    try:
        return fsspec.filesystem(url.protocol, **url.storage_options), url.path
    except ImportError as error:
        msg = (
            f"{path} needs a package that is not installed ({error}): pip install 'cellnet-sd[remote]' for http and s3."
        )
        raise MissingDependencyError(msg) from error


# --- faults ----------------------------------------------------------------------------------------------------------


def _known(*names: tuple[str, str]) -> tuple[type[Exception], ...]:
    """Return errors of clients by module and name; those that were not imported cannot have raised any."""
    loaded = ((sys.modules.get(module), name) for module, name in names)
    return tuple(getattr(module, name) for module, name in loaded if module is not None)


def _faults() -> tuple[type[Exception], ...]:
    """Return what is raised when the network fails."""
    return (OSError, *_known(_HTTP, _S3))


def _persistently[T](path: Path, work: Callable[[], T]) -> T:
    """Return what `work` does, which is tried again where the network may be at fault."""
    for pause in _PAUSES:
        try:
            return work()
        except _faults() as error:
            _refuse_at_once(path, error)
            time.sleep(pause)
    try:
        return work()
    except _faults() as error:
        _refuse_at_once(path, error)
        _give_up(path, error)


def _refuse_at_once(path: Path, error: Exception) -> None:
    """Raise what trying again cannot mend."""
    status = getattr(error, "status", None) or getattr(error.__cause__, "status", None)
    if isinstance(error, (PermissionError, *_known(_NO_CREDENTIALS))) or status in _DENIED:
        msg = (
            f"{path}: access is denied ({error.__cause__ or error}). Credentials are options of its file system: "
            "UPath(url, **options), or fsspec's configuration. Some servers deny what is not there."
        )
        raise AccessDeniedError(msg) from error
    # of HTTP, fsspec says that there is no file whatever the reason: the reason is its cause
    if status in _GONE or (isinstance(error, FileNotFoundError) and error.__cause__ is None):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    if isinstance(error, _known(_S3)):  # its client has tried again itself, for long
        _give_up(path, error)


def _give_up(path: Path, error: Exception) -> NoReturn:
    if isinstance(error, RemoteError):
        raise error
    reason = error.__cause__ or error
    msg = f"{path} cannot be read, though it was tried several times: {type(reason).__name__}: {reason}"
    raise RemoteError(msg) from error
