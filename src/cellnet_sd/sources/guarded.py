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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final, NamedTuple, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellnet_sd import errors
from cellnet_sd.errors import CellNetError, CorruptFileError
from cellnet_sd.layout import Component
from cellnet_sd.sources.allowance import allowed_in_all
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.hdf5_objects import ObjectError, load_plugins

_SECONDS: Final = 3
"""Of processor time: by the clock, it depends on what else the machine does."""
_BYTES_PER_SECOND: Final = 50 * 2**20
_CELLS_PER_SECOND: Final = 200
_LONGEST: Final = 30
"""Seconds by the clock, over those of processor time, after which a child is given up in any case."""
_MOST_MEMORY: Final = 3 * 2**30
_ENOUGH: Final = 2**25
"""Bytes after which a child leaves the rest for later: neither end holds more than that beside the values."""
_AT_ONCE: Final = 4_096
"""Cells that a child is asked for at a time."""
_MOST_CRASHES: Final = 32
"""Values of one call on which a child may crash, before the file is given up."""
_RAISED: Final = 3
"""Exit code of a fork whose last answer is the error that it raised."""
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


def in_child(what: str, path: Path, cells: Sequence[tuple[str, str]]) -> bytes:
    """Have a child process scan cells, or a whole file, through h5py; return what it says.

    Raises
    ------
    CorruptFileError
        If it crashed, hung, or took too much memory.
    CellNetError
        What it raised itself.
    """
    done = _carried_out_apart(what, path, cells)
    if done.code:
        raise done.failure
    return bytes(done.answers[0])


class _Done(NamedTuple):
    """What came of an order in the child."""

    code: int
    answers: list[memoryview]
    failure: CellNetError
    """What to raise, where the code is not 0 and no single value is to blame."""
    is_crash: bool
    """Whether it crashed: it may go on behind what it was at."""


def _carried_out_apart(what: str, path: Path, cells: Sequence[tuple[str, str]], component: str = "") -> _Done:
    seconds = int(_SECONDS + path.stat().st_size / _BYTES_PER_SECOND + len(cells) / _CELLS_PER_SECOND)
    order = _Order(what, str(path), list(cells), component, seconds)
    code, reply = _server(os.getpid()).ask(msgspec.msgpack.encode(order))
    answers = [] if reply is None else list(_frames(reply))
    if code == _RAISED and answers:
        name, said = msgspec.msgpack.decode(answers.pop(), type=tuple[str, str])
        return _Done(code, answers, getattr(errors, name)(said), is_crash=False)
    failed = f"failed on it (exit code {code})"
    if is_slow := code == -signal.SIGXCPU:
        failed = f"did not come to an end with it in {seconds} s"
    msg = f"{path}: only libhdf5 can read some of it, and it {failed}: it is damaged."
    return _Done(code, answers, CorruptFileError(msg), is_crash=reply is not None and not is_slow)


