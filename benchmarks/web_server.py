"""A web server on loopback, in a thread, that serves the files of a folder in ranges of bytes, and counts them."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from aiohttp import web

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Asked:
    """One request."""

    method: str
    name: str
    start: int = 0
    size: int = 0
    """Bytes that were sent."""
    together: int = 1
    """How many requests were being answered when this one came, itself included."""


@dataclass
class Server:
    """What is served, how, and what was asked for.

    `ranges` is whether parts are served; `failing` how many of the next requests for parts are answered with an error,
    `cutting` how many are answered with fewer bytes than they say; `denied` the names that are refused; `delay` the
    seconds before each answer.
    """

    folder: Path
    port: int = 0
    ranges: bool = True
    failing: int = 0
    cutting: int = 0
    denied: set[str] = field(default_factory=set)
    delay: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    open: int = 0

    def url(self, name: str) -> str:
        """Return the URL of a file."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def parts_of(self, name: str) -> list[Asked]:
        """Return the requests for bytes of a file."""
        return [each for each in self.asked if each.name == name and each.method == "GET"]

    def bytes_of(self, name: str) -> int:
        """Return how many bytes of a file were sent."""
        return sum(each.size for each in self.parts_of(name))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        name = request.match_info["name"]
        self.open += 1
        asked = Asked(request.method, name, together=self.open)
        self.asked.append(asked)
        await asyncio.sleep(self.delay)
        try:
            return self._answer(request, asked)
        finally:
            self.open -= 1

    def _answer(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        path = self.folder / asked.name
        if asked.name in self.denied:
            return web.Response(status=403)
        if not path.is_file():
            return web.Response(status=404)
        stat = path.stat()
        headers = {"ETag": f'"{stat.st_size}-{stat.st_mtime_ns}"', "Content-Type": "application/octet-stream"}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(stat.st_size)})
        wanted = _RANGE.fullmatch(request.headers.get("Range", "")) if self.ranges else None
        if wanted is None:
            return web.Response(body=path.read_bytes(), headers=headers)
        if self.failing:
            self.failing -= 1
            return web.Response(status=503)
        return self._part(path, stat.st_size, asked, headers, wanted)

    def _part(
        self, path: Path, size: int, asked: Asked, headers: dict[str, str], wanted: re.Match[str]
    ) -> web.StreamResponse:
        asked.start = int(wanted[1])
        stop = min(size, int(wanted[2]) + 1 if wanted[2] else size)
        if asked.start >= size:
            return web.Response(status=416)
        with path.open("rb") as file:
            file.seek(asked.start)
            data = file.read(stop - asked.start)
        headers["Content-Range"] = f"bytes {asked.start}-{stop - 1}/{size}"
        if self.cutting:
            self.cutting -= 1
            data = data[: len(data) // 2]
        asked.size = len(data)
        return web.Response(status=206, body=data, headers=headers)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve the files of a folder for the length of a block."""
    server, started = Server(folder), Event()
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{name:.+}", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
