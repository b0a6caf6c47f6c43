"""Cells with objects that only libhdf5 knows: they are scanned through h5py, in a process of its own.

A file can be made to break libhdf5, sound as its structure is: a chunk that decodes to fewer bytes than it should is
read beyond its end, whatever filter it has.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from h5py import h5d, h5g

from cellnet_sd.errors import CorruptFileError, MissingDependencyError
from cellnet_sd.layout import Component
from cellnet_sd.sources.facts import StoredForm
from cellnet_sd.sources.guarded import in_child
from cellnet_sd.sources.hdf5_objects import DAMAGE, open_file, open_member
from cellnet_sd.sources.hdf5_scan import Scanner
from cellnet_sd.sources.hdf5_walk import CellGroup, is_cell, stated_attributes, stated_datasets
from cellnet_sd.sources.hdf5_wsi import digest_of_dataset


class LeftCells(msgspec.Struct):
    """What h5py finds in some cells, one entry each; see `Facts`."""

    documents: list[dict[str, Any] | None]
    captions: list[str | None]
    forms: dict[Component, list[StoredForm | None]]
    defects: list[tuple[int, str, str]]
    n_latin1: int
    images: list[bytes] = []
    """Digests of the WSI images, empty where there is none."""
    not_cells: list[int] = []
    """Groups without a cell's marks, and what is no group at all."""
    gene_names: tuple[str, ...] | None = None
    """Those that the first of these cells states."""
    unknown: list[dict[str, int]] = []
    """What lies in each cell without being part of the layout."""


class LeftStated(msgspec.Struct):
    """What h5py finds a container to state; see `Stated`."""

    values: dict[str, Any] = {}
    others: list[str] = []
    """Names of attributes that the layout does not know."""
    fault: str = ""
    """Why it cannot be read."""


def scan_left(path: Path, cells: Sequence[tuple[str, str]]) -> LeftCells:
    """Scan cells, each named by its container and its name, through h5py in a process that may crash or hang.

    Raises
    ------
    CorruptFileError
        If the guarded process crashed, hung, or took too much memory.
    """
    return msgspec.msgpack.decode(in_child("scan", path, cells), type=LeftCells)


def scan_here(path: Path, cells: Sequence[tuple[str, str]]) -> LeftCells:
    """Scan cells through h5py in this process.

    Raises
    ------
    CorruptFileError
        If a cell's group or its attributes cannot be listed.
    """
    try:
        return _scanned(path, cells)
    except DAMAGE as error:
        msg = f"{path}: its structure is damaged ({error})."
        raise CorruptFileError(msg) from error


def _scanned(path: Path, cells: Sequence[tuple[str, str]]) -> LeftCells:
    not_cells, unknown = [], []
    with open_file(path) as file:
        scanner = Scanner(file)
        for at, (container, name) in enumerate(cells):
            node = _opened(file, f"{container}/{name}")
            if not isinstance(node, h5g.GroupID | str) or (isinstance(node, h5g.GroupID) and not is_cell(node)):
                not_cells.append(at)
                node = "it is no cell"
            before = scanner.unknown.copy()
            scanner.add(CellGroup(container, name, node))
            unknown.append(dict(scanner.unknown - before))
        images = _digests(file, scanner)
    forms = {component: codes.stored() for component, codes in scanner.forms.items()}
    defects: list[tuple[int, str, str]] = [*scanner.defects]
    texts = (scanner.documents, scanner.captions)
    return LeftCells(*texts, forms, defects, scanner.n_latin1, images, not_cells, scanner.gene_names, unknown)


def stated_left(path: Path, containers: Sequence[str]) -> list[LeftStated]:
    """Return what containers state, read through h5py past the guard: nobody has looked at the file's cells yet.

    Raises
    ------
    CorruptFileError
        If what one states cannot be read, or the guarded process crashed, hung, or took too much memory.
    """
    if not containers:
        return []
    order = [(container, "") for container in containers]
    found = msgspec.msgpack.decode(in_child("stated", path, order), type=list[LeftStated])
    for container, own in zip(containers, found, strict=True):
        if own.fault:
            msg = f"{path}: what {container or 'the root'} states cannot be read: {own.fault}"
            raise CorruptFileError(msg)
    return found


def stated_here(path: Path, containers: Sequence[str]) -> list[LeftStated]:
    """Return what containers state, read through h5py in this process."""
    with open_file(path) as file:
        return [_stated(file, container) for container in containers]


def _stated(file: Any, container: str) -> LeftStated:
    try:
        group = open_member(h5g.open(file.id, b"/"), container)
        if not isinstance(group, h5g.GroupID):
            return LeftStated(fault="it is no group.")
        values, others = stated_attributes(group)
        return LeftStated(values | stated_datasets(group), others)
    except (*DAMAGE, MissingDependencyError) as error:
        return LeftStated(fault=f"{error}.")


def _digests(file: Any, scanner: Scanner) -> list[bytes]:
    """Return a digest of the WSI image of each cell; each distinct image is read once."""
    numbers = scanner.finish({}).wsi.tolist()
    found: dict[int, bytes] = {-1: b""}
    for container, name, number in zip(scanner.containers, scanner.names, numbers, strict=True):
        if number not in found:
            node = open_member(h5g.open(file.id, b"/"), f"{container}/{name}/{Component.WSI_PATCH}")
            assert isinstance(node, h5d.DatasetID)  # it has a number
            found[number] = digest_of_dataset(node)
    return [found[number] for number in numbers]


def _opened(file: Any, path: str) -> Any:
    """Return what is at a path, or in words why it cannot be opened."""
    try:
        return open_member(h5g.open(file.id, b"/"), path)
    except DAMAGE as error:
        return str(error)
