"""Which bytes of a file some cells need, known before any is read; and a remote file's bytes with those brought."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.errors import CorruptFileError
from cellnet_sd.settings import settings
from cellnet_sd.sources.locations import Layout, Located, Place
from cellnet_sd.sources.native_values import Bytes, is_decoded
from cellnet_sd.sources.sparse_bytes import FolderBytes, MemoryBytes, SparseBytes

if TYPE_CHECKING:
    from cellnet_sd.identity import Identity

Ints = NDArray[np.int64]
PutRows = Callable[[Ints, NDArray[np.intp]], int]
"""Puts the bytes at some addresses into rows at some positions; returns how many, before one that is not there."""
_PLAIN: Final = ("compact", "contiguous")
_RUNS: Final = (*_PLAIN, "single", "text")
"""Storages whose bytes are one run."""
_REFERRING: Final = (*_PLAIN, "single", "chunked")
_PREFIX: Final = 16
"""Bytes of a global heap collection that say how long it is (III.E)."""
_COLLECTION: Final = 2**16
"""Bytes that are brought of a collection before it is known how long it is; libhdf5 makes them 4 KiB, or as needed."""
_LONGEST: Final = 2**32
"""Bytes of a collection: more than HDF5's references can speak of."""


def remote_bytes(path: Path, identity: "Identity") -> SparseBytes:
    """Return the bytes of a remote file: kept where `settings.block_cache` says, else for this call alone."""
    if settings.block_cache is None:
        return MemoryBytes(path, identity.size)
    return FolderBytes(path, identity, settings.block_cache)


@dataclass(frozen=True)
class RemoteBytes:
    """A remote file for those who decode some of its cells.

    Parameters
    ----------
    stored
        Its bytes, as far as they were brought.
    state
        What following references begins with; see `Bytes`.
    """

    stored: SparseBytes
    state: tuple[int, ...]

    @property
    def buf(self) -> NDArray[np.uint8]:
        """All bytes, read-only; zeros where they were not brought."""
        return self.stored.buf

    def bring(self, located: Located) -> None:
        """Bring the bytes of some cells, and of what their references name."""
        found = Bytes(self.stored.buf, np.array(self.state, np.int64))
        self.stored.bring(*runs_of_cells(located, found.reference_size))
        self._bring_heaps(heaps_of_cells(located, found), found.ctx)

    def runs(self, address: Ints, size: Ints) -> Iterator[memoryview]:
        """Yield runs of bytes that were brought."""
        view = memoryview(self.buf)
        return (view[start:stop] for start, stop in zip(address.tolist(), (address + size).tolist(), strict=True))

    @contextmanager
    def rows_of(self, flat: NDArray[np.uint8]) -> Iterator[PutRows]:
        """Give what copies rows of `flat` from the bytes that were brought, as `native_fetch.rows_of` reads them."""
        from cellnet_sd.sources.native.kernels import copy_rows

        ctx, out = np.array(self.state, np.int64), flat.reshape(-1, copy=False)
        yield lambda address, at: copy_rows(self.buf, ctx.copy(), address, flat.shape[1], at, out)

    def _bring_heaps(self, addresses: Ints, ctx: Ints) -> None:
        """Bring collections of the global heap: as much as most have, then what their prefixes say."""
        from cellnet_sd.sources.native.codes import C_LENGTHS

        if not len(addresses):
            return
        self.stored.bring(addresses, np.full(len(addresses), _COLLECTION))
        lengths = _lengths(self.stored.buf, addresses, int(ctx[C_LENGTHS]))
        if (longest := int(lengths.max())) > _LONGEST:
            msg = f"{self.stored.path}: {longest:,} bytes are said to hold values of variable length: it is damaged."
            raise CorruptFileError(msg)
        self.stored.bring(addresses, lengths)


def runs_of_cells(located: Located, reference_size: int) -> tuple[Ints, Ints]:
    """Return address and size of the runs of bytes that are stored for some cells, as they are for `located`."""
    least = np.array([*(_least(layout, reference_size) for layout in located.layouts), -1], np.int64)
    runs = [_runs(located.code, located.address, located.size, least)]
    if located.members is not None:
        own = located.members.columns
        runs.append(_runs(own["code"], own["address"], own["size"], least))
    if located.chunks is not None and any(each.storage == "chunked" and is_decoded(each) for each in located.layouts):
        runs.append((located.chunks.columns["address"], located.chunks.columns["size"]))
    address, size = (np.concatenate(each) for each in zip(*runs, strict=True))
    return address, size


def _least(layout: Layout, reference_size: int) -> int:
    """Return how many bytes of a run are read whatever is said of its size; -1 for no run, or none that is read."""
    if layout.storage not in _RUNS or not is_decoded(layout) or layout.reason:
        return -1
    return layout.n_elements * _width(layout, reference_size) if layout.storage in _PLAIN else 0


def _width(layout: Layout, reference_size: int) -> int:
    return reference_size if layout.kind.startswith("vlen") else np.dtype(layout.dtype).itemsize


def _runs(code: NDArray[np.int32], address: Ints, size: Ints, least: Ints) -> tuple[Ints, Ints]:
    here = np.flatnonzero(least[code] >= 0)
    return address[here], np.maximum(size[here], least[code[here]])


# --- values that are referred to -------------------------------------------------------------------------------------


def heaps_of_cells(located: Located, stored: Bytes) -> Ints:
    """Return where the collections are that hold the values of variable length of some cells, whose own runs are there.

    References that cannot be had are left out: whoever decodes them says why.
    """
    from cellnet_sd.sources.native.codes import C_BASE, C_OFFSETS

    if not any(_refers(layout) for layout in located.layouts):
        return np.empty(0, np.int64)
    found = [stored.references(place) for row in range(len(located)) for place in _places(located, row)]
    width = int(stored.ctx[C_OFFSETS])
    references = np.concatenate([*found, np.empty(0, np.uint8)]).reshape(-1, stored.reference_size)
    address = np.zeros((len(references), 8), np.uint8)
    address[:, :width] = references[:, 4 : 4 + width]
    return np.unique(address.view("<i8")[:, 0] + stored.ctx[C_BASE])


def _refers(layout: Layout) -> bool:
    return layout.kind.startswith("vlen") and layout.storage in _REFERRING and not layout.reason and is_decoded(layout)


def _places(located: Located, row: int) -> Iterator[Place]:
    """Yield the datasets of one cell that hold references."""
    own = located.place(row)
    inside = (place for _, _, place in located.members_of(row))
    yield from (place for place in (own, *inside) if place is not None and _refers(place.layout))


def _lengths(buf: NDArray[np.uint8], addresses: Ints, width: int) -> Ints:
    """Return how long collections say they are; 0 where there is none."""
    inside = (addresses >= 0) & (addresses <= len(buf) - _PREFIX)
    prefixes = buf[np.where(inside, addresses, 0)[:, None] + np.arange(_PREFIX)]
    length = np.zeros((len(addresses), 8), np.uint8)
    length[:, :width] = prefixes[:, 8 : 8 + width]
    is_one = inside & (prefixes[:, :4] == np.frombuffer(b"GCOL", np.uint8)).all(axis=1)
    return np.where(is_one, length.view("<i8")[:, 0], 0)
