"""Which cells and genes are asked for: settled on the index, before a byte of expression or image is read."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.errors import SelectionError

type Cells = str | int | slice | Sequence[str] | Sequence[int] | NDArray[Any] | pd.Index
_SHOWN = 5
_CANNOT_EVALUATE = (
    NameError, KeyError, SyntaxError, TokenError, TypeError, ValueError, AttributeError, NotImplementedError,
)  # fmt: skip


class NothingLeftError(SelectionError):
    """All that is asked for is known, and no cell is it."""


def select_rows(
    index: CellIndex, *, where: str | None = None, cells: Cells | None = None, slides: Sequence[str] | None = None
) -> Rows | None:
    """Return the rows of the cells that satisfy all that is asked; `None` if nothing is asked.

    Parameters
    ----------
    index
        The index of the file.
    where
        A pandas `DataFrame.query` expression on the attributes and `slide`.
    cells
        Names (as in `obs_names`, or bare where unique), row numbers, a slice of them, or a boolean mask; or one name
        or number. Names and numbers also settle the order; without them it is that of the file.
    slides
        Names of slides.

    Raises
    ------
    SelectionError
        If a name, number or column is not in the file, a cell is asked for twice, or nothing is left.
    """
    if where is None and cells is None and slides is None:
        return None
    rows = np.arange(len(index)) if cells is None else named_rows(index, cells)
    if slides is not None:
        rows = rows[_on_slides(index, slides)[rows]]
    if where is not None:
        rows = rows[_satisfying(index, where)[rows]]
    if not len(rows):
        asked = [f"{name}={value!r}" for name, value in (("where", where), ("slides", slides)) if value is not None]
        msg = f"{index.path}: no cell satisfies {' and '.join(asked) or 'cells='}."
        raise NothingLeftError(msg)
    return rows.astype(np.int64)


def _satisfying(index: CellIndex, where: str) -> NDArray[np.bool_]:
    frame = index.frame()
    try:
        mask = frame.eval(where, local_dict={}, global_dict={})  # `@name` would find names of this module
    except _CANNOT_EVALUATE as error:
        msg = f"{index.path}: where={where!r} {_why_not(where, error, frame.columns)} {_listed(frame.columns)}"
        raise SelectionError(msg) from error
    if not isinstance(mask, pd.Series) or len(mask) != len(frame) or not _is_yes_or_no(mask):
        msg = (
            f"{index.path}: where={where!r} does not say yes or no of each cell. Compare with ==, as in "
            f"where=\"slide == '{index.slide_names()[0]}'\". {_listed(frame.columns)}"
        )
        raise SelectionError(msg)
    return mask.fillna(False).to_numpy(dtype=bool)  # noqa: FBT003


def _is_yes_or_no(mask: pd.Series) -> bool:
    return bool(pd.api.types.is_bool_dtype(mask.fillna(False)))  # noqa: FBT003


def _listed(columns: pd.Index) -> str:
    return f"The columns are {', '.join(map(repr, columns))}."


def _why_not(where: str, error: Exception, columns: pd.Index) -> str:
    """Return why an expression cannot be evaluated; pandas calls a column in backticks by a name of its own."""
    unknown = [name for name in re.findall("`([^`]*)`", where) if name not in columns]
    if isinstance(error, NameError):
        unknown += re.findall("^name '((?!BACKTICK_QUOTED)[^']*)'", str(error))
        if unknown:
            return f"names no column {unknown[0]!r}.{_meant(unknown[0], columns)}"
    reason = error.args[0] if isinstance(error, TokenError) else error
    return f"cannot be evaluated ({reason})."


def _meant(name: str, known: Iterable[str]) -> str:
    """Return a question with the names that are spelled almost alike, to follow a sentence; `""` if there are none."""
    by_fold = {str(other).casefold(): str(other) for other in known}
    close = get_close_matches(name.casefold(), by_fold, n=3)
    return f" Did you mean {' or '.join(repr(by_fold[fold]) for fold in close)}?" if close else ""


def _on_slides(index: CellIndex, slides: Sequence[str]) -> NDArray[np.bool_]:
    slides, known = listed(slides), slide_codes(index)
    unknown = [slide for slide in slides if slide not in known]
    if unknown:
        msg = f"{index.path} has no slide {_some(unknown)}. Its slides are {_some(index.slide_names())}."
        raise SelectionError(msg)
    return np.isin(index.slides, [known[slide] for slide in slides])


def listed(names: str | Sequence[str]) -> list[str]:
    """Return names as a list, one name as a list of it."""
    return [names] if isinstance(names, str) else list(names)


def slide_codes(index: CellIndex) -> dict[str, int]:
    """Return the number of each slide, by the names it may be asked for by: its own, and that in the file."""
    known = {slide.original: code for code, slide in enumerate(index.findings.slides)}
    return known | {slide.name: code for code, slide in enumerate(index.findings.slides)}


def named_rows(index: CellIndex, cells: Cells) -> Rows:
    """Return the rows of `cells`, as `select_rows` takes them; they may be none.

    Raises
    ------
    SelectionError
        If a name or number is not in the file, or a cell is asked for twice.
    """
    array = np.arange(len(index))[cells] if isinstance(cells, slice) else np.atleast_1d(np.asarray(cells))
    if array.dtype == bool:
        if array.shape != (len(index),):
            msg = f"{index.path}: a mask of {array.size:,} is given, the file has {len(index):,} cells."
            raise SelectionError(msg)
        return np.flatnonzero(array)
    if array.dtype.kind in "iu":
        rows = _numbered_rows(index, array)
    elif not array.size:
        rows = np.empty(0, dtype=np.int64)
    elif array.dtype.kind in "OUST":
        rows = _rows_of_names(index, [str(cell) for cell in array.tolist()])
    else:
        msg = f"{index.path}: cells are asked for by names, row numbers or a mask, not by {array.dtype}."
        raise SelectionError(msg)
    if len(np.unique(rows)) < len(rows):
        msg = f"{index.path}: a cell is asked for twice."
        raise SelectionError(msg)
    return rows


def _numbered_rows(index: CellIndex, numbers: NDArray[Any]) -> Rows:
    rows = np.where(numbers < 0, numbers + len(index), numbers).astype(np.int64)
    outside = numbers[(rows < 0) | (rows >= len(index))]
    if len(outside):
        msg = f"{index.path}: row {outside[0]} is asked for, the file has {len(index):,} cells."
        raise SelectionError(msg)
    return rows


def find_names(index: CellIndex, cells: Sequence[str]) -> NDArray[np.intp]:
    """Return the row of each name, -1 where no cell, or more than one, is called that.

    A cell is called as in `obs_names`, or by its bare name, or `{slide}/{name}`.
    """
    rows = index.obs_names().get_indexer(pd.Index(cells))
    for names_of in (_bare, _with_slides):
        missing = np.flatnonzero(rows < 0)
        if not len(missing):
            break
        known = names_of(index)
        once = ~known.duplicated(keep=False)
        found = pd.Index(known[once]).get_indexer(pd.Index([cells[at] for at in missing.tolist()]))
        rows[missing] = np.where(found >= 0, np.flatnonzero(once)[found], -1) if once.any() else -1
    return rows


def _bare(index: CellIndex) -> pd.Index:
    return pd.Index(index.names)


def _with_slides(index: CellIndex) -> pd.Index:
    slides = np.array(index.slide_names(), dtype=object)[index.slides]
    return pd.Index(slides + "/" + index.names.to_numpy(dtype=object))


def _rows_of_names(index: CellIndex, cells: Sequence[str]) -> Rows:
    rows = find_names(index, cells)
    unknown = [cell for cell, row in zip(cells, rows, strict=True) if row < 0]
    if unknown:
        names = _some(index.obs_names()[:_SHOWN])
        msg = f"{index.path} has no cell {_some(unknown)}, or several of that name. Its cells are called {names}, …"
        raise SelectionError(msg)
    return rows.astype(np.int64)


def select_genes(
    names: pd.Index, genes: Sequence[str] | None, ids: Sequence[str] | None, file: str | Path = "The file"
) -> NDArray[np.int64] | None:
    """Return the columns of `genes`, by name or else by identifier, in the order asked; `None` for all.

    `file` is what errors call the file.

    Raises
    ------
    SelectionError
        If a gene is not in the file or is asked for twice.
    """
    if genes is None:
        return None
    genes = [genes] if isinstance(genes, str) else [str(gene) for gene in genes]
    columns = names.get_indexer(pd.Index(genes))
    if ids is not None and (columns < 0).any():
        by_id = pd.Index(ids)
        columns = np.where(
            (columns < 0) & by_id.is_unique, by_id.drop_duplicates().get_indexer(pd.Index(genes)), columns
        )
    unknown = [gene for gene, column in zip(genes, columns, strict=True) if column < 0]
    if unknown:
        begin = f"Its {len(names):,} genes begin with {_some(names[:_SHOWN])}."
        msg = f"{file} has no gene {_some(unknown)}.{_meant(unknown[0], names)} {begin}"
        raise SelectionError(msg)
    if len(set(columns.tolist())) < len(genes):
        msg = f"{file}: genes= asks for a gene twice."
        raise SelectionError(msg)
    return columns.astype(np.int64)


def _some(names: Sequence[str] | pd.Index) -> str:
    shown = ", ".join(repr(str(name)) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"
