"""libhdf5 in a process of its own, for damaged files: whatever it does there, this process goes on.

What comes back is msgpack, which holds data and nothing that runs.
"""

import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from cellnet_sd.errors import CorruptFileError
from cellnet_sd.layout import Component
from cellnet_sd.sources.base import Raw, Unreadable

_SECONDS: Final = 3
"""Of processor time, without that of starting: how long that takes depends on what else the machine does."""
_BYTES_PER_SECOND: Final = 50 * 2**20
_LONGEST: Final = 30
"""Seconds by the clock, over those of processor time, after which a child is given up in any case."""
_MEMORY: Final = 2 * 2**30


class _Order(msgspec.Struct):
    what: str
    path: str
    cells: list[tuple[str, str]]
    component: str
    seconds: int


class _StoredRaw(msgspec.Struct):
    """A `Raw`, or why there is none, as plain data."""

    reason: str | None = None
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    data: bytes = b""
    items: list[bytes] | None = None
    item_dtype: str = ""
    attrs: dict[str, "_StoredRaw"] = {}
    members: dict[str, "_StoredRaw"] = {}


def in_child(what: str, path: Path, cells: Sequence[tuple[str, str]], component: str = "") -> bytes:
    """Have a child process read cells through h5py; return what it says.

    Raises
    ------
    CorruptFileError
        If it crashed, hung, or took too much memory.
    """
    seconds = math.ceil(_SECONDS + path.stat().st_size / _BYTES_PER_SECOND)
    order = msgspec.msgpack.encode(_Order(what, str(path), list(cells), component, seconds))
    folders = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "cellnet_sd.sources.guarded"]
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter and this module
            command,
            input=order,
            capture_output=True,
            timeout=seconds + _LONGEST,
            check=True,
            env={**os.environ, "PYTHONPATH": folders},
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        code = error.returncode if isinstance(error, subprocess.CalledProcessError) else -signal.SIGXCPU
        failed = f"failed on it (exit code {code})"
        if code == -signal.SIGXCPU:
            failed = f"did not come to an end with it in {seconds} s"
        msg = f"{path}: its structure is damaged, and libhdf5 {failed}."
        raise CorruptFileError(msg) from error
    return done.stdout


def fetch_guarded(path: Path, component: Component, cells: Sequence[tuple[str, str]]) -> list[Raw | Unreadable | None]:
    """Return one component of some cells, read through h5py by a child process.

    Raises
    ------
    CorruptFileError
        As `in_child`.
    """
    stored = msgspec.msgpack.decode(in_child("fetch", path, cells, component), type=list[_StoredRaw | None])
    return [None if each is None else Unreadable(each.reason) if each.reason else _raw(each) for each in stored]


def _raw(stored: _StoredRaw) -> Raw:
    attrs = {name: _value(each) for name, each in stored.attrs.items()}
    members = {name: _raw(each) for name, each in stored.members.items()}
    return Raw(_value(stored) if stored.shape is not None else None, attrs, members)


def _value(stored: _StoredRaw) -> Any:
    if stored.shape is None:
        return None
    if stored.items is not None:
        array = np.empty(len(stored.items), object)
        array[:] = [np.frombuffer(each, stored.item_dtype) if stored.item_dtype else each for each in stored.items]
        return array.reshape(stored.shape)
    return np.frombuffer(stored.data, np.dtype(stored.dtype)).reshape(stored.shape)


# --- in the child ----------------------------------------------------------------------------------------------------


def _packed(raw: Raw | Unreadable | None) -> _StoredRaw | None:
    if raw is None:
        return None
    if isinstance(raw, Unreadable):
        return _StoredRaw(reason=str(raw) or "it cannot be read")
    packed = _packed_array(raw.value) if raw.value is not None else _StoredRaw()
    packed.attrs = {name: _packed_array(np.asarray(each)) for name, each in raw.attrs.items() if each is not None}
    packed.members = {name: found for name, each in raw.members.items() if (found := _packed(each)) is not None}
    return packed


def _packed_array(array: Any) -> _StoredRaw:
    if array.dtype.kind == "O":
        items = array.reshape(-1).tolist()
        inner = next((str(item.dtype.str) for item in items if isinstance(item, np.ndarray)), "")
        stored = [item.tobytes() if isinstance(item, np.ndarray) else bytes(item) for item in items]
        return _StoredRaw(shape=array.shape, items=stored, item_dtype=inner)
    return _StoredRaw(dtype=array.dtype.str, shape=array.shape, data=np.ascontiguousarray(array).tobytes())


def _obey() -> None:
    """Carry out one order from standard input."""
    from cellnet_sd.sources.hdf5_fetch import fetch_cells
    from cellnet_sd.sources.hdf5_objects import load_plugins
    from cellnet_sd.sources.hdf5_scan import scan
    from cellnet_sd.sources.native_left import scan_here

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY + 2**30, _MEMORY + 2**30))
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Order)
    load_plugins()
    most = math.ceil(time.process_time()) + order.seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))  # at the first, SIGXCPU ends this process
    if order.what == "walk":
        found: Any = len(scan(Path(order.path)))
    elif order.what == "scan":
        found = scan_here(Path(order.path), order.cells)
    else:
        groups = [f"{container}/{name}" for container, name in order.cells]
        found = [_packed(raw) for raw in fetch_cells(Path(order.path), Component(order.component), groups)]
    sys.stdout.buffer.write(msgspec.msgpack.encode(found))


if __name__ == "__main__":
    _obey()
