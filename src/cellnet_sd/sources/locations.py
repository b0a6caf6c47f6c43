"""Where the stored bytes of every component of every cell are: columns of addresses, and what their codes stand for.

A file of millions of objects has a handful of ways to store one: `Layout`. An object is then a code, an address and a
size. Groups add their members, and datasets of several chunks their chunks, in lists of as many as there are.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
ABSENT: Final = -1
NULL: Final = (-1,)
"""Shape of an attribute without elements, which counts as none."""


def flags_of(codes: Codes, flags: Iterable[bool]) -> NDArray[np.bool_]:
    """Return the flag of each code, false for `ABSENT`."""
    return np.array([*flags, False])[codes]


class Filter(msgspec.Struct, frozen=True):
    """One filter of a pipeline, as HDF5 numbers it."""

    number: int
    values: tuple[int, ...] = ()


class StoredValue(msgspec.Struct, frozen=True):
    """The value of an HDF5 attribute, as h5py's low-level calls give it: `bytes` where the length varies."""

    shape: tuple[int, ...]
    dtype: str = ""
    data: bytes = b""
    items: tuple[bytes, ...] | None = None
    """The elements, where their length varies: text for an empty `dtype`, else arrays of it."""

    def value(self) -> Any:
        """Return a NumPy scalar, an array, or `bytes`; `None` for a dataspace without elements."""
        if self.shape == NULL:
            return None
        if self.items is None:
            array = np.frombuffer(self.data, np.dtype(self.dtype)).reshape(self.shape).copy()
        else:
            array = np.empty(len(self.items), object)
            array[:] = [np.frombuffer(item, self.dtype) if self.dtype else item for item in self.items]
            array = array.reshape(self.shape)
        return array[()] if array.ndim == 0 else array


class Layout(msgspec.Struct, frozen=True):
    """One way to store an object. What is not said is empty.

    Parameters
    ----------
    storage
        `"none"` (all fill value), `"compact"`, `"contiguous"`, `"single"` (one chunk), `"chunked"`, `"text"` (one value
        of variable length, its bytes located), `"group"`, `"h5py"` (known to libhdf5 alone), `"unreadable"`.
    kind, dtype
        What an element is: `"number"`, `"bool"`, `"text"`, `"opaque"`, `"vlen text"`, `"vlen"`; and its stored dtype.
    shape
        `None` for a dataspace without elements.
    fill
        One element.
    filters, mask
        The pipeline, in the order of writing, and which of it were left out of a single chunk.
    chunk
        Shape of a chunk.
    attrs
        HDF5 attributes: of groups, and of datasets in CCC.
    members
        Names in a group.
    reason
        Why it cannot be read.
    """

    storage: str
    kind: str = ""
    dtype: str = ""
    shape: tuple[int, ...] | None = ()
    fill: bytes = b""
    filters: tuple[Filter, ...] = ()
    mask: int = 0
    chunk: tuple[int, ...] = ()
    attrs: tuple[tuple[str, StoredValue], ...] = ()
    members: tuple[str, ...] = ()
    reason: str = ""

    @property
    def n_elements(self) -> int:
        """How many elements a dataset has; of an impossible shape, as many as 64 bits count."""
        return 0 if self.shape is None else min(math.prod(self.shape), sys.maxsize)


