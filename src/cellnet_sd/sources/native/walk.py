"""Walking the containers of a file, down to its cells."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.natural_order import natural_order
from cellnet_sd.sources.allowance import MAX_PATH
from cellnet_sd.sources.native import codes
from cellnet_sd.sources.native.codes import Kind, Reason
from cellnet_sd.sources.native.compiled import Bytes, Ints
from cellnet_sd.sources.native.containers import ASSUMED, CELL, CONTAINER, DATASET, classify, list_links
from cellnet_sd.sources.native.kernels import copy_runs
from cellnet_sd.sources.native.superblock import Superblock, UnreadableStructureError
from cellnet_sd.sources.native.work import Work, with_room

_MAX_DEPTH = 32


class Container(NamedTuple):
    """A group that is no cell."""

    path: bytes
    """`b""` for the root."""
    header: int
    tracked: bool
    """Whether it tracks the order of its links."""


class Other(NamedTuple):
    """Something in a container that is neither a cell nor a container, or cannot be told."""

    container: int
    name: bytes
    kind: Kind
    reason: Reason
    position: int
    """Number of cells that come before it in the walk."""
    header: int
    """Where its header is, -1 behind links that are not hard."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a file, columnar.

    Parameters
    ----------
    names, offsets
        The bytes of all names, and where each begins; one offset more than there are cells.
    container
        Which container each lies in.
    header
        Where the header of each cell's group is.
    assumed
        Whether some are taken for cells by their names alone.
    """

    names: Bytes
    offsets: Ints
    container: NDArray[np.int32]
    header: Ints
    assumed: bool = False

    def __len__(self) -> int:
        return self.header.size

    def name(self, row: int) -> bytes:
        """Return the name of one cell."""
        return self.names[self.offsets[row] : self.offsets[row + 1]].tobytes()


NO_CELLS: Final = Cells(np.empty(0, np.uint8), np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))


@dataclass(slots=True)
class _Walk:
    superblock: Superblock
    work: Work
    assumes: bool
    containers: list[Container] = field(default_factory=list)
    parts: list[tuple[int, Ints]] = field(default_factory=list)
    others: list[Other] = field(default_factory=list)
    visited: set[int] = field(default_factory=set)
    n_cells: int = 0
    assumed: bool = False

    def container(self, path: bytes, header: int, depth: int) -> None:
        """Walk one container, in tracked order or sorted by name; cells between containers keep their place."""
        if depth > _MAX_DEPTH:
            raise UnreadableStructureError(Reason.NESTING)
        if len(path) > MAX_PATH:  # h5py would not do better
            raise UnreadableStructureError(Reason.NAME)
        buf, ctx, _ = self.superblock
        self.visited.add(header)
        tracked, links = self._links(header)
        order = _order(buf, ctx, links, tracked=tracked)
        links = links[order] if (np.diff(order) != 1).any() else links
        code = len(self.containers)
        self.containers.append(Container(path, header, bool(tracked)))
        kinds, reasons = np.zeros(len(links), np.uint8), np.zeros(len(links), np.uint8)
        done = 0
        while (done := classify(buf, ctx, links, done, self.work, int(self.assumes), kinds, reasons)) < len(links):
            self._make_room()
        if (by_name := kinds == ASSUMED).any():
            self.assumed = True
            kinds[by_name] = CELL
        self._take(code, path, depth, links, kinds, reasons)

    def _take(self, code: int, path: bytes, depth: int, links: Ints, kinds: Bytes, reasons: Bytes) -> None:
        """Take runs of cells as they are, and what lies between them one by one."""
        done = 0
        for at in np.flatnonzero(kinds != CELL).tolist():
            self._cells(code, links[done:at])
            done = at + 1
            name = _name(self.superblock.buf, links[at])
            header = int(links[at, codes.L_TARGET])
            if kinds[at] != CONTAINER:
                kind = Kind.DATASET if kinds[at] == DATASET else _kind(int(reasons[at]))
                self.others.append(Other(code, name, kind, Reason(int(reasons[at])), self.n_cells, header))
            elif header in self.visited:
                self.others.append(Other(code, name, Kind.GROUP, Reason.LOOP, self.n_cells, header))
            else:
                self.container(path + b"/" * bool(path) + name, header, depth + 1)
        self._cells(code, links[done:])

    def _cells(self, code: int, links: Ints) -> None:
        if len(links):
            self.parts.append((code, links[:, [codes.L_NAME, codes.L_NAME_SIZE, codes.L_TARGET]]))
            self.n_cells += len(links)

    def _links(self, header: int) -> tuple[bool, Ints]:
        """Return whether a container tracks the order of its links, and the links."""
        buf, ctx, _ = self.superblock
        while True:
            tracked, n = list_links(buf, ctx, header, self.work)
            if ctx[codes.C_STATUS] != codes.GROW:
                break
            self._make_room()
        self._raise_failure()
        return tracked, self.work.links[:n].copy()

    def _make_room(self) -> None:
        self.work = with_room(self.superblock.ctx, self.work) or self.work

    def _raise_failure(self) -> None:
        if reason := int(self.superblock.ctx[codes.C_STATUS]):
            raise UnreadableStructureError(Reason(reason))

    def cells(self) -> Cells:
        """Return all cells met."""
        links = np.concatenate([np.empty((0, 3), np.int64), *(links for _, links in self.parts)])
        container = [np.full(len(links), code, np.int32) for code, links in self.parts]
        offsets = np.concatenate([[0], np.cumsum(links[:, 1])])
        names = np.empty(offsets[-1], np.uint8)
        buf, ctx, _ = self.superblock
        copy_runs(buf, ctx, np.ascontiguousarray(links[:, 0]), offsets, names)
        self._raise_failure()
        container = [np.empty(0, np.int32), *container]
        return Cells(names, offsets, np.concatenate(container), np.ascontiguousarray(links[:, 2]), self.assumed)


def walk(
    superblock: Superblock, work: Work, *, assumes: bool
) -> tuple[tuple[Container, ...], Cells, tuple[Other, ...]]:
    """Return the containers, the cells, and what else lies beside them; see `classify` for what it `assumes`.

    Raises
    ------
    UnreadableStructureError
        If the root or a container cannot be listed.
    """
    found = _Walk(superblock, work, assumes)
    found.container(b"", superblock.root, 0)
    return tuple(found.containers), found.cells(), tuple(found.others)


def _kind(reason: int) -> Kind:
    if reason >= codes.FIRST_DAMAGE:
        return Kind.DAMAGED
    return Kind.EXTERNAL if reason >= codes.FIRST_EXTERNAL else Kind.FALLBACK


def _name(buf: Bytes, link: Ints) -> bytes:
    start = int(link[codes.L_NAME])
    return buf[start : start + int(link[codes.L_NAME_SIZE])].tobytes()


def _order(buf: Bytes, ctx: Ints, links: Ints, *, tracked: bool) -> NDArray[np.int64]:
    """Return the order of links: as they were made where that is tracked, else by name, `Cell_9` before `Cell_10`."""
    if tracked:
        return np.argsort(links[:, codes.L_ORDER], kind="stable")
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(links[:, codes.L_NAME_SIZE])])
    data = np.empty(offsets[-1], np.uint8)
    copy_runs(buf, ctx, np.ascontiguousarray(links[:, codes.L_NAME]), offsets, data)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    names = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(links), buffers)
    try:
        return natural_order(names.cast(pa.large_string()))
    except pa.ArrowInvalid:  # not UTF-8
        texts = [name.decode(errors="replace") for name in names.to_pylist()]
        return natural_order(pa.array(texts, pa.large_string()))
