"""The results of a pass over cells, as columns of compact dtypes and tables of what their codes stand for."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import pairwise
from threading import Lock
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.sources.locations import flags_of
from cellnet_sd.sources.native import codes
from cellnet_sd.sources.native.codes import Kind, Reason
from cellnet_sd.sources.native.compiled import Bytes, Ints
from cellnet_sd.sources.native.interning import Tables
from cellnet_sd.sources.native.kernels import to_columns
from cellnet_sd.sources.native.messages import Filter, NativeType, dataspace, datatype, fill_value, filters

Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects, one entry each. Codes are into the tables of `Known`, -1 for none; addresses are positions in the file.

    Parameters
    ----------
    kind, reason
        `codes.Kind`, and `codes.Reason` where it is neither absent nor read. All else counts only for datasets.
    header
        Where the object's header is; equal for objects that are the same.
    dtype, shape, fill, filters
        Codes.
    storage
        `codes.Storage`.
    address, size
        Where the stored bytes are, and how many there are: of all chunks together where there are several.
    mask
        Filters left out, bit by bit, of a single chunk.
    chunk_shape
        Code, where there are chunks.
    chunk_start, chunk_count
        Rows of `Chunks`, where there are several chunks.
    text, text_size
        Where the one value of variable length is, and its bytes; the size is -1 where that is not known from the
        structure (filtered, or several values).
    attributes
        Number of attributes.
    """

    kind: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    storage: NDArray[np.uint8]
    dtype: Codes
    shape: Codes
    fill: Codes
    filters: Codes
    chunk_shape: Codes
    attributes: Codes
    header: Ints
    address: Ints
    size: Ints
    mask: Ints
    chunk_start: Ints
    chunk_count: Ints
    text: Ints
    text_size: Ints

    def __len__(self) -> int:
        return self.kind.size

    def take(self, rows: NDArray[np.intp]) -> Self:
        """Return the objects at `rows`."""
        return type(self)(*(getattr(self, column.name)[rows] for column in fields(self)))

    def in_chunks(self) -> NDArray[np.intp]:
        """Return which objects are datasets in several chunks."""
        return np.flatnonzero((self.kind == Kind.DATASET) & (self.storage == codes.Storage.CHUNKED))


@dataclass(frozen=True, slots=True)
class Columns:
    """Room for the rows of objects, a column for each field but those of members alone, in the order of `codes.F_…`.

    Parameters
    ----------
    small, coded, wide
        (fields, slots, n).
    """

    small: NDArray[np.uint8]
    coded: Codes
    wide: Ints

    @classmethod
    def room(cls, slots: int, n: int) -> Self:
        """Return room for the objects in `slots` slots of `n` cells."""
        shapes = [(stop - start, slots, n) for start, stop in pairwise(_GROUPS)]
        return cls(np.empty(shapes[0], np.uint8), np.empty(shapes[1], np.int32), np.empty(shapes[2], np.int64))

    @classmethod
    def of(cls, rows: Ints) -> Self:
        """Return rows (n, fields) as the columns of one slot."""
        columns = cls.room(1, len(rows))
        columns.put(0, rows)
        return columns

    def put(self, start: int, rows: Ints) -> None:
        """Put rows (n * slots, fields), slot by slot of each cell, at the cells from `start` on."""
        to_columns(rows, start, self.small, self.coded, self.wide)

    def settled(self, slot: int, translated: list[Codes], known: "Known") -> Objects:
        """Return the objects of a slot with their final codes; datasets whose messages are not known are left."""
        kind, reason, storage = self.small[:, slot]
        *coded, attributes = self.coded[:, slot]
        final = [translated[table][column] for table, column in zip(_TABLES, coded, strict=True)]
        wide = self.wide[:, slot]
        wide[_MASK] = np.maximum(wide[_MASK], 0)
        columns = [kind, reason, storage, *final, attributes, *wide]
        objects = Objects(**dict(zip((column.name for column in fields(Objects)), columns, strict=True)))
        for unknown, why in _not_known(objects, known):
            unknown &= kind == Kind.DATASET
            reason[unknown], kind[unknown] = why, Kind.FALLBACK
        return objects


def _not_known(objects: Objects, known: "Known") -> Iterator[tuple[NDArray[np.bool_], Reason]]:
    """Yield which objects have messages that say what is not known here, and of which kind these are."""
    dtypes, fills = known.dtypes.values, known.fills.values
    for column, values, why in (
        (objects.dtype, dtypes, Reason.DATATYPE),
        (objects.filters, known.filters.values, Reason.FILTER_VERSION),
        (objects.fill, fills, Reason.FILL_VALUE),
    ):
        if None in values:
            yield flags_of(column, (value is None for value in values)), why
    filled = [any(value or b"") for value in fills]
    if any(filled):  # values of variable length that are filled in lie where only libhdf5 looks
        varies = [value is not None and value.kind.startswith("vlen") for value in dtypes]
        yield flags_of(objects.fill, filled) & flags_of(objects.dtype, varies), Reason.FILL_VALUE


