"""Scanning the structure of a Cell-NET file: its containers and cells, then, batch by batch, their objects."""

import contextlib
import mmap
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple, Self

import numpy as np

from cellnet_sd.layout import CELL_MARKERS, Component
from cellnet_sd.sources.native import codes
from cellnet_sd.sources.native.cells import read_cells
from cellnet_sd.sources.native.codes import Kind, Reason
from cellnet_sd.sources.native.columns import AT_ONCE, Attributes, Chunks, Codes, Columns, Known, Members, Objects
from cellnet_sd.sources.native.compiled import (
    Bytes,
    Ints,
    first_compilation,
    forget_compiled,
    is_compiled,
    mark_compiled,
)
from cellnet_sd.sources.native.containers import classify, list_links
from cellnet_sd.sources.native.headers import read_header
from cellnet_sd.sources.native.interning import intern, new_tables
from cellnet_sd.sources.native.passes import Pass, new_outputs
from cellnet_sd.sources.native.primitives import lookup3
from cellnet_sd.sources.native.superblock import Superblock, budget, read_superblock
from cellnet_sd.sources.native.walk import NO_CELLS, Cells, Container, Other, walk
from cellnet_sd.sources.native.work import SLOTS, new_work


class Batch(NamedTuple):
    """What a pass over consecutive cells finds."""

    components: Mapping[Component, Objects]
    """One entry per cell."""
    groups: Objects
    """The cells' own groups."""
    members: Members
    attributes: Attributes
    chunks: Chunks

    def all_cells(self) -> bool:
        """Whether each group has what marks a cell, among its links; `False` where that cannot be told."""
        found = np.any([self.components[marker].kind != Kind.ABSENT for marker in CELL_MARKERS], axis=0)
        return bool((found & (self.groups.kind == Kind.GROUP)).all())

    def not_native(self) -> Counter[str]:
        """Return how many objects are not read here, by reason."""
        reasons: Counter[str] = Counter()
        for objects in (*self.components.values(), self.members.objects):
            left = objects.reason[objects.kind >= Kind.EXTERNAL]
            counts = np.bincount(left, minlength=1).tolist()
            reasons.update({Reason(reason).name: n for reason, n in enumerate(counts) if n})
        return reasons


@dataclass(frozen=True, slots=True)
class NativeScan:
    """The containers and cells of a file, and a way to all their objects. Several threads may read at once.

    Parameters
    ----------
    path
        The file.
    superblock
        The mapped file, and how to read it.
    containers
        Every group that is no cell, the root first.
    cells
        The cells, container by container, in tracked order or sorted by name.
    others
        What lies beside the cells in containers.
    known
        What the codes of all batches stand for.
    """

    path: Path
    superblock: Superblock
    containers: tuple[Container, ...]
    cells: Cells
    others: tuple[Other, ...]
    known: Known

    @property
    def buf(self) -> Bytes:
        """The mapped bytes of the file."""
        return self.superblock.buf

    def __len__(self) -> int:
        return len(self.cells)

    def with_own_codes(self) -> Self:
        """Return the scan with codes that do not depend on what other threads meet first."""
        return replace(self, known=Known())

    def read(self, start: int = 0, stop: int | None = None) -> Batch:
        """Read all objects of the cells in `start:stop`: about 0.8 kB for each."""
        return self.read_at(self.cells.header[start:stop])

    def read_at(self, headers: Ints) -> Batch:
        """Read all objects of the cells whose groups have their headers at `headers`."""
        done = Pass.over(self.superblock, self.known, headers.size)
        columns = Columns.room(SLOTS, headers.size)
        for start in range(0, headers.size, AT_ONCE):
            columns.put(start, done.rows(read_cells, headers[start : start + AT_ONCE], SLOTS, start))
        return _batch(done, columns, self.known)


def scan_structure(path: Path, *, assumes: bool = False) -> NativeScan:
    """Map a file and find its cells.

    Parameters
    ----------
    path
        An HDF5 file.
    assumes
        Whether to take for cells what is named like cells, without a look; `Batch.all_cells` tells whether they are.

    Raises
    ------
    UnreadableStructureError
        If the file as a whole is not for this reader; its `reason` tells damage from what is merely not known.
    """
    opened = open_structure(path)
    containers, cells, others = walk(opened.superblock, new_work(), assumes=assumes)
    opened.superblock.ctx[codes.C_STEPS] = budget(opened.buf.size)  # an index keeps the state: not of this very walk
    return replace(opened, containers=containers, cells=cells, others=others)


def open_structure(path: Path) -> NativeScan:
    """Map a file, its cells not looked for: to read those whose headers are known; see `scan_structure`."""
    warm()
    buf = _mapped(path)
    superblock = read_superblock(buf, new_work())
    superblock.ctx[codes.C_STEPS] = budget(buf.size)
    return NativeScan(path, superblock, (), NO_CELLS, (), Known())


@cache
def warm() -> None:
    """Compile all that is called from here, or load what an earlier process has kept; see `is_compiled`."""
    if is_compiled():
        try:
            _run_on_nothing()
        except (EOFError, UnpicklingError):
            forget_compiled()
        else:
            return
    with first_compilation():
        if _run_on_nothing():
            mark_compiled()


