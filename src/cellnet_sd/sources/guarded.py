"""libhdf5 in a process of its own, for files that may break it: whatever it does there, this process goes on.

What comes back is msgpack, which holds data and nothing that runs.
"""

import atexit
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final, NoReturn

import msgspec
import numpy as np

from cellnet_sd.errors import CorruptFileError
from cellnet_sd.layout import Component
from cellnet_sd.sources.base import Raw, Unreadable

_SECONDS: Final = 3
"""Of processor time: by the clock, it depends on what else the machine does."""
_BYTES_PER_SECOND: Final = 50 * 2**20
_CELLS_PER_SECOND: Final = 200
_LONGEST: Final = 30
"""Seconds by the clock, over those of processor time, after which a child is given up in any case."""
_MEMORY: Final = 2 * 2**30
_COMMAND: Final = [sys.executable, "-m", "cellnet_sd.sources.guarded"]
_LENGTH: Final = struct.Struct("<Q")
_CODE: Final = struct.Struct("<i")


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
    seconds = int(_SECONDS + path.stat().st_size / _BYTES_PER_SECOND + len(cells) / _CELLS_PER_SECOND)
    order = msgspec.msgpack.encode(_Order(what, str(path), list(cells), component, seconds))
    code, answer = _server(os.getpid()).ask(order)
    if code:
        failed = f"failed on it (exit code {code})"
        if code == -signal.SIGXCPU:
            failed = f"did not come to an end with it in {seconds} s"
        msg = f"{path}: only libhdf5 can read some of it, and it {failed}: it is damaged."
        raise CorruptFileError(msg)
    return answer


@cache
def _server(process: int) -> "_Server":
    """Return this process's server; a fork does not share that of its parent, whose answers would get mixed up."""
    del process
    server = _Server()
    atexit.register(server.close)
    return server


class _Server:
    """A process that has all imported that orders need, and forks for each: what one file breaks is gone with it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, order: bytes) -> tuple[int, bytes]:
        """Return the exit code of the fork that carried out an order, and what it said."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                _write(process.stdin, order)
            reply = _read(process.stdout)
            if reply is None:
                return process.wait() or 1, b""
        return _CODE.unpack_from(reply)[0], reply[_CODE.size :]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            folders = os.pathsep.join(filter(None, sys.path))
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter and this module
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": folders},
            )
        return self._process


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes | None:
    """Return what was written at the other end; `None` once that is closed."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    data = stream.read(size := _LENGTH.unpack(head)[0])
    return data if len(data) == size else None


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


def _serve() -> None:
    """Carry out orders from standard input, each in a fork, until there are no more."""
    from cellnet_sd.sources import hdf5_fetch, native_left  # noqa: F401  # what the forks need
    from cellnet_sd.sources.hdf5_objects import load_plugins

    load_plugins()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (order := _read(sys.stdin.buffer)) is not None:
        code, answer = _in_fork(order)
        _write(sys.stdout.buffer, _CODE.pack(code) + answer)


def _in_fork(order: bytes) -> tuple[int, bytes]:
    """Carry out one order in a fork; return its exit code and its answer."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _obey(order, writer)
    os.close(writer)
    answer = _all_of(reader, msgspec.msgpack.decode(order, type=_Order).seconds + _LONGEST)
    os.close(reader)
    if answer is None:
        os.kill(child, signal.SIGXCPU)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, answer or b""


def _all_of(reader: int, seconds: float) -> bytes | None:
    """Return what is written to a pipe until it is closed, `None` if that is not in time."""
    end = time.monotonic() + seconds
    pieces: list[bytes] = []
    while select.select([reader], [], [], max(0, end - time.monotonic()))[0]:
        if not (piece := os.read(reader, 2**20)):
            return b"".join(pieces)
        pieces.append(piece)
    return None


def _obey(order: bytes, writer: int) -> NoReturn:
    """Carry out one order and end this process, a fork, within its limits of time and memory."""
    code = 1
    try:
        parsed = msgspec.msgpack.decode(order, type=_Order)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY + 2**30, _MEMORY + 2**30))
        resource.setrlimit(resource.RLIMIT_CPU, (parsed.seconds, parsed.seconds + 1))  # then SIGXCPU, which ends it
        with os.fdopen(writer, "wb") as stream:
            stream.write(msgspec.msgpack.encode(_carried_out(parsed)))
        code = 0
    finally:
        os._exit(code)


def _carried_out(order: _Order) -> Any:
    from cellnet_sd.sources.hdf5_fetch import fetch_cells
    from cellnet_sd.sources.hdf5_scan import scan
    from cellnet_sd.sources.native_left import scan_here, stated_here

    path = Path(order.path)
    if order.what == "walk":
        return len(scan(path))
    if order.what == "scan":
        return scan_here(path, order.cells)
    if order.what == "stated":
        return stated_here(path, [container for container, _ in order.cells])
    groups = [f"{container}/{name}" for container, name in order.cells]
    return [_packed(raw) for raw in fetch_cells(path, Component(order.component), groups)]


if __name__ == "__main__":
    _serve()
