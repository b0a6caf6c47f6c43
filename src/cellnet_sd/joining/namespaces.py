"""What slides, cells and genes of several files are called where they are together, settled on the indexes alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.errors import LayoutError, SelectionError
from cellnet_sd.matrix import GeneColumns, gene_table
from cellnet_sd.naming import legal_names
from cellnet_sd.notes import Notes
from cellnet_sd.selection import (
    Cells,
    NothingLeftError,
    find_names,
    listed,
    select_genes,
    select_rows,
    slide_codes,
)
from cellnet_sd.slides import legal_slide_names
from cellnet_sd.sources.base import Source
from cellnet_sd.sources.hdf5 import Hdf5Source
from cellnet_sd.sources.paths import file_name
from cellnet_sd.table import Panel, gene_ids

_SHOWN = 3


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Return a short legal name for each file: its stem, numbered where stems are the same."""
    return legal_names([Path(file_name(path)).stem for path in paths])


def files_words(paths: Sequence[Path]) -> str:
    """Return what messages call several files."""
    shown = ", ".join(str(path) for path in paths[:_SHOWN])
    return shown if len(paths) <= _SHOWN else f"{shown} and {len(paths) - _SHOWN:,} more"


# --- slides ----------------------------------------------------------------------------------------------------------


def with_one_namespace(sources: Sequence[Hdf5Source], labels: Sequence[str]) -> list[Hdf5Source]:
    """Return the sources, their slides named apart: names that clash get the file's label before them."""
    own = [source.index.slide_names() for source in sources]
    folded = pd.Series([name.lower() for names in own for name in names])
    clashing = set(folded[folded.duplicated(keep=False)])
    wanted = [
        f"{label}_{name}" if name.lower() in clashing else name
        for label, names in zip(labels, own, strict=True)
        for name in names
    ]
    found = iter(legal_slide_names(wanted, "slide"))
    renamed = [[next(found) for _ in names] for names in own]
    return [source.with_slide_names(names) for source, names in zip(sources, renamed, strict=True)]


# --- cells -----------------------------------------------------------------------------------------------------------


def rows_of_files(
    sources: Sequence[Source],
    notes: Notes,
    *,
    where: str | None,
    cells: Cells | None,
    slides: Sequence[str] | None,
) -> list[Rows]:
    """Return which rows of each file satisfy all that is asked; none of a file that has none of the names.

    Parameters
    ----------
    sources
        The files.
    notes
        Where files are named that `where` cannot be asked of.
    where, cells, slides
        As in `select_rows`, but cells are named.

    Raises
    ------
    SelectionError
        If a name is in no file, or nothing is left.
    """
    indexes = [source.index for source in sources]
    asked_cells = None if cells is None else _named(cells)
    asked_slides = None if slides is None else listed(slides)
    known_cells = [None if asked_cells is None else _known_cells(index, asked_cells) for index in indexes]
    known_slides = [None if asked_slides is None else _known_slides(index, asked_slides) for index in indexes]
    words = files_words([index.path for index in indexes])
    _check_known("cell", asked_cells, known_cells, words)
    _check_known("slide", asked_slides, known_slides, words)
    found: list[Rows] = []
    reasons: list[SelectionError] = []
    for index, own_cells, own_slides in zip(indexes, known_cells, known_slides, strict=True):
        try:
            rows = select_rows(index, where=where, cells=own_cells, slides=own_slides)
        except SelectionError as error:
            rows = np.empty(0, np.int64)
            reasons.append(error)
        found.append(np.arange(len(index)) if rows is None else rows)
    if not any(map(len, found)):
        raise reasons[0]
    odd = (reason for reason in reasons if not isinstance(reason, NothingLeftError))
    notes.warn_of(*(f"no cell is taken of a file: {reason}" for reason in odd))
    return found


def _named(cells: Cells) -> list[str]:
    asked = np.atleast_1d(np.asarray(cells))
    if asked.dtype.kind not in "OUST":
        msg = f"cells= of several files are asked for by name, not by {asked.dtype}: rows are counted file by file."
        raise SelectionError(msg)
    return [str(cell) for cell in asked.tolist()]


def _known_cells(index: CellIndex, cells: Sequence[str]) -> list[str]:
    return [cell for cell, row in zip(cells, find_names(index, cells), strict=True) if row >= 0]


def _known_slides(index: CellIndex, slides: Sequence[str]) -> list[str]:
    known = slide_codes(index)
    return [slide for slide in slides if slide in known]