@dataclass(frozen=True, slots=True)
class Ragged:
    """Lists of rows, one per cell: those of cell i are `offsets[i]:offsets[i + 1]` of each column."""

    offsets: Ints
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, row: int) -> dict[str, NDArray[Any]]:
        """Return the list of one cell."""
        own = slice(self.offsets[row], self.offsets[row + 1])
        return {name: column[own] for name, column in self.columns.items()}

    def take(self, rows: Ints) -> "Ragged":
        """Return the lists of the cells at `rows`."""
        counts = (self.offsets[1:] - self.offsets[:-1])[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        at = np.repeat(self.offsets[:-1][rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Ragged(offsets, {name: column[at] for name, column in self.columns.items()})

    @classmethod
    def joined(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """Return the lists of several batches, one after the other."""
        starts = np.cumsum([0, *(part.offsets[-1] for part in parts)])
        offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
        names = parts[0].columns
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
        return cls(np.concatenate([*offsets, starts[-1:]]), columns)


MEMBER_COLUMNS: Final = {"name": np.int32, "parent": np.int32, "code": np.int32, "address": np.int64, "size": np.int64}
"""`name` is a code into `Located.names`; `parent` counts in the cell's own list, -1 for the component itself."""
CHUNK_COLUMNS: Final = {"address": np.int64, "size": np.int64, "mask": np.uint32, "index": np.int64}
"""`index` is the row-major place of the chunk in the grid over the dataset's shape."""


class Place(NamedTuple):
    """One stored object. For several chunks, `address` and `size` are the first and the number of rows of `chunks`."""

    layout: Layout
    address: int
    size: int
    chunks: Mapping[str, NDArray[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """Where one component of every cell is.

    Parameters
    ----------
    layouts
        The ways it is stored.
    code
        Code into `layouts`, -1 for cells without it.
    address, size
        Of the stored bytes in the file; see `Place`.
    names
        Names of members of groups.
    members
        What lies in the groups, parents before what they hold; `None` where there are no groups.
    chunks
        Chunks of those in several; `None` where there are none.
    """

    layouts: tuple[Layout, ...]
    code: Codes
    address: Ints
    size: Ints
    names: tuple[str, ...] = ()
    members: Ragged | None = None
    chunks: Ragged | None = None

    def __len__(self) -> int:
        return len(self.code)

    def take(self, rows: Ints) -> "Located":
        """Return the places in the cells at `rows`."""
        members = None if self.members is None else self.members.take(rows)
        chunks = None if self.chunks is None else self.chunks.take(rows)
        return Located(self.layouts, self.code[rows], self.address[rows], self.size[rows], self.names, members, chunks)

    def place(self, row: int) -> Place | None:
        """Return where the component of one cell is, `None` if it has none."""
        code = int(self.code[row])
        if code < 0:
            return None
        return Place(self.layouts[code], int(self.address[row]), int(self.size[row]), self._chunks(row))

    def with_layout(self, rows: Sequence[int], layout: Layout) -> "Located":
        """Return the places with a layout of their own in the cells at `rows`."""
        code = self.code.copy()
        code[rows] = len(self.layouts)
        return replace(self, layouts=(*self.layouts, layout), code=code) if rows else self

    def _chunks(self, row: int) -> Mapping[str, NDArray[Any]] | None:
        return None if self.chunks is None else self.chunks.of(row)

    def members_of(self, row: int) -> list[tuple[str, int, Place]]:
        """Return name, parent and place of what lies in the group of one cell, parents first."""
        if self.members is None:
            return []
        own, chunks = self.members.of(row), self._chunks(row)
        rows = zip(*(own[name].tolist() for name in MEMBER_COLUMNS), strict=True)
        return [
            (self.names[name], parent, Place(self.layouts[code], address, size, chunks))
            for name, parent, code, address, size in rows
        ]

    def unreadable_members(self, rows: Ints) -> dict[int, str]:
        """Return which of the cells at `rows` hold a member that cannot be read, and why."""
        bad = [code for code, layout in enumerate(self.layouts) if layout.reason and layout.storage != "h5py"]
        if self.members is None or not bad:
            return {}
        chosen = self.members.take(rows)
        at = np.flatnonzero(np.isin(chosen.columns["code"], bad))
        cells = rows[np.searchsorted(chosen.offsets, at, side="right") - 1]
        codes = chosen.columns["code"][at]
        return {row: self.layouts[code].reason for row, code in zip(cells.tolist(), codes.tolist(), strict=True)}

    @classmethod
    def joined(cls, parts: Sequence["Located"]) -> "Located":
        """Return the places of several batches, one after the other, under one set of codes."""
        if len(parts) == 1:
            return parts[0]
        layouts: dict[Layout, int] = {}
        names: dict[str, int] = {}
        code, members = [], []
        for part in parts:
            layout_of = np.array([*(layouts.setdefault(each, len(layouts)) for each in part.layouts), -1], np.int32)
            name_of = np.array([names.setdefault(each, len(names)) for each in part.names], np.int32)
            code.append(layout_of[part.code])
            own = _or_empty(part.members, len(part), MEMBER_COLUMNS)
            recoded = {"name": name_of[own.columns["name"]], "code": layout_of[own.columns["code"]]}
            members.append(Ragged(own.offsets, {**own.columns, **recoded}))
        chunks = [_or_empty(part.chunks, len(part), CHUNK_COLUMNS) for part in parts]
        return cls(
            tuple(layouts),
            np.concatenate(code),
            np.concatenate([part.address for part in parts]),
            np.concatenate([part.size for part in parts]),
            tuple(names),
            Ragged.joined(members) if any(part.members is not None for part in parts) else None,
            Ragged.joined(chunks) if any(part.chunks is not None for part in parts) else None,
        )


def _or_empty(ragged: Ragged | None, n: int, columns: Mapping[str, Any]) -> Ragged:
    if ragged is not None:
        return ragged
    return Ragged(np.zeros(n + 1, np.int64), {name: np.empty(0, dtype) for name, dtype in columns.items()})
