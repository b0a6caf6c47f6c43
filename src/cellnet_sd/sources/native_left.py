"""Cells with objects that only libhdf5 knows: they are scanned through h5py, past a guard where the file is damaged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from h5py import h5g

from cellnet_sd.layout import Component
from cellnet_sd.sources.facts import StoredForm
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.guarded import fetch_guarded, in_child
from cellnet_sd.sources.hdf5_fetch import fetch_cells
from cellnet_sd.sources.hdf5_objects import DAMAGE, open_file, open_member
from cellnet_sd.sources.hdf5_scan import Scanner
from cellnet_sd.sources.hdf5_walk import CellGroup, is_cell


class LeftCells(msgspec.Struct):
    """What h5py finds in some cells, one entry each; see `Facts`."""

    documents: list[dict[str, Any] | None]
    captions: list[str | None]
    forms: dict[Component, list[StoredForm | None]]
    defects: list[tuple[int, str, str]]
    n_latin1: int
    not_cells: list[int] = []
    """Groups without a cell's marks, and what is no group at all."""


def scan_left(path: Path, cells: Sequence[tuple[str, str]], *, is_guarded: bool) -> LeftCells:
    """Scan cells, each named by its container and its name, through h5py.

    Parameters
    ----------
    path, cells
        The file and the cells.
    is_guarded
        Whether the file is damaged: libhdf5 is then let at it in a process of its own, which may crash or hang.

    Raises
    ------
    CorruptFileError
        If the guarded process crashed, hung, or took too much memory.
    """
    if is_guarded:
        return msgspec.msgpack.decode(in_child("scan", path, cells), type=LeftCells)
    return scan_here(path, cells)


def fetch_left(
    path: Path, component: Component, cells: Sequence[tuple[str, str]], *, is_guarded: bool
) -> list[Raw | Unreadable | None]:
    """Return one component of some cells, read through h5py; see `scan_left`."""
    if is_guarded:
        return fetch_guarded(path, component, cells)
    return fetch_cells(path, component, [f"{container}/{name}" for container, name in cells])


def scan_here(path: Path, cells: Sequence[tuple[str, str]]) -> LeftCells:
    """Scan cells through h5py in this process."""
    not_cells = []
    with open_file(path) as file:
        scanner = Scanner(file)
        for at, (container, name) in enumerate(cells):
            node = _opened(file, f"{container}/{name}")
            if not isinstance(node, h5g.GroupID | str) or (isinstance(node, h5g.GroupID) and not is_cell(node)):
                not_cells.append(at)
                node = "it is no cell"
            scanner.add(CellGroup(container, name, node))
    forms = {component: codes.stored() for component, codes in scanner.forms.items()}
    return LeftCells(scanner.documents, scanner.captions, forms, list(scanner.defects), scanner.n_latin1, not_cells)


def _opened(file: Any, path: str) -> Any:
    """Return what is at a path, or in words why it cannot be opened."""
    try:
        return open_member(h5g.open(file.id, b"/"), path)
    except DAMAGE as error:
        return str(error)
