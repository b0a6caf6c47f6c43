"""Cells from a Cell-NET HDF5 file, read through h5py."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cellnet_sd.cellindex import CellIndex
from cellnet_sd.errors import SourceMovedError
from cellnet_sd.findings import Choices
from cellnet_sd.indexfile import Identity
from cellnet_sd.layout import Component
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.genelist import Genes, find_genes
from cellnet_sd.sources.hdf5_objects import (
    DAMAGE,
    open_file,
    open_member,
    read_object,
)


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
        from cellnet_sd.sources.opening import reopen

        return reopen, (self.path, self.choices, self.identity)

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
        check_unmoved(self.path, self.identity)
        if not len(rows):
            return []
        with open_file(self.path) as file:
            return [_read(file, f"{group}/{component}") for group in self.index.group_paths(rows)]


def check_unmoved(path: Path, identity: Identity) -> None:
    """Check that a file is where and what it was.

    Raises
    ------
    SourceMovedError
        If it is gone, or has changed.
    """
    if not path.exists():
        msg = f"{path} is gone. Put it back, or pass source= with its new place."
        raise SourceMovedError(msg)
    stat = path.stat()
    if (stat.st_size, stat.st_mtime_ns) != (identity.size, identity.mtime_ns):
        msg = f"{path} has changed since it was opened. Read it again."
        raise SourceMovedError(msg)


def _read(file: h5py.File, path: str) -> Raw | Unreadable | None:
    try:
        node = open_member(h5py.h5g.open(file.id, b"/"), path)
        return None if node is None else read_object(node, with_attrs=path.endswith(Component.CCC))
    except DAMAGE as error:
        return Unreadable(error)
