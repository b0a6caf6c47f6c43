"""Opening a source: its index is loaded, or built and saved, and the caller's choices are applied to it."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cellnet_sd import indexfile
from cellnet_sd.cellindex import CellIndex, from_facts, reordered, with_slides
from cellnet_sd.detection import detect
from cellnet_sd.errors import FileBusyError, LayoutError, NoIndexError, TooManyKeysError
from cellnet_sd.findings import Choices
from cellnet_sd.identity import Identity
from cellnet_sd.indexfile import index_paths
from cellnet_sd.layout import CELL_MARKERS, Component
from cellnet_sd.settings import settings
from cellnet_sd.sources.access import Access, Engine
from cellnet_sd.sources.facts import Facts, ScanFinding
from cellnet_sd.sources.hdf5 import Hdf5Source, check_unmoved
from cellnet_sd.sources.hdf5_objects import check_is_hdf5, load_plugins, open_file
from cellnet_sd.sources.hdf5_scan import scan
from cellnet_sd.sources.partial import PartStore, parts_of
from cellnet_sd.sources.paths import is_remote, source_path
from cellnet_sd.workers import Threads, Workers

if TYPE_CHECKING:
    from upath import UPath


def open_source(
    path: "str | Path | UPath",
    choices: Choices | None = None,
    *,
    index: bool | None = None,
    engine: Engine | None = None,
    n_threads: int | None = None,
    workers: Workers | None = None,
) -> Hdf5Source:
    """Open a Cell-NET file: load its index, or build and save it; that of a remote file must be there.

    Parameters
    ----------
    path
        The file, or its URL.
    choices
        What the caller says of the file.
    index
        Whether to save the index if there is none; `None` leaves it to `settings.index`.
    engine, n_threads
        How to read it; `None` leaves it to the settings.
    workers
        Who scans the file if there is no index: threads of this process for `None`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    NoIndexError
        If a remote file has no index.
    CellNetError
        If it is no Cell-NET file, or cannot be trusted.
    """
    path = source_path(path)
    choices = choices or Choices()
    access = Access.of(engine, n_threads)
    if not is_remote(path):
        check_is_hdf5(path)
    load_plugins()
    identity = Identity.of(path)
    base = indexfile.load(path, identity)
    if base is None or not _serves(base, access):
        is_saved = settings.index if index is None else index
        base = _built(path, identity, access, workers or Threads(access.n_threads), is_saved=is_saved)
    return Hdf5Source(path, _chosen(base, choices, identity, access), choices, identity, access)


def _built(path: Path, identity: Identity, access: Access, workers: Workers, *, is_saved: bool) -> CellIndex:
    """Return the index of a file that has none, and save it if it is to be."""
    if is_remote(path):
        raise NoIndexError(_no_index(path))
    with parts_of(path, identity, is_kept=is_saved) as parts:
        index = _build(path, identity, access, parts, workers)
        if is_saved:
            indexfile.save(index, identity)
    return index


def _no_index(path: Path) -> str:
    """Say what a remote file lacks, and how to make it."""
    beside, own = index_paths(path)
    return (
        f"{path} has no index, which tells where its bytes are: {beside} is not there, or is of another state of the "
        "file, of another version of cellnet_sd, or made by engine='h5py'. Where the file is, or a copy of it, run "
        f"`cellnet-sd index FILE`; put FILE{indexfile.SUFFIX} beside the remote file, or keep it here as {own}."
    )


def _serves(index: CellIndex, access: Access) -> bool:
    """Whether an index has what an engine needs: one that h5py made says nothing of where bytes are."""
    scan = index.findings.scan
    return access.engine == "h5py" or scan.engine == "native" or (access.engine == "auto" and bool(scan.why))


def _scanned(path: Path, access: Access, parts: PartStore | None, workers: Workers) -> Facts:
    """Return the facts of a file, by the engine asked for."""
    if access.engine == "h5py":
        return scan(path)
    from cellnet_sd.sources.native_facts import NotNativeError, scan_natively

    try:
        return scan_natively(path, workers=workers, parts=parts)
    except NotNativeError as error:
        if access.engine == "native":
            msg = f"{path} cannot be read natively: {error}. Pass engine='auto'."
            raise LayoutError(msg) from error
        from cellnet_sd.sources.guarded import in_child

        in_child("walk", path, [])  # nothing is known of its structure: see first whether libhdf5 survives it
        return replace(scan(path), scan=ScanFinding(why=str(error)))


def _build(path: Path, identity: Identity, access: Access, parts: PartStore | None, workers: Workers) -> CellIndex:
    try:
        facts = _scanned(path, access, parts, workers)
    except TooManyKeysError as error:
        msg = f"{path}: {Component.ATTRIBUTES} of its cells: {error}."
        raise TooManyKeysError(msg) from error
    if not len(facts):
        markers = " or ".join(repr(str(marker)) for marker in CELL_MARKERS)
        msg = f"{path} holds no cells: no group in it has {markers}. {_guess(path)}"
        raise LayoutError(msg)
    index = detect(Hdf5Source(path, from_facts(path, facts), Choices(), identity, access))
    if Identity.of(path) != identity:
        msg = f"{path} changed while it was indexed. Wait until its writer is done."
        raise FileBusyError(msg)
    return index


def _guess(path: Path) -> str:
    """Say what a file without cells looks like."""
    try:
        with open_file(path) as file:
            names = set(file)
    except (KeyError, OSError, RuntimeError, ValueError):  # whatever libhdf5 makes of a damaged root
        return "What it holds cannot be listed."
    if {"obs", "var"} <= names:
        return (
            "It looks like an AnnData file: read it with cellnet_sd.open_store if convert wrote it, else with "
            "anndata.read_h5ad."
        )
    if "matrix" in names:
        return "It looks like a 10x matrix: read it with scanpy.read_10x_h5."
    return f"At its root are {', '.join(sorted(names)[:5])}." if names else "It is an HDF5 file with nothing in it."


def _chosen(index: CellIndex, choices: Choices, identity: Identity, access: Access) -> CellIndex:
    """Return the index with the caller's choices applied; what depends on them is looked at again, in memory."""
    if choices == Choices():
        return index
    if choices.cell_order is not None and choices.cell_order != index.findings.order:
        index = reordered(index, choices.cell_order)
    index = with_slides(index, choices.slide_key)
    return detect(Hdf5Source(index.path, index, choices, identity, access))


@lru_cache(maxsize=8)
def reopen(path: Path, choices: Choices, identity: Identity, access: Access) -> Hdf5Source:
    """Open a source in another process, once, in the state it was in.

    Raises
    ------
    SourceMovedError
        If the file is gone, or has changed.
    """
    check_unmoved(path, identity)
    # whether to keep an index was settled when it was first opened
    return open_source(path, choices, index=False, engine=access.engine, n_threads=access.n_threads)