def _frames(reply: memoryview) -> Iterator[memoryview]:
    """Yield the answers in a reply, but for one that a crash has cut short."""
    end = 0
    while end + _LENGTH.size <= len(reply):
        start = end + _LENGTH.size
        end = start + _LENGTH.unpack_from(reply, end)[0]
        if end <= len(reply):
            yield reply[start:end]


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

    def ask(self, order: bytes) -> tuple[int, memoryview | None]:
        """Return the exit code of the fork that carried out an order, and what it said; `None` if this one ended."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                _write(process.stdin, order)
            reply = _read(process.stdout)
            if reply is None:
                return _ended(process), None
        return _CODE.unpack_from(reply)[0], memoryview(reply)[_CODE.size :]

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


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """Return the exit code of a process that has ended, or is ended: it no longer says what can be understood."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    process.kill()
    return process.wait() or 1


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes | None:
    """Return what was written at the other end; `None` once that is closed, or if it cannot be."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size or (size := _LENGTH.unpack(head)[0]) > _MOST_MEMORY:
        return None
    data = stream.read(size)
    return data if len(data) == size else None


def fetch_guarded(path: Path, component: Component, cells: Sequence[tuple[str, str]]) -> list[Raw | Unreadable | None]:
    """Return one component of some cells, read through h5py by a child process.

    A value on which it crashes is unreadable, and the child goes on behind it.

    Raises
    ------
    CorruptFileError
        If it crashed over and over, or hung.
    CellNetError
        What it raised itself.
    """
    values: list[Raw | Unreadable | None] = []
    n_crashes, allowed = 0, allowed_in_all(path.stat().st_size)
    while len(values) < len(cells):
        if allowed < 0:
            values += [Unreadable("the values before it are more than all the bytes of the file can be")]
            continue
        done = _carried_out_apart("fetch", path, cells[len(values) : len(values) + _AT_ONCE], component)
        values += map(_fetched, done.answers)
        allowed -= sum(map(len, done.answers))
        if not done.code:
            continue
        n_crashes += 1
        if not done.is_crash or n_crashes > _MOST_CRASHES:
            raise done.failure
        values.append(Unreadable(f"only libhdf5 can read it, which failed on it (exit code {done.code})"))
    return values


def _fetched(answer: memoryview) -> Raw | Unreadable | None:
    stored = msgspec.msgpack.decode(answer, type=_StoredRaw | None)
    if stored is None:
        return None
    return Unreadable(stored.reason) if stored.reason else _raw(stored)


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
    try:
        return _packed_parts(raw)
    except ObjectError as error:
        return _StoredRaw(reason=str(error))


def _packed_parts(raw: Raw) -> _StoredRaw:
    packed = _packed_array(raw.value) if raw.value is not None else _StoredRaw()
    packed.attrs = {name: _packed_array(np.asarray(each)) for name, each in raw.attrs.items() if each is not None}
    packed.members = {name: _packed_parts(each) for name, each in raw.members.items()}
    return packed


def _packed_array(array: NDArray[Any]) -> _StoredRaw:
    if array.dtype.kind == "O":
        items = array.reshape(-1).tolist()
        inner = next((str(item.dtype.str) for item in items if isinstance(item, np.ndarray)), "")
        return _StoredRaw(shape=array.shape, items=[_packed_item(item) for item in items], item_dtype=inner)
    _check_plain(array.dtype)
    return _StoredRaw(dtype=array.dtype.str, shape=array.shape, data=np.ascontiguousarray(array).tobytes())


def _packed_item(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    _check_plain(item.dtype if isinstance(item, np.ndarray) else np.dtype(object))
    return bytes(item.tobytes())


def _check_plain(dtype: "np.dtype[Any]") -> None:
    """Refuse values that are addresses in this process.

    Raises
    ------
    ObjectError
        If a value of that type holds some.
    """
    if dtype.hasobject:
        msg = "it holds values within values of a type that is not known"
        raise ObjectError(msg)


def _serve() -> None:
    """Carry out orders from standard input, each in a fork, until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # filters written in C print what they find wrong: that must not be taken for a reply
    from cellnet_sd.sources import hdf5_fetch, native_left  # noqa: F401  # what the forks need

    load_plugins()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (order := _read(sys.stdin.buffer)) is not None:
        code, answer = _in_fork(order)
        _write(replies, _CODE.pack(code) + answer)


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
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (parsed.seconds, parsed.seconds + 1))  # then SIGXCPU, which ends it
        with os.fdopen(writer, "wb") as stream:
            code = _answer(parsed, stream)
    finally:
        os._exit(code)


def _answer(order: _Order, stream: IO[bytes]) -> int:
    """Write answers, each as soon as it is there; return the exit code."""
    n_written = 0
    try:
        for found in _carried_out(order):
            _write(stream, answer := msgspec.msgpack.encode(found))
            n_written += len(answer)
            if n_written > _ENOUGH:  # what is left out is asked for again
                break
    except CellNetError as error:
        _write(stream, msgspec.msgpack.encode((type(error).__name__, str(error))))
        return _RAISED
    return 0


def _carried_out(order: _Order) -> Iterator[Any]:
    from cellnet_sd.sources.hdf5_fetch import each_cell
    from cellnet_sd.sources.hdf5_scan import scan
    from cellnet_sd.sources.native_left import scan_here, stated_here

    path = Path(order.path)
    if order.what == "walk":
        yield len(scan(path))
    elif order.what == "scan":
        yield scan_here(path, order.cells)
    elif order.what == "stated":
        yield stated_here(path, [container for container, _ in order.cells])
    else:
        groups = [f"{container}/{name}" for container, name in order.cells]
        yield from map(_packed, each_cell(path, Component(order.component), groups))


if __name__ == "__main__":
    _serve()
