"""Calls that may crash, hang or eat all memory: each is made in a fork of a process that has everything imported.

A new interpreter takes a second or more to import what a fork has at once, and there are thousands of calls.
"""

import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any

_MEMORY = 4 * 2**30


class DiedError(Exception):
    """The call did not return: its process crashed, or was ended after its time."""

    def __init__(self, how: str, code: int) -> None:
        super().__init__(how)
        self.code = code


class Forks:
    """A process that forks for every call. To be made before this process starts threads."""

    def __init__(self, prepare: Callable[[], Any]) -> None:
        self._here, there = Pipe()
        if os.fork() == 0:
            self._here.close()
            try:
                prepare()
                _serve(there)
            finally:
                os._exit(0)
        there.close()

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """Return what a function of a module returns in a fork.

        Raises
        ------
        DiedError
            If it does not return in time, or not at all.
        """
        self._here.send((function, arguments, seconds))
        is_done, found, code = self._here.recv()
        if not is_done:
            raise DiedError(found, code)
        return found


def _serve(requests: Connection) -> None:
    while True:
        try:
            function, arguments, seconds = requests.recv()
        except EOFError:
            return
        requests.send(_forked(function, arguments, seconds))


def _forked(function: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> tuple[bool, Any, int]:
    reader, writer = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        _work(writer, function, arguments)
    writer.close()
    began, found, is_done = time.perf_counter(), None, False
    if reader.poll(seconds):
        try:
            found, is_done = reader.recv(), True
        except Exception as error:  # noqa: BLE001  # whatever a crashed process has left behind
            found = f"crashed ({type(error).__name__}) after {time.perf_counter() - began:.1f} s"
    else:
        found = "hung"
    os.kill(child, signal.SIGKILL) if found == "hung" else None
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    reader.close()
    return is_done, found, code


def _work(writer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Make one call in a fork, which ends with it."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        writer.send(function(*arguments))
        code = 0
    finally:
        os._exit(code)
