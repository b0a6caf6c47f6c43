"""Cells from a Cell-NET HDF5 file, read through h5py."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cellnet_sd import indexfile
from cellnet_sd.cellindex import CellIndex, from_facts, reordered, with_slides
from cellnet_sd.errors import LayoutError, SourceMovedError
from cellnet_sd.findings import Choices
from cellnet_sd.indexfile import Identity
from cellnet_sd.layout import Component
from cellnet_sd.settings import settings
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.genelist import Genes, find_genes
from cellnet_sd.sources.hdf5_objects import (
    ObjectError,
    check_is_hdf5,
    load_plugins,
    open_file,
    open_member,
    read_object,
)
from cellnet_sd.sources.hdf5_scan import scan


class Hdf5Source:
    """A Cell-NET HDF5 file with its index.

    Holds no open handle: every fetch opens the file anew, so a source can be pickled and sent to another process, which
    finds the index by the file's path.

    Parameters
    ----------
    path
        The file.
    index
        Its index.
    choices
        What the caller said of it.
    identity
        The state of the file that the index is of.
    """

    def __init__(self, path: Path, index: CellIndex, choices: Choices, identity: Identity) -> None:
        self.path = path
        self.index = index
        self.choices = choices
        self.identity = identity

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.choices, self.identity)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return type(self).__name__, str(self.path), repr(self.choices), repr(self.identity)

    @cached_property
    def genes(self) -> Genes | None:
        """Names of the genes, `None` if they are named nowhere."""
        n_genes = self.index.findings.n_genes
        stated = self.index.stated[""].values
        return find_genes(self.path, stated, self.index.gene_names, n_genes, self.choices.gene_list)

    def fetch(self, component: Component, rows: Sequence[int] | NDArray[np.int64]) -> list[Raw | Unreadable | None]:
        """Return the stored values of `component` at `rows`, in the order asked; see `Source.fetch`.

        Raises
        ------
        SourceMovedError
            If the file is gone, or is not in the state the index is of.
        """
        self._check_unmoved()
        if not len(rows):
            return []
        with open_file(self.path) as file:
            return [_read(file, f"{group}/{component}") for group in self.index.group_paths(rows)]

    def _check_unmoved(self) -> None:
        if not self.path.exists():
            msg = f"{self.path} is gone. Put it back, or pass source= with its new place."
            raise SourceMovedError(msg)
        stat = self.path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (self.identity.size, self.identity.mtime_ns):
            msg = f"{self.path} has changed since it was opened. Read it again."
            raise SourceMovedError(msg)


def _read(file: h5py.File, path: str) -> Raw | Unreadable | None:
    try:
        node = open_member(h5py.h5g.open(file.id, b"/"), path)
        return None if node is None else read_object(node, with_attrs=path.endswith(Component.CCC))
    except ObjectError as error:
        return Unreadable(error)


def open_source(path: str | Path, choices: Choices | None = None, *, index: bool | None = None) -> Hdf5Source:
    """Open a Cell-NET file: load its index, or build and save it.

    Parameters
    ----------
    path
        The file.
    choices
        What the caller says of the file.
    index
        Whether to save the index if there is none; `None` leaves it to `settings.index`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CellNetError
        If it is no Cell-NET file, or cannot be trusted.
    """
    path = Path(path).expanduser().absolute()
    choices = choices or Choices()
    check_is_hdf5(path)
    load_plugins()
    base = indexfile.load(path)
    identity = Identity.of(path)
    if base is None:
        base = _build(path, identity)
        if settings.index if index is None else index:
            indexfile.save(base, identity)
    return Hdf5Source(path, _chosen(base, choices, identity), choices, identity)


def _build(path: Path, identity: Identity) -> CellIndex:
    from cellnet_sd.detection import detect

    facts = scan(path)
    if not len(facts):
        msg = f"{path} holds no cells: no group in it has {' or '.join(map(repr, map(str, _MARKERS)))}. {_guess(path)}"
        raise LayoutError(msg)
    index = from_facts(path, facts, Choices())
    return detect(Hdf5Source(path, index, Choices(), identity))


_MARKERS = (Component.EXPRESSION, Component.ATTRIBUTES)


def _guess(path: Path) -> str:
    """Say what a file without cells looks like."""
    with open_file(path) as file:
        names = set(file)
    if {"obs", "var"} <= names:
        return "It looks like an AnnData file: read it with anndata.read_h5ad."
    if "matrix" in names:
        return "It looks like a 10x matrix: read it with scanpy.read_10x_h5."
    return f"At its root are {', '.join(sorted(names)[:5])}." if names else "It is an HDF5 file with nothing in it."


def _chosen(index: CellIndex, choices: Choices, identity: Identity) -> CellIndex:
    """Return the index with the caller's choices applied to it."""
    from cellnet_sd.detection import apply_choices, detect

    if choices.cell_order is not None and choices.cell_order != index.findings.order:
        index = reordered(index, choices.cell_order)
    elif choices.slide_key is None and choices.gene_list is None:
        return apply_choices(index, choices)
    index = with_slides(index, choices.slide_key)
    index = detect(Hdf5Source(index.path, index, choices, identity))
    return apply_choices(index, choices)


@lru_cache(maxsize=8)
def _reopened(path: Path, choices: Choices, identity: Identity) -> Hdf5Source:
    """Open a source in another process, once; the same state of the file or an error."""
    if not path.exists():
        msg = f"{path} is gone. Put it back, or pass source= with its new place."
        raise SourceMovedError(msg)
    source = open_source(path, choices)
    if source.identity != identity:
        msg = f"{path} has changed since it was opened. Read it again."
        raise SourceMovedError(msg)
    return source
