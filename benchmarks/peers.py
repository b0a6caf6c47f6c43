"""How one would read Cell-NET without cellnet_sd: the plain h5py loop, h5py's low-level calls, and pyfive.

All are told the names of the cells, which spares them the listing, and keep the file open while they work.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import h5py
import numpy as np
from h5py import h5d, h5f, h5g, h5s
from numpy.typing import NDArray

from benchmarks.answers import ARRAYS, Batch, Catalogue, Place

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PLAIN: Final = "h5py loop"
LOW_LEVEL: Final = "low-level h5py"
PYFIVE: Final = "pyfive"
_BLOCK: Final = 256
"""Dense profiles that are held before they are made sparse."""


class Peer(Protocol):
    """Reads an open file cell by cell."""

    def catalogue(self, names: Sequence[str]) -> Catalogue:
        """Return names, attributes, captions, and shape, type and place of all arrays."""
        ...

    def array(self, name: str, path: str) -> NDArray[Any]:
        """Return an array of a cell."""
        ...


class Work(NamedTuple):
    """What peers do, with the same arguments for each: the path of the file, and names of cells."""

    index: Callable[[Path, Sequence[str]], Catalogue]
    expression: Callable[[Path, Sequence[str]], "csr_matrix"]
    patches: Callable[[Path, Sequence[str]], NDArray[Any]]
    batches: Callable[[Path, Sequence[Sequence[str]]], list[Batch]]
    convert: Callable[[Path, Sequence[str]], Path]
    """To an AnnData store, whose path is returned."""


def _work(name: str, opened: Callable[[Path], Any]) -> Work:
    tasks = (_index, _expression, _patches, _batches)
    return Work(*(partial(task, opened) for task in tasks), partial(_convert, opened, name))


def _index(opened: Callable[[Path], Any], path: Path, names: Sequence[str]) -> Catalogue:
    with opened(path) as peer:
        return peer.catalogue(names)


def _expression(opened: Callable[[Path], Any], path: Path, names: Sequence[str]) -> "csr_matrix":
    with opened(path) as peer:
        return _matrix(peer, names)


def _patches(opened: Callable[[Path], Any], path: Path, names: Sequence[str]) -> NDArray[Any]:
    with opened(path) as peer:
        return _stack(peer, names)


def _batches(opened: Callable[[Path], Any], path: Path, batches: Sequence[Sequence[str]]) -> list[Batch]:
    with opened(path) as peer:
        return [Batch(_matrix(peer, names), _stack(peer, names)) for names in batches]


def _convert(opened: Callable[[Path], Any], name: str, path: Path, names: Sequence[str]) -> Path:
    """Convert as a script would: read everything, stack it, write it."""
    import pandas as pd
    from anndata import AnnData

    with opened(path) as peer:
        found = peer.catalogue(names)
        obs = pd.DataFrame(found.documents, index=found.names)
        obs = obs.drop(columns=["Position_in_WSI", "Position_in_tissue"]).assign(caption=found.captions)
        adata = AnnData(_matrix(peer, names), obs=obs, obsm=found.positions())
    target = path.with_suffix(f".{name.replace(' ', '-')}.zarr")
    adata.write_zarr(target)
    return target


def _matrix(peer: Peer, names: Sequence[str]) -> "csr_matrix":
    from scipy import sparse

    starts = range(0, len(names), _BLOCK)
    blocks = ([peer.array(name, "expression") for name in names[start : start + _BLOCK]] for start in starts)
    return sparse.vstack([sparse.csr_matrix(np.stack(block)) for block in blocks], format="csr")


def _stack(peer: Peer, names: Sequence[str]) -> NDArray[Any]:
    return np.stack([peer.array(name, "images/cell_patch") for name in names])


# --- the plain loop --------------------------------------------------------------------------------------------------


class _Plain:
    """What a user of h5py would write."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> "Iterator[_Plain]":
        with h5py.File(path) as file:
            yield cls(file)

    def catalogue(self, names: Sequence[str]) -> Catalogue:
        found = Catalogue()
        for name in names:
            cell = self._file[name]
            places = tuple(self._place(cell[path]) for path in ARRAYS)
            found.add(name, json.loads(cell["attributes.json"][()]), cell["caption.txt"].asstr()[()], places)
        return found

    def _place(self, dataset: h5py.Dataset) -> Place:
        shape, dtype = dataset.shape, str(dataset.dtype)
        if dataset.chunks is None:
            return Place(shape, dtype, dataset.id.get_offset(), dataset.nbytes)
        chunk = dataset.id.get_chunk_info(0)
        return Place(shape, dtype, chunk.byte_offset, chunk.size)

    def array(self, name: str, path: str) -> NDArray[Any]:
        return self._file[name][path][()]