def _check_known(what: str, asked: Sequence[str] | None, known: Sequence[Sequence[str] | None], files: str) -> None:
    somewhere = {name for names in known for name in names or ()}
    unknown = [name for name in asked or () if name not in somewhere]
    if unknown:
        msg = f"No {what} {unknown[0]!r} in any of {files}, or several of that name in one of them."
        raise SelectionError(msg)


def cell_names(parts: Sequence[tuple[CellIndex, Rows]]) -> list[pd.Index]:
    """Return the names of the cells of each file in an object that holds all of them.

    The bare group name where it is unique in the object, `{slide}/{name}` for those that clash.
    """
    bare = pd.concat([index.names.iloc[rows] for index, rows in parts], ignore_index=True)
    ends = np.cumsum([len(rows) for _, rows in parts])[:-1]
    clashing = np.split(bare.duplicated(keep=False).to_numpy(), ends)
    names = [index.obs_names(rows, own) for (index, rows), own in zip(parts, clashing, strict=True)]
    still = np.split(pd.Index(np.concatenate(names)).duplicated(keep=False), ends)
    return [
        _with_slides(index, rows, own, clash) if clash.any() else own
        for (index, rows), own, clash in zip(parts, names, still, strict=True)
    ]


def _with_slides(index: CellIndex, rows: Rows, names: pd.Index, clashing: NDArray[np.bool_]) -> pd.Index:
    """Put the slide before the paths of cells that have the same path in another file."""
    slides = np.array(index.slide_names(), dtype=object)[index.slides[rows]]
    full = names.to_numpy(dtype=object).copy()
    full[clashing] = [
        f"{slide}/{name.lstrip('/')}" for slide, name in zip(slides[clashing], full[clashing], strict=True)
    ]
    return pd.Index(full, dtype="str")


# --- genes -----------------------------------------------------------------------------------------------------------


def panels_of(sources: Sequence[Source], genes: Sequence[str] | None, notes: Notes) -> list[Panel]:
    """Return the genes of the joined table, and which columns of it those of each file become.

    All genes of all files, in the order they first come, or those asked for, in that order. Genes are the same where
    their names, as made unique in each file, are.

    Raises
    ------
    LayoutError
        If a file does not name its genes.
    SelectionError
        If a gene that is asked for is in no file, or asked for twice.
    """
    for source in sources:
        if source.genes is None:
            msg = f"{source.path} names its genes nowhere: they cannot be joined with those of others. Pass gene_list=."
            raise LayoutError(msg)
    tables = [gene_table(source, notes) for source in sources]
    joined = _joined_genes(tables, notes)
    files = files_words([source.path for source in sources])
    chosen = select_genes(joined.index, genes, gene_ids(joined), files)
    var = joined if chosen is None else joined.iloc[chosen]
    return [Panel(var, _columns(var.index, table.index)) for table in tables]


def _joined_genes(tables: Sequence[pd.DataFrame], notes: Notes) -> pd.DataFrame:
    names = pd.Index(np.concatenate([table.index.to_numpy(dtype=object) for table in tables]), dtype="str").unique()
    joined = pd.DataFrame(index=names)
    for name in (keys.GENE_IDS, keys.FEATURE_TYPES):
        stated = [table[name].astype("str") for table in tables if name in table]
        if not stated:
            continue
        every = pd.concat(stated)
        differ = every.groupby(level=0).nunique() > 1
        if differ.any():
            notes.warn_of(f"{int(differ.sum()):,} genes have another {name} in another file: the first is kept")
        joined[name] = every[~every.index.duplicated()].reindex(names)
    if keys.FEATURE_TYPES in joined:
        joined[keys.FEATURE_TYPES] = joined[keys.FEATURE_TYPES].astype("category")
    return joined


def _columns(joined: pd.Index, own: pd.Index) -> GeneColumns:
    """Return which genes of a file are columns of the joined table, and which."""
    to = joined.get_indexer(own)
    taken = np.flatnonzero(to >= 0).astype(np.int64)
    if np.array_equal(to, np.arange(len(joined))):
        return GeneColumns(len(joined))
    return GeneColumns(len(joined), None if len(taken) == len(own) else taken, to[taken].astype(np.int32))


def measured(parts: Sequence[tuple[str, Any]], var: pd.DataFrame) -> pd.DataFrame:
    """Return which genes each file holds: bool, a column per file, by its label.

    Parameters
    ----------
    parts
        The label of each file, and the columns that its genes become.
    var
        The genes of the joined table.
    """
    found = pd.DataFrame(index=var.index)
    for label, columns in parts:
        holds = np.full(len(var), columns.to is None)
        if columns.to is not None:
            holds[columns.to] = True
        found[label] = holds
    return found
