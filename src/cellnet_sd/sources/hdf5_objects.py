"""Opening and reading single HDF5 objects, and refusing those that cannot be trusted.

A file may come from anywhere. Nothing here follows a link out of the file, reads storage outside it, or allocates more
than deflate could have made of the bytes that are stored.
"""

import fcntl
import importlib
import importlib.util
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z
from h5py._objects import ObjectID
from numpy.typing import NDArray

from cellnet_sd.errors import CorruptFileError, FileBusyError, LayoutError, MissingDependencyError
from cellnet_sd.sources.allowance import ALWAYS_ALLOWED, MAX_INFLATION, no_array
from cellnet_sd.sources.base import Raw
from cellnet_sd.sources.hdf5_limits import attr_names, member_names
from cellnet_sd.sources.paths import is_remote

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_SOFT_LINKS = 16
_MAX_DEPTH = 8
_MAX_MEMBERS = 100_000


class ObjectError(ValueError):
    """One object cannot be read; the message is the reason."""


DAMAGE = (RuntimeError, ValueError, OSError, KeyError, TypeError, OverflowError)
"""What h5py raises when a file's structure is damaged, `ObjectError` among them."""


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises
    ------
    FileNotFoundError
        If there is no file at `path`.
    LayoutError
        If `path` is a directory or not an HDF5 file.
    FileBusyError
        If another process is writing the file, or did not close it.
    CorruptFileError
        If libhdf5 cannot open the file: truncated or damaged.
    RemoteError
        If a remote file cannot be reached.
    """
    with _handle(path) as handle:
        try:
            file = h5py.File(handle, "r")
        except (OSError, RuntimeError, ValueError) as error:
            raise _explain(path, error) from error
        try:
            yield file
        finally:
            file.close()


def _handle(path: Path) -> AbstractContextManager[Any]:
    """Return what h5py opens."""
    if is_remote(path):
        from cellnet_sd.sources.sparse_bytes import remote_handle

        return remote_handle(path)
    check_is_hdf5(path)
    return nullcontext(path)


_FOLDER = "directory", "pass one of its files"


def check_is_hdf5(path: Path) -> None:
    """Raise an error that says what `path` is, unless it starts like an HDF5 file."""
    if path.is_dir():
        is_store = any((path / name).exists() for name in ("zarr.json", ".zgroup"))
        kind, way = ("Zarr store", "cellnet_sd.open_store reopens what convert wrote") if is_store else _FOLDER
        msg = f"{path} is a {kind}. Cell-NET is read from an HDF5 file: {way}."
        raise LayoutError(msg)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        msg = f"{path} is neither a file nor a directory. Cell-NET is read from an HDF5 file."
        raise LayoutError(msg)
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            msg = f"{path} is empty (0 bytes). Was the download interrupted?"
            raise CorruptFileError(msg)
        if superblock_at(file) is None:
            msg = f"{path} is not an HDF5 file."
            raise LayoutError(msg)


def superblock_at(file: BinaryIO) -> int | None:
    """Return where the superblock is: at 0, 512, 1024, 2048, … (HDF5 File Format Specification, II.A)."""
    size, start = file.seek(0, 2), 0
    while start < size:
        file.seek(start)
        if file.read(len(SIGNATURE)) == SIGNATURE:
            return start
        start = max(512, 2 * start)
    return None


def busy(path: Path, sign: str) -> FileBusyError:
    """Return the error that says that a file is being written, and by what sign."""
    msg = (
        f"{path} is being written by another process, or its writer died before closing it. Wait for the writer, "
        f"or clear the mark with `h5clear -s` if there is none. ({sign})"
    )
    return FileBusyError(msg)


def check_unlocked(path: Path) -> None:
    """Respect the lock that libhdf5 puts on a file while it writes, unless the environment tells it not to.

    Raises
    ------
    FileBusyError
        If another process has the file open for writing.
    """
    if os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() in ("FALSE", "0"):
        return
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy(path, "the file is locked") from error
        except OSError:
            return  # not every file system has locks: libhdf5 too goes on without


def _explain(path: Path, error: Exception) -> Exception:
    text = str(error)
    if "unable to lock" in text or "already open" in text or "consistency flags" in text:
        return busy(path, text)
    msg = f"{path} cannot be opened as HDF5: truncated or damaged. ({text})"
    return CorruptFileError(msg)


# --- links -----------------------------------------------------------------------------------------------------------


def open_member(group: h5g.GroupID, path: str, hops: int = _MAX_SOFT_LINKS) -> ObjectID | None:
    """Open the object at `path` below `group`; `None` if there is none.

    Raises
    ------
    ObjectError
        If a link on the way leaves the file, loops, or dangles.
    """
    node: Any = group
    for name in path.encode().split(b"/"):
        if not name:
            continue
        if not isinstance(node, h5g.GroupID):
            msg = f"what {name.decode()!r} should lie in is not a group"
            raise ObjectError(msg)
        node = _step(node, name, hops)
        if node is None:
            return None
    return node


def _step(group: h5g.GroupID, name: bytes, hops: int) -> ObjectID | None:
    try:
        if name not in group and not group.links.exists(name):
            return None
        link = group.links.get_info(name)
        if link.type == h5l.TYPE_HARD:
            return h5o.open(group, name)
        if link.type == h5l.TYPE_SOFT:
            return _follow(group, group.links.get_val(name), hops)
    except (RuntimeError, KeyError, OSError, ValueError) as error:
        if isinstance(error, ObjectError):
            raise
        msg = f"{name.decode(errors='replace')!r} cannot be opened ({error})"
        raise ObjectError(msg) from error
    msg = f"{name.decode(errors='replace')!r} is a link to another file, which is not followed"
    raise ObjectError(msg)


def _follow(group: h5g.GroupID, target: bytes, hops: int) -> ObjectID:
    """Resolve a soft link by hand: libhdf5 would follow an external link on its way."""
    if hops == 0:
        msg = "soft links form a loop"
        raise ObjectError(msg)
    start = h5g.open(group, b"/") if target.startswith(b"/") else group
    found = open_member(start, target.decode(errors="replace"), hops - 1)
    if found is None:
        msg = f"a soft link points to {target.decode(errors='replace')!r}, which is not in the file"
        raise ObjectError(msg)
    return found


# --- values ----------------------------------------------------------------------------------------------------------


def read_object(node: ObjectID, *, with_attrs: bool = False) -> Raw:
    """Return a dataset, or a group and what it holds, as stored.

    Raises
    ------
    ObjectError
        If a dataset is too large for its bytes, stored outside the file, or cannot be decoded.
    """
    return _read(node, with_attrs, _MAX_DEPTH)


def _read(node: ObjectID, with_attrs: bool, depth: int) -> Raw:  # noqa: FBT001
    if isinstance(node, h5d.DatasetID):
        return Raw(read_dataset(node), read_attrs(node) if with_attrs else {})
    if not isinstance(node, h5g.GroupID):
        msg = "a named datatype is stored where a value should be"
        raise ObjectError(msg)
    if depth == 0 or node.get_num_objs() > _MAX_MEMBERS:
        msg = "groups are nested too deep or too wide to be one value"
        raise ObjectError(msg)
    members = {}
    for name in member_names(node):
        member = open_member(node, name.decode(errors="replace"))
        if member is None:
            msg = f"the member {name!r} cannot be opened"
            raise ObjectError(msg)
        members[name.decode(errors="replace")] = _read(member, with_attrs, depth - 1)
    return Raw(None, read_attrs(node), members)


def read_dataset(dataset: h5d.DatasetID) -> NDArray[Any]:
    """Return the array of a dataset in its stored dtype; strings of variable length as `bytes` objects.

    Raises
    ------
    ObjectError
        As `read_object`.
    """
    check_dataset(dataset)
    try:
        dtype = dataset.dtype
        array = np.empty(dataset.shape, dtype)
        if array.size:
            dataset.read(h5s.ALL, h5s.ALL, array)
    except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        _require_filters(dataset)
        msg = f"the stored bytes cannot be decoded ({error})"
        raise ObjectError(msg) from error
    return array


def check_dataset(dataset: h5d.DatasetID) -> None:
    """Refuse a dataset that is stored outside the file or is larger than its stored bytes can be.

    Raises
    ------
    ObjectError
        With the reason.
    """
    plist = dataset.get_create_plist()
    layout = plist.get_layout()
    if layout == h5d.VIRTUAL:
        msg = "a virtual dataset points to other datasets, which is not followed"
        raise ObjectError(msg)
    if layout == h5d.CONTIGUOUS and plist.get_external_count():
        msg = "external storage (bytes in another file) is not followed"
        raise ObjectError(msg)
    shape, width = dataset.shape, dataset.get_type().get_size()
    if reason := no_array(shape, width):
        raise ObjectError(reason)
    declared = math.prod(shape) * width
    if declared > max(ALWAYS_ALLOWED, MAX_INFLATION * dataset.get_storage_size()):
        msg = f"{declared:,} bytes are declared but only {dataset.get_storage_size():,} are stored"
        raise ObjectError(msg)


def _require_filters(dataset: h5d.DatasetID) -> None:
    """Raise an error that names the package to install, if a filter is what is missing.

    Raises
    ------
    MissingDependencyError
        If a filter of `dataset` is not available.
    """
    plist = dataset.get_create_plist()
    missing = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    missing = [code for code in missing if not h5z.filter_avail(code)]
    if missing:
        msg = f"HDF5 filter {missing[0]} is needed to decode the file: pip install 'cellnet-sd[filters]'."
        raise MissingDependencyError(msg)


def load_plugins() -> None:
    """Register the filters of hdf5plugin, if it is installed."""
    if importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")


# --- attributes ------------------------------------------------------------------------------------------------------


def read_attrs(node: ObjectID) -> dict[str, Any]:
    """Return the HDF5 attributes of an object; strings as `bytes` in object arrays, scalars as NumPy scalars.

    Raises
    ------
    ObjectError
        If an attribute cannot be read.
    """
    return {name: read_attr(node, name) for name in attr_names(node)}


def read_attr(node: ObjectID, name: str) -> Any:
    """Return one attribute; `None` if the object has none of that name, or an empty one or references.

    Raises
    ------
    ObjectError
        If it is there and cannot be read.
    """
    if not h5a.exists(node, name.encode()):
        return None
    try:
        attr = h5a.open(node, name.encode())
        leads_away = attr.get_type().detect_class(h5t.REFERENCE)  # to another object: it says nothing of this one
        if leads_away or attr.get_space().get_simple_extent_type() == h5s.NULL:
            return None
        if math.prod(attr.shape) * attr.dtype.itemsize > ALWAYS_ALLOWED:
            msg = f"attribute {name!r} of shape {attr.shape} is too large"
            raise ObjectError(msg)
        value = np.empty(attr.shape, attr.dtype)
        attr.read(value)
    except (OSError, RuntimeError, TypeError, MemoryError) as error:
        msg = f"attribute {name!r} cannot be read ({error})"
        raise ObjectError(msg) from error
    return value[()] if value.ndim == 0 else value