_GROUPS: Final = (codes.F_KIND, codes.F_DTYPE, codes.F_HEADER, codes.F_NAME)
_MASK: Final = codes.F_MASK - codes.F_HEADER
_TABLES: Final = (codes.T_DTYPE, codes.T_SHAPE, codes.T_FILL, codes.T_FILTERS, codes.T_CHUNK_SHAPE)
AT_ONCE: Final = 128
"""Cells whose rows the second cache of a processor holds until they are turned to columns."""


@dataclass(frozen=True, slots=True)
class Members:
    """What lies in the components' groups, or in cells without being a component.

    Parameters
    ----------
    objects
        The members.
    name
        Code into `Known.names`; names of what lies among the images begin with `images/`.
    parent
        `slot * n_cells + cell` of the component (slot 0 is the cell itself, then the order of `Component`); or, in a
        group that is itself a member, `-1 - row` of that.
    order
        When it was made, -1 where its group does not track that.
    """

    objects: Objects
    name: Codes
    parent: Ints
    order: Ints


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes of cells, components and members.

    Parameters
    ----------
    parent
        As in `Members`.
    name, dtype, shape
        Codes.
    address, size
        The value's bytes.
    text, text_size
        As in `Objects`.
    """

    parent: Ints
    name: Codes
    dtype: Codes
    shape: Codes
    address: Ints
    size: Ints
    text: Ints
    text_size: Ints


@dataclass(frozen=True, slots=True)
class Chunks:
    """Chunks of datasets with several; a chunk that is not here is all fill value.

    Parameters
    ----------
    address, size
        The stored bytes.
    mask
        Filters left out, bit by bit.
    index
        Row-major place in the grid of chunks over the dataset's shape.
    """

    address: Ints
    size: Ints
    mask: NDArray[np.uint32]
    index: Ints


class Distinct[T]:
    """Values, each once, with their codes."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._codes: dict[T, int] = {}

    def code(self, value: T) -> int:
        """Return the code of a value, a new one if it is new."""
        code = self._codes.setdefault(value, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        return code


@dataclass(frozen=True, slots=True)
class Known:
    """What codes stand for, over all passes over a file."""

    dtypes: Distinct[NativeType | None] = field(default_factory=Distinct)
    shapes: Distinct[tuple[int, ...] | None] = field(default_factory=Distinct)
    fills: Distinct[bytes | None] = field(default_factory=Distinct)
    filters: Distinct[tuple[Filter, ...] | None] = field(default_factory=Distinct)
    chunk_shapes: Distinct[tuple[int, ...]] = field(default_factory=Distinct)
    names: Distinct[bytes] = field(default_factory=Distinct)
    lock: Lock = field(default_factory=Lock)

    def translate(self, buf: Bytes, tables: Tables, offsets: int, lengths: int) -> list[Codes]:
        """Return, per table of one pass, the code here of each of its codes; the last entry is -1, for none."""
        with self.lock:
            return [
                np.array([*self._codes(buf, tables, table, offsets, lengths), -1], np.int32)
                for table in range(codes.TABLES)
            ]

    def _codes(self, buf: Bytes, tables: Tables, table: int, offsets: int, lengths: int) -> list[int]:
        rows = tables.entries[table, : tables.counts[table]].tolist()
        messages = [(buf[pos : pos + size].tobytes(), tag) for pos, size, tag in rows]
        if table == codes.T_DTYPE:
            return [self.dtypes.code(datatype(message, 8 + offsets)) for message, _ in messages]
        if table == codes.T_SHAPE:
            return [self.shapes.code(dataspace(message, lengths)) for message, _ in messages]
        if table == codes.T_FILL:
            return [self.fills.code(fill_value(message, old=tag == codes.M_OLD_FILL)) for message, tag in messages]
        if table == codes.T_FILTERS:
            return [self.filters.code(filters(message)) for message, _ in messages]
        if table == codes.T_CHUNK_SHAPE:
            return [self.chunk_shapes.code(_numbers(message, width)) for message, width in messages]
        return [self.names.code(b"images/" * tag + message) for message, tag in messages]


def _numbers(message: bytes, width: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(message[i : i + width], "little") for i in range(0, len(message), width))
