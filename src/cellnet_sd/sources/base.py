"""The protocol of a source: the one thing everything above it knows about files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.layout import Component

if TYPE_CHECKING:
    from cellnet_sd.cellindex import CellIndex
    from cellnet_sd.findings import Choices
    from cellnet_sd.identity import Identity
    from cellnet_sd.sources.access import Access
    from cellnet_sd.sources.genelist import Genes

Rows = Sequence[int] | NDArray[np.int64]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Raw:
    """One component of one cell as stored: a dataset, or a group of them.

    Parameters
    ----------
    value
        The dataset's array, in its stored dtype. Strings are `bytes`: an object array for variable length, `S` for
        fixed. `None` for a group.
    attrs
        HDF5 attributes. Of a group always, of a dataset only where a component needs them (CCC, expression's members).
    members
        What a group holds, by name. Empty for a dataset.
    """

    value: NDArray[Any] | None = None
    attrs: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    members: Mapping[str, "Raw"] = field(default_factory=lambda: _NOTHING)

    @property
    def is_group(self) -> bool:
        """Whether this is a group."""
        return self.value is None


class Packed(NamedTuple):
    """Vectors of numbers without their zeros, one after the other."""

    counts: NDArray[np.int64]
    """How many values each has that are not zero; -1 for those that are not packed, and to be fetched one by one."""
    indices: NDArray[np.int32]
    """Ascending within a vector."""
    values: NDArray[np.float32]
    n_inexact: int
    """How many values float32 cannot hold exactly."""


class Compressed(NamedTuple):
    """Compressed sparse matrices of some cells of a batch, as stored and not checked: the lists of each, in turn."""

    at: NDArray[np.int64]
    """Which cells of the batch they are of; the others are to be fetched one by one."""
    kind: NDArray[np.int32]
    """Which of `attrs` each has."""
    attrs: Sequence[Mapping[str, Any]]
    data: NDArray[Any]
    n_data: NDArray[np.int64]
    """How many elements of `data` are of each cell; likewise below."""
    indices: NDArray[Any]
    n_indices: NDArray[np.int64]
    indptr: NDArray[Any]
    n_indptr: NDArray[np.int64]

    def take(self, which: NDArray[np.bool_]) -> "Compressed":
        """Return the matrices that are told."""
        if which.all():
            return self
        lists = (self.data, self.n_data), (self.indices, self.n_indices), (self.indptr, self.n_indptr)
        data, indices, indptr = ((items[np.repeat(which, counts)], counts[which]) for items, counts in lists)
        return Compressed(self.at[which], self.kind[which], self.attrs, *data, *indices, *indptr)

    @classmethod
    def none(cls) -> "Compressed":
        """Return the matrices of no cell."""
        none = np.empty(0, np.int64)
        return cls(none, none.astype(np.int32), (), none, none, none, none, none, none)


class Unreadable(str):
    """Why one stored value could not be read; stands in its place in a batch."""

    __slots__ = ()


class Fetches(Protocol):
    """Something that gives stored values by row."""

    @property
    def path(self) -> Path:
        """Where the values are, for messages."""
        ...

    def fetch(self, component: Component, rows: Rows) -> list[Raw | Unreadable | None]:
        """Return the stored values of `component` at `rows`, in the order asked.

        `None` where the cell lacks the component; an `Unreadable` with the reason where it cannot be read.
        """
        ...


@runtime_checkable
class FetchesPlain(Fetches, Protocol):
    """A source that can decode plainly stored arrays of many cells at once."""

    def fetch_arrays(
        self, component: Component, rows: Rows, shape: tuple[int, ...], out: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Fill `out[i]` for each of `rows` that stores a uint8 array of `shape`; return which those are, (n,).

        The others, absent and malformed ones among them, are to be fetched. `out` is contiguous.
        """
        ...

    def fetch_packed(self, component: Component, rows: Rows, length: int) -> Packed:
        """Return those of `rows` that store a vector of `length` finite numbers; the others are to be fetched."""
        ...


class Source(FetchesPlain, Protocol):
    """Where cells come from: all that the verbs know of a file.

    A source is picklable: it carries its path and what the caller said of it, never an open handle.
    """

    def fetch_compressed(self, component: Component, rows: Rows) -> Compressed:
        """Return the sparse matrices of those of `rows` that store them plainly; the others are to be fetched."""
        ...

    @property
    def index(self) -> "CellIndex":
        """One row per cell."""
        ...

    @property
    def choices(self) -> "Choices":
        """What the caller said of the file."""
        ...

    @property
    def access(self) -> "Access":
        """How the file is read."""
        ...

    @property
    def identity(self) -> "Identity":
        """The state of the file that the index is of."""
        ...

    def on_threads(self, n_threads: int) -> "Source":
        """Return the same source, read on so many threads."""
        ...

    @property
    def genes(self) -> "Genes | None":
        """Names of the genes, `None` if they are named nowhere."""
        ...
