"""A pass over objects of a file: the compiled readers, called until nothing more is full."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from cellnet_sd.sources.native import codes
from cellnet_sd.sources.native.cells import Outputs
from cellnet_sd.sources.native.codes import FIELDS
from cellnet_sd.sources.native.columns import Codes, Known
from cellnet_sd.sources.native.compiled import Bytes, Ints
from cellnet_sd.sources.native.interning import Tables, grown, new_tables
from cellnet_sd.sources.native.superblock import Superblock, budget
from cellnet_sd.sources.native.work import Work, new_work, with_room

_BYTES_PER_ROW: Final = 32
"""The least that a member, attribute or chunk takes in the file."""
_SPARE_ROWS: Final = 20_000
_REFILLS: Final = 4
"""Cells, or runs of cells, that may spend all steps of a pass before the rest of it is left to libhdf5."""


@dataclass
class Pass:
    """Reading objects of a file into outputs that grow where they are full.

    Parameters
    ----------
    buf, known
        The mapped file, and what codes stand for in all passes over it.
    ctx, tables, work, outputs
        State, what its codes stand for, and where it works and writes.
    """

    buf: Bytes
    known: Known
    ctx: Ints
    tables: Tables
    work: Work
    outputs: Outputs

    @classmethod
    def over(cls, superblock: Superblock, known: Known, n: int) -> Self:
        """Begin a pass over about `n` cells."""
        buf, ctx = superblock.buf, superblock.ctx.copy()
        ctx[[codes.C_STEPS, codes.C_ALL_STEPS]] = budget(buf.size)
        ctx[codes.C_REFILLS] = _REFILLS
        ctx[codes.C_ROWS] = _SPARE_ROWS + buf.size // _BYTES_PER_ROW
        return cls(buf, known, ctx, new_tables(1024), new_work(), new_outputs(n))

    def rows(self, read: Callable[..., int], headers: Ints, slots: int, before: int) -> Ints:
        """Read what is at `headers`; return a row (fields,) for each slot of each, valid until the next call.

        Parents of members and attributes are counted from the first of the pass: `before` headers were read.
        """
        self.work.seen[:] = -1  # it tells of rows that are overwritten now
        first = self.ctx[[codes.C_MEMBERS, codes.C_ATTRIBUTES]].tolist()
        n = headers.size * slots
        if len(self.outputs.objects) < n:
            self.outputs = self.outputs._replace(objects=np.empty((n, FIELDS), np.int64))
        done = 0
        while (done := read(self.buf, self.ctx, headers, done, self.work, self.tables, self.outputs)) < headers.size:
            self._grow()
        last = self.ctx[[codes.C_MEMBERS, codes.C_ATTRIBUTES]].tolist()
        parents = (self.outputs.members[:, codes.F_PARENT], self.outputs.attributes[:, codes.A_PARENT])
        for column, start, stop in zip(parents, first, last, strict=True):
            own = column[start:stop]
            own[own >= 0] += before * slots
        return self.outputs.objects[:n]

    def _grow(self) -> None:
        if (larger := with_room(self.ctx, self.work)) is not None:
            self.work = larger
        else:
            self.tables, self.outputs = _larger(self.buf, self.ctx, self.tables, self.outputs)

    def found(self) -> tuple[Ints, Ints, Ints]:
        """Return the members, attributes and chunks that were found."""
        used = self.ctx[[codes.C_MEMBERS, codes.C_ATTRIBUTES, codes.C_CHUNKS]].tolist()
        members, attributes, chunks = (rows[:n] for rows, n in zip(self.outputs[1:], used, strict=True))
        return members, attributes, chunks

    def translated(self) -> list[Codes]:
        """Return what the codes are in the whole file; see `Known.translate`."""
        return self.known.translate(self.buf, self.tables, *self.ctx[[codes.C_OFFSETS, codes.C_LENGTHS]].tolist())


def new_outputs(n: int) -> Outputs:
    """Return room for what is mostly found in so many cells."""
    return Outputs(
        np.empty((0, FIELDS), np.int64),
        np.empty((4 * n + 64, FIELDS), np.int64),
        np.empty((4 * n + 64, codes.ATTRIBUTE_COLUMNS), np.int64),
        np.empty((n + 64, codes.CHUNK_COLUMNS), np.int64),
    )


def _larger(buf: Bytes, ctx: Ints, tables: Tables, outputs: Outputs) -> tuple[Tables, Outputs]:
    """Return tables and outputs with twice the room where they are more than half full, but none beyond all rows."""
    capacity = tables.entries.shape[1]
    if 2 * tables.counts.max() >= capacity:
        tables = grown(buf, ctx, tables)
    used = ctx[[codes.C_MEMBERS, codes.C_ATTRIBUTES, codes.C_CHUNKS]].tolist()
    left = int(ctx[codes.C_ROWS])
    arrays = [_doubled(array, n, n + left) for array, n in zip(outputs[1:], used, strict=True)]
    return tables, Outputs(outputs.objects, *arrays)


def _doubled(array: Ints, used: int, most: int) -> Ints:
    larger = np.empty((max(array.shape[0], min(2 * array.shape[0], most)), array.shape[1]), np.int64)
    larger[:used] = array[:used]
    return larger