def _run_on_nothing() -> bool:
    """Run everything on an empty file; whether all is kept for the next process."""
    kept = True
    for function, arguments in _calls():
        try:
            function(*arguments)
        except OSError:  # compiled, but the folder has no room
            function(*arguments)
            kept = False
    return kept


def _calls() -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Return every function called from here, with arguments of the right types."""
    from cellnet_sd.sources.native.kernels import (
        PACKED,
        copy_rows,
        copy_runs,
        fletcher32,
        pack,
        read_rows,
        read_runs,
        resolve,
        sample_hash,
        to_columns,
        unshuffle,
    )
    from cellnet_sd.sources.native.objects import read_objects
    from cellnet_sd.sources.native.pairs import read_pairs
    from cellnet_sd.sources.native.templates import match

    buf, ctx, none = np.frombuffer(b"", np.uint8), np.zeros(codes.CTX_SIZE, np.int64), np.empty(0, np.int64)
    work, marks = new_work(), np.empty(0, np.uint8)
    links, start = np.empty((0, codes.LINK_COLUMNS), np.int64), np.zeros(1, np.int64)
    values, indices, pairs = np.empty(0, np.float32), np.empty(0, np.int32), np.empty((0, 2), np.int64)
    room = Columns.room(1, 0)
    return [
        (read_cells, (buf, ctx, none, 0, work, new_tables(2), new_outputs(0))),
        (read_objects, (buf, ctx, none, 0, work, new_tables(2), new_outputs(0))),
        (list_links, (buf, ctx, 0, work)),
        (classify, (buf, ctx, links, 0, work, 0, marks, marks)),
        (read_header, (buf, ctx, 0, work.head, work.blocks, work.link_messages, work.attribute_messages)),
        (intern, (buf, ctx, new_tables(2), 0, 0, 0, 0, 0)),
        (lookup3, (buf, ctx, 0, 0, -4)),
        (copy_runs, (buf, ctx, none, start, marks)),
        (copy_rows, (buf, ctx, none, 0, none, marks)),
        (read_rows, (-1, none, 0, none, marks)),
        (read_runs, (-1, none, start, marks)),
        (pack, ((np.frombuffer(b"", np.float32),) * PACKED, 0, indices, values, pairs, 0)),
        (to_columns, (np.empty((0, codes.FIELDS), np.int64), 0, room.small, room.coded, room.wide)),
        (fletcher32, (buf, 0)),
        (unshuffle, (buf, 1, marks)),
        (resolve, (buf, ctx, marks, none, none, none)),
        (sample_hash, (buf, ctx, none, none, pairs)),
        (match, (buf, none, none, buf, none, none, pairs, pairs, none)),
        (read_pairs, (buf, start, buf, none, 0, np.empty((0, 2)))),
    ]


def _mapped(path: Path) -> Bytes:
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return np.empty(0, np.uint8)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # all of the file is gone through: what Linux has to read it takes in pieces of 2 MiB then, each one fault
        with contextlib.suppress(OSError):  # of a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.uint8)


def _batch(done: Pass, columns: Columns, known: Known) -> Batch:
    """Return what a pass over cells has found."""
    members, attributes, chunks = done.found()
    translated = done.translated()
    slots = [columns.settled(slot, translated, known) for slot in range(SLOTS)]
    names, n = translated[codes.T_NAME], columns.small.shape[2]
    attributes[:, codes.A_PARENT] = _parents(attributes[:, codes.A_PARENT], n)
    return Batch(
        dict(zip(Component, slots[1:], strict=True)),
        slots[0],
        Members(
            Columns.of(members).settled(0, translated, known),
            names[members[:, codes.F_NAME]],
            _parents(members[:, codes.F_PARENT], n),
            members[:, codes.F_ORDER].copy(),
        ),
        attribute_columns(attributes, translated),
        chunk_columns(chunks),
    )


def _parents(parents: Ints, n: int) -> Ints:
    """Return the parents of members and attributes by slot, then cell; those that are members stay negative."""
    return np.where(parents >= 0, parents % SLOTS * n + parents // SLOTS, parents)


def attribute_columns(rows: Ints, translated: list[Codes]) -> Attributes:
    """Return rows of attributes as columns."""
    return Attributes(
        rows[:, codes.A_PARENT].copy(),
        translated[codes.T_NAME][rows[:, codes.A_NAME]],
        translated[codes.T_DTYPE][rows[:, codes.A_DTYPE]],
        translated[codes.T_SHAPE][rows[:, codes.A_SHAPE]],
        rows[:, codes.A_ADDRESS].copy(),
        rows[:, codes.A_SIZE].copy(),
        rows[:, codes.A_TEXT].copy(),
        rows[:, codes.A_TEXT_SIZE].copy(),
    )


def chunk_columns(rows: Ints) -> Chunks:
    """Return rows of chunks as columns."""
    return Chunks(rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].astype(np.uint32), rows[:, 3].copy())