# --- low-level calls -------------------------------------------------------------------------------------------------


class _LowLevel:
    """What one who knows h5py well would write: no objects but HDF5's own, and every path in one call."""

    def __init__(self, file: h5f.FileID) -> None:
        self._file = file
        self._arrays = [path.encode() for path in ARRAYS]

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> "Iterator[_LowLevel]":
        file = h5f.open(str(path).encode(), h5f.ACC_RDONLY)
        try:
            yield cls(file)
        finally:
            file.close()

    def catalogue(self, names: Sequence[str]) -> Catalogue:
        found = Catalogue()
        for name in names:
            cell = h5g.open(self._file, name.encode())
            places = tuple(self._place(h5d.open(cell, path)) for path in self._arrays)
            document, caption = (self._text(h5d.open(cell, path)) for path in (b"attributes.json", b"caption.txt"))
            found.add(name, json.loads(document), caption.decode(), places)
        return found

    def _place(self, dataset: h5d.DatasetID) -> Place:
        shape, dtype = dataset.shape, dataset.dtype
        offset = dataset.get_offset()
        if offset is not None:
            return Place(shape, str(dtype), offset, dataset.get_storage_size())
        chunk = dataset.get_chunk_info(0)
        return Place(shape, str(dtype), chunk.byte_offset, chunk.size)

    def _text(self, dataset: h5d.DatasetID) -> bytes:
        value = np.empty((), dtype=object)
        dataset.read(h5s.ALL, h5s.ALL, value)
        return value[()]

    def array(self, name: str, path: str) -> NDArray[Any]:
        dataset = h5d.open(self._file, f"{name}/{path}".encode())
        values = np.empty(dataset.shape, dataset.dtype)
        dataset.read(h5s.ALL, h5s.ALL, values)
        return values


# --- pyfive ----------------------------------------------------------------------------------------------------------


class _Pyfive:
    """The same loop in pyfive, which reads HDF5 in Python alone."""

    def __init__(self, file: Any) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> "Iterator[_Pyfive]":
        import pyfive

        with pyfive.File(str(path)) as file:
            yield cls(file)

    def catalogue(self, names: Sequence[str]) -> Catalogue:
        found = Catalogue()
        for name in names:
            cell = self._file[name]
            places = tuple(self._place(cell[path]) for path in ARRAYS)
            document, caption = (cell[path][()] for path in ("attributes.json", "caption.txt"))
            found.add(name, json.loads(document), caption.decode(), places)
        return found

    def _place(self, dataset: Any) -> Place:
        shape, dtype = dataset.shape, np.dtype(dataset.dtype)
        if dataset.chunks is None:
            return Place(shape, str(dtype), dataset.id.data_offset, int(np.prod(shape)) * dtype.itemsize)
        chunk = dataset.id.get_chunk_info(0)
        return Place(shape, str(dtype), chunk.byte_offset, chunk.size)

    def array(self, name: str, path: str) -> NDArray[Any]:
        return self._file[f"{name}/{path}"][()]


def peers() -> dict[str, Work]:
    """Return the peers that are installed, by name."""
    found = {PLAIN: _work(PLAIN, _Plain.opened), LOW_LEVEL: _work(LOW_LEVEL, _LowLevel.opened)}
    if find_spec("pyfive") is not None:
        found[PYFIVE] = _work(PYFIVE, _Pyfive.opened)
    return found
