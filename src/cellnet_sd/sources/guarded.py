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

from cellnet_sd import errors
from cellnet_sd.errors import CellNetError, CorruptFileError
from cellnet_sd.layout import Component
from cellnet_sd.sources.allowance import allowed_in_all
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.guarded_time import OrderTime
from cellnet_sd.sources.guarded_values import packed, unpacked
from cellnet_sd.sources.hdf5_limits import limit_to
from cellnet_sd.sources.hdf5_objects import load_plugins

_SECONDS: Final = 3
"""Of processor time, beyond what is due to a file of its size and so many cells: for all orders together.

By the clock, it depends on what else the machine does.
"""
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
_END: Final = struct.Struct("<id")
"""How a fork ended: its exit code, and the seconds of processor time that it took."""


class _Order(msgspec.Struct):
    what: str
    path: str
    cells: list[tuple[str, str]]
    component: str
    seconds: int


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
    given = OrderTime.of(path, len(cells))
    seconds = int(_SECONDS + given.allowed - given.owed)
    if given.owed >= _SECONDS:
        return _Done(-signal.SIGXCPU, [], _failure(path, -signal.SIGXCPU, _SECONDS), is_crash=False)
    order = _Order(what, str(path), list(cells), component, max(1, seconds))
    code, taken, reply = _server(os.getpid()).ask(msgspec.msgpack.encode(order))
    answers = [] if reply is None else list(_frames(reply))
    given.note(taken, len(answers) / max(1, len(cells)) if code or what == "fetch" else 1)
    if code == _RAISED and answers:
        name, said = msgspec.msgpack.decode(answers.pop(), type=tuple[str, str])
        return _Done(code, answers, getattr(errors, name)(said), is_crash=False)
    is_crash = reply is not None and code != -signal.SIGXCPU
    return _Done(code, answers, _failure(path, code, order.seconds), is_crash=is_crash)


def _failure(path: Path, code: int, seconds: int) -> CellNetError:
    failed = f"failed on it (exit code {code})"
    if code == -signal.SIGXCPU:
        failed = f"did not come to an end with it in {seconds} s"
    return CorruptFileError(f"{path}: only libhdf5 can read some of it, and it {failed}: it is damaged.")


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

    def ask(self, order: bytes) -> tuple[int, float, memoryview | None]:
        """Return exit code and seconds of the fork that carried out an order, and what it said.

        `None` is said if this process ended.
        """
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):
                _write(process.stdin, order)
            reply = _read(process.stdout)
            if reply is None:
                return _ended(process), 0, None
        return *_END.unpack_from(reply), memoryview(reply)[_END.size :]

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
        values += map(unpacked, done.answers)
        allowed -= sum(map(len, done.answers))
        if not done.code:
            continue
        n_crashes += 1
        if not done.is_crash or n_crashes > _MOST_CRASHES:
            raise done.failure
        values.append(Unreadable(f"only libhdf5 can read it, which failed on it (exit code {done.code})"))
    return values


# --- in the child ----------------------------------------------------------------------------------------------------


def _serve() -> None:
    """Carry out orders from standard input, each in a fork, until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # filters written in C print what they find wrong: that must not be taken for a reply
    from cellnet_sd.sources import hdf5_fetch, native_left  # noqa: F401  # what the forks need

    load_plugins()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (order := _read(sys.stdin.buffer)) is not None:
        code, seconds, answer = _in_fork(order)
        _write(replies, _END.pack(code, seconds) + answer)


def _in_fork(order: bytes) -> tuple[int, float, bytes]:
    """Carry out one order in a fork; return its exit code, the seconds that it took, and its answer."""
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
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, answer or b""


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
    limit_to(path)
    if order.what == "walk":
        yield len(scan(path))
    elif order.what == "scan":
        yield scan_here(path, order.cells)
    elif order.what == "stated":
        yield stated_here(path, [container for container, _ in order.cells])
    else:
        groups = [f"{container}/{name}" for container, name in order.cells]
        yield from map(packed, each_cell(path, Component(order.component), groups))


if __name__ == "__main__":
    _serve()
