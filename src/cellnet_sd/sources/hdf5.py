"""Cells from a Cell-NET HDF5 file: natively where the index says where their bytes are, through h5py elsewhere."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.cellindex import CellIndex
from cellnet_sd.errors import SourceMovedError
from cellnet_sd.findings import Choices
from cellnet_sd.identity import Identity
from cellnet_sd.layout import Component
from cellnet_sd.sources.access import Access
from cellnet_sd.sources.base import Compressed, Packed, Raw, Unreadable
from cellnet_sd.sources.genelist import Genes, find_genes
from cellnet_sd.sources.hdf5_fetch import fetch_cells
from cellnet_sd.sources.paths import is_remote

if TYPE_CHECKING:
    from cellnet_sd.sources.native_fetch import NativeReader
    from cellnet_sd.sources.native_ranges import RemoteBytes

Stored = Raw | Unreadable | None
_ONLY_H5PY: Final = "it is stored in a way that only h5py reads. Pass engine='auto'."
_ONLY_HERE: Final = (
    "it is stored in a way that only libhdf5 reads, in a process of its own, which takes local files. "
    "Download the file, or pass engine='h5py', which trusts it."
)


class Hdf5Source:
    """A Cell-NET HDF5 file with its index.

    Holds no open handle: every fetch opens the file anew, so a source can be pickled and sent to another process, which
    finds the index by the file's path.

    Parameters
    ----------
    path
        The file; a `UPath` if it is remote.
    index
        Its index.
    choices
        What the caller said of it.
    identity
        The state of the file that the index is of.
    access
        How it is read.
    """

    def __init__(self, path: Path, index: CellIndex, choices: Choices, identity: Identity, access: Access) -> None:
        self.path = path
        self.index = index
        self.choices = choices
        self.identity = identity
        self.access = access

    def on_threads(self, n_threads: int) -> "Hdf5Source":
        """Return the same source, read on so many threads."""
        access = Access(self.access.engine, n_threads)
        return Hdf5Source(self.path, self.index, self.choices, self.identity, access)

    def with_slide_names(self, names: Sequence[str]) -> "Hdf5Source":
        """Return the same source with its slides called otherwise: here alone, not where it is reopened."""
        return Hdf5Source(self.path, self.index.renamed_slides(names), self.choices, self.identity, self.access)

    def __reduce__(self) -> tuple[Any, ...]:
        from cellnet_sd.sources.opening import reopen

        return reopen, (self.path, self.choices, self.identity, self.access)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, str(self.path), repr(self.choices), repr(self.identity)

    @cached_property
    def genes(self) -> Genes | None:
        """Names of the genes, `None` if they are named nowhere."""
        n_genes = self.index.findings.n_genes
        stated = self.index.stated[""].values
        return find_genes(self.path, stated, self.index.gene_names, n_genes, self.choices.gene_list)

    def fetch(self, component: Component, rows: Sequence[int] | NDArray[np.int64]) -> list[Stored]:
        """Return the stored values of `component` at `rows`, in the order asked; see `Source.fetch`.

        Raises
        ------
        SourceMovedError
            If the file is gone, or is not in the state the index is of.
        CorruptFileError
            If the file is damaged, and libhdf5 fails on what only it can read.
        """
        check_unmoved(self.path, self.identity)
        rows = np.asarray(rows, dtype=np.int64)
        return self._with_broken(rows, self._fetched(component, rows))

    def _fetched(self, component: Component, rows: NDArray[np.int64]) -> list[Stored]:
        reader = self._native(component)
        if reader is None:
            if self.access.engine == "h5py":
                return fetch_cells(self.path, component, self.index.group_paths(rows))
            return self._left(component, rows)
        from cellnet_sd.sources.native_fetch import LEFT

        values = reader.fetch(rows)
        left = [at for at, value in enumerate(values) if value is LEFT]
        for at, value in zip(left, self._left(component, rows[left]), strict=True):
            values[at] = value
        return cast("list[Stored]", values)

    def _with_broken(self, rows: NDArray[np.int64], values: list[Stored]) -> list[Stored]:
        """Return what was read with the reason where there is nothing since the cell's group cannot be read."""
        broken = self.index.broken
        for at in np.flatnonzero(np.isin(rows, list(broken))).tolist() if broken else ():
            if values[at] is None:
                values[at] = Unreadable(broken[int(rows[at])])
        return values

    def fetch_arrays(
        self,
        component: Component,
        rows: Sequence[int] | NDArray[np.int64],
        shape: tuple[int, ...],
        out: NDArray[np.uint8],
    ) -> NDArray[np.bool_]:
        """Fill `out` with the plainly stored arrays of some cells; see `FetchesPlain`."""
        check_unmoved(self.path, self.identity)
        reader = self._native(component)
        if reader is None:
            return np.zeros(len(rows), bool)
        return reader.fetch_arrays(np.asarray(rows, dtype=np.int64), shape, out)

    def fetch_packed(self, component: Component, rows: Sequence[int] | NDArray[np.int64], length: int) -> Packed:
        """Return the plainly stored vectors of some cells without their zeros; see `FetchesPlain`."""
        check_unmoved(self.path, self.identity)
        reader = self._native(component)
        if reader is None:
            return Packed(np.full(len(rows), -1), np.empty(0, np.int32), np.empty(0, np.float32), 0)
        return reader.fetch_packed(np.asarray(rows, dtype=np.int64), length)

    def fetch_compressed(self, component: Component, rows: Sequence[int] | NDArray[np.int64]) -> Compressed:
        """Return the plainly stored sparse matrices of some cells; see `Source.fetch_compressed`."""
        check_unmoved(self.path, self.identity)
        reader = self._native(component)
        return Compressed.none() if reader is None else reader.fetch_compressed(np.asarray(rows, dtype=np.int64))

    def _native(self, component: Component) -> "NativeReader | None":
        """Return what reads a component without libhdf5; `None` if that is not asked for, or cannot be."""
        if self.access.engine == "h5py" or (located := self.index.load_located(component)) is None:
            return None
        from cellnet_sd.sources.native_fetch import NativeReader

        state = self.index.findings.scan.state
        remote = self._remote(state) if is_remote(self.path) else None
        return NativeReader(self.path, component, located, state, self.access.n_threads, remote)

    def _remote(self, state: tuple[int, ...]) -> "RemoteBytes":
        from cellnet_sd.sources.native_ranges import RemoteBytes, remote_bytes

        return RemoteBytes(remote_bytes(self.path, self.identity), state)

    def _left(self, component: Component, rows: NDArray[np.int64]) -> list[Stored]:
        """Return what only libhdf5 can read."""
        if not len(rows):
            return []
        if self.access.engine == "native":
            return [Unreadable(_ONLY_H5PY)] * len(rows)
        if is_remote(self.path):
            return [Unreadable(_ONLY_HERE)] * len(rows)
        from cellnet_sd.sources.guarded import fetch_guarded

        containers = self.index.containers
        cells = [(str(containers[row]), str(self.index.names.iloc[row])) for row in rows.tolist()]
        return fetch_guarded(self.path, component, cells)


def check_unmoved(path: Path, identity: Identity) -> None:
    """Check that a file is where and what it was.

    Raises
    ------
    SourceMovedError
        If it is gone, or has changed.
    """
    try:
        is_unmoved = identity.holds_of(path)
    except FileNotFoundError as error:
        msg = f"{path} is gone. Put it back, or pass source= with its new place."
        raise SourceMovedError(msg) from error
    if not is_unmoved:
        msg = f"{path} has changed since it was opened. Read it again."
        raise SourceMovedError(msg)
