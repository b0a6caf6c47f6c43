"""Opening a source: its index is loaded, or built and saved, and the caller's choices are applied to it."""

from functools import lru_cache
from pathlib import Path

from cellnet_sd import indexfile
from cellnet_sd.cellindex import CellIndex, from_facts, reordered, with_slides
from cellnet_sd.detection import detect
from cellnet_sd.errors import FileBusyError, LayoutError
from cellnet_sd.findings import Choices
from cellnet_sd.indexfile import Identity
from cellnet_sd.layout import CELL_MARKERS
from cellnet_sd.settings import settings
from cellnet_sd.sources.hdf5 import Hdf5Source, check_unmoved
from cellnet_sd.sources.hdf5_objects import check_is_hdf5, load_plugins, open_file
from cellnet_sd.sources.hdf5_scan import scan


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
    identity = Identity.of(path)
    base = indexfile.load(path, identity)
    if base is None:
        base = _build(path, identity)
        if settings.index if index is None else index:
            indexfile.save(base, identity)
    return Hdf5Source(path, _chosen(base, choices, identity), choices, identity)


def _build(path: Path, identity: Identity) -> CellIndex:
    facts = scan(path)
    if not len(facts):
        markers = " or ".join(repr(str(marker)) for marker in CELL_MARKERS)
        msg = f"{path} holds no cells: no group in it has {markers}. {_guess(path)}"
        raise LayoutError(msg)
    index = detect(Hdf5Source(path, from_facts(path, facts), Choices(), identity))
    if Identity.of(path) != identity:
        msg = f"{path} changed while it was indexed. Wait until its writer is done."
        raise FileBusyError(msg)
    return index


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
    """Return the index with the caller's choices applied; what depends on them is looked at again, in memory."""
    if choices == Choices():
        return index
    if choices.cell_order is not None and choices.cell_order != index.findings.order:
        index = reordered(index, choices.cell_order)
    index = with_slides(index, choices.slide_key)
    return detect(Hdf5Source(index.path, index, choices, identity))


@lru_cache(maxsize=8)
def reopen(path: Path, choices: Choices, identity: Identity) -> Hdf5Source:
    """Open a source in another process, once, in the state it was in.

    Raises
    ------
    SourceMovedError
        If the file is gone, or has changed.
    """
    check_unmoved(path, identity)
    return open_source(path, choices, index=False)  # whether to keep an index was settled when it was first opened
