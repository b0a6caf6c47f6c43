"""Scanning the structure of a Cell-NET file: its containers and cells, then, batch by batch, their objects."""

import mmap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from cellnet_sd.layout import Component
from cellnet_sd.sources.native import codes
from cellnet_sd.sources.native.cells import Outputs, read_cells
from cellnet_sd.sources.native.codes import FIELDS, Kind, Reason
from cellnet_sd.sources.native.columns import Attributes, Chunks, Codes, Known, Members, Objects, settle_objects
from cellnet_sd.sources.native.compiled import Bytes, Ints
from cellnet_sd.sources.native.interning import Tables, grown, new_tables
from cellnet_sd.sources.native.superblock import Superblock, budget, read_superblock
from cellnet_sd.sources.native.walk import Cells, Container, Other, walk
from cellnet_sd.sources.native.work import SLOTS, new_work, with_room

BATCH: Final = 65_536
"""Cells that one pass should take: its memory is about 1.2 kB per cell."""

_BYTES_PER_ROW: Final = 32
"""The least that a member, attribute or chunk takes in the file."""


class Batch(NamedTuple):
    """What a pass over consecutive cells finds."""

    start: int
    """Row of the first cell."""
    components: Mapping[Component, Objects]
    """One entry per cell."""
    groups: Objects
    """The cells' own groups."""
    members: Members
    attributes: Attributes
    chunks: Chunks

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

    def read(self, start: int = 0, stop: int | None = None) -> Batch:
        """Read all objects of the cells in `start:stop`; see `BATCH` for how many to take at once."""
        headers = self.cells.header[start:stop]
        ctx = self.superblock.ctx.copy()
        ctx[codes.C_STEPS] = budget(self.buf.size)
        ctx[codes.C_ROWS] = 100_000 + self.buf.size // _BYTES_PER_ROW
        tables, outputs = _run(self.buf, ctx, headers)
        translated = self.known.translate(self.buf, tables, int(ctx[codes.C_LENGTHS]))
        used = ctx[[codes.C_MEMBERS, codes.C_ATTRIBUTES, codes.C_CHUNKS]].tolist()
        return _batch(start, outputs, used, translated, self.known)


def scan_structure(path: Path) -> NativeScan:
    """Map a file and find its cells.

    Parameters
    ----------
    path
        An HDF5 file.

    Raises
    ------
    UnreadableStructureError
        If the file as a whole is not for this reader; its `reason` tells damage from what is merely not known.
    """
    buf = _mapped(path)
    work = new_work()
    superblock = read_superblock(buf, work)
    superblock.ctx[codes.C_STEPS] = budget(buf.size)
    containers, cells, others = walk(superblock, work)
    return NativeScan(path, superblock, containers, cells, others, Known())


def _mapped(path: Path) -> Bytes:
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _run(buf: Bytes, ctx: Ints, headers: Ints) -> tuple[Tables, Outputs]:
    """Read cells into outputs that grow where they are full."""
    n = headers.size
    tables, work = new_tables(1024), new_work()
    outputs = Outputs(
        np.empty((n * SLOTS, FIELDS), np.int64),
        np.empty((4 * n + 64, FIELDS), np.int64),
        np.empty((4 * n + 64, codes.ATTRIBUTE_COLUMNS), np.int64),
        np.empty((n + 64, codes.CHUNK_COLUMNS), np.int64),
    )
    done = 0
    while (done := read_cells(buf, ctx, headers, done, work, tables, outputs)) < n:
        if (larger := with_room(ctx, work)) is not None:
            work = larger
        else:
            tables, outputs = _with_room(buf, ctx, tables, outputs)
    return tables, outputs


def _with_room(buf: Bytes, ctx: Ints, tables: Tables, outputs: Outputs) -> tuple[Tables, Outputs]:
    """Return tables and outputs with twice the room where they are more than half full."""
    capacity = tables.entries.shape[1]
    if 2 * tables.counts.max() >= capacity:
        tables = grown(buf, ctx, tables)
    used = ctx[[codes.C_MEMBERS, codes.C_ATTRIBUTES, codes.C_CHUNKS]].tolist()
    arrays = [_doubled(array, n) for array, n in zip(outputs[1:], used, strict=True)]
    return tables, Outputs(outputs.objects, *arrays)


def _doubled(array: Ints, used: int) -> Ints:
    larger = np.empty((2 * array.shape[0], array.shape[1]), np.int64)
    larger[:used] = array[:used]
    return larger


def _batch(start: int, outputs: Outputs, used: list[int], translated: list[Codes], known: Known) -> Batch:
    """Return a pass's rows as columns."""
    n = outputs.objects.shape[0] // SLOTS
    members, attributes, chunks = (rows[:count] for rows, count in zip(outputs[1:], used, strict=True))
    for rows in (outputs.objects, members):
        settle_objects(rows, translated, known)
    slots = [Objects.of(outputs.objects[slot::SLOTS]) for slot in range(SLOTS)]
    names = translated[codes.T_NAME]
    return Batch(
        start,
        dict(zip(Component, slots[1:], strict=True)),
        slots[0],
        Members(Objects.of(members), names[members[:, codes.F_NAME]], _parents(members[:, codes.F_PARENT], n)),
        _attributes(attributes, translated, n),
        Chunks(chunks[:, 0].copy(), chunks[:, 1].copy(), chunks[:, 2].astype(np.uint32), chunks[:, 3].copy()),
    )


def _parents(parents: Ints, n: int) -> Ints:
    """Return the parents of members and attributes by slot, then cell; those that are members stay negative."""
    return np.where(parents >= 0, parents % SLOTS * n + parents // SLOTS, parents)


def _attributes(rows: Ints, translated: list[Codes], n: int) -> Attributes:
    return Attributes(
        _parents(rows[:, codes.A_PARENT], n),
        translated[codes.T_NAME][rows[:, codes.A_NAME]],
        translated[codes.T_DTYPE][rows[:, codes.A_DTYPE]],
        translated[codes.T_SHAPE][rows[:, codes.A_SHAPE]],
        rows[:, codes.A_ADDRESS].copy(),
        rows[:, codes.A_SIZE].copy(),
        rows[:, codes.A_TEXT].copy(),
        rows[:, codes.A_TEXT_SIZE].copy(),
    )
