"""`obsp`: cell-cell communication among the cells that are read."""

import math
from typing import TYPE_CHECKING, get_args

import numpy as np

from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.components import ccc
from cellnet_sd.components.ccc import CCCContext, CCCLayout, CCCLayoutName, CCCLinks
from cellnet_sd.errors import LayoutError
from cellnet_sd.layout import CCC_LAYOUT_KEY, CCC_REACH_UM, PAIR_KEYS, Component
from cellnet_sd.matrix import batches
from cellnet_sd.notes import Notes
from cellnet_sd.problems import Problems
from cellnet_sd.sources.base import Source

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_SPARSE_BYTES = 2**14
"""What CCC of a cell is taken to need where its form does not tell."""
_FLOAT_BYTES = 8


def ccc_context(source: Source) -> CCCContext:
    """Return what decoding CCC needs to know of the file."""
    index = source.index
    return CCCContext(
        n_file=len(index),
        slide_of_row=index.slides,
        rows_of_slide=index.rows_of_slides(),
        names=index.names.tolist,
        pair_names=_pair_names(index),
        override=source.choices.ccc_layout or _stated_layout(index),
        file=str(source.path),
    )


def _stated_layout(index: CellIndex) -> CCCLayoutName | None:
    """Return the layout that the root states, as `write` does."""
    stated = index.stated[""].values.get(CCC_LAYOUT_KEY)
    names = stated[:1] if isinstance(stated, list) else []
    return next((known for known in get_args(CCCLayoutName) if known in names), None)


def _pair_names(index: CellIndex) -> tuple[str, ...] | None:
    """Return the names of pairs that the root or a container states; they must all state the same."""
    stated = [where.values[key] for where in index.stated.values() for key in PAIR_KEYS if key in where.values]
    lists = {tuple(names) for names in stated if isinstance(names, list)}
    if len(lists) > 1:
        msg = f"{index.path}: its groups state {len(lists)} different lists of ligand-receptor pairs. Pass ccc=False."
        raise LayoutError(msg)
    return next(iter(lists), None)


def read_links(source: Source, rows: Rows, problems: Problems) -> CCCLinks | None:
    """Return the links that the cells at `rows` store; `None` if the file has no CCC.

    Malformed cells are reported to `problems` and have no links.
    """
    layout = source.index.findings.ccc
    if not source.index.has(Component.CCC, rows).any():
        return None
    rows = _readable(source, rows, problems)
    context = ccc_context(source)
    if not len(rows):
        return ccc.decode([], rows, layout, context, problems)
    found = batches(rows, _bytes_per_cell(source), "Reading CCC")
    return ccc.concat([links_of_batch(source, batch, layout, context, problems) for batch in found])


def _readable(source: Source, rows: Rows, problems: Problems) -> Rows:
    """Report the cells whose CCC is known to be unreadable before any is decoded, and return the others."""
    located = source.index.load_located(Component.CCC) if source.access.engine != "h5py" else None
    if located is None or not (reasons := located.unreadable_members(np.asarray(rows, np.int64))):
        return rows
    for row, reason in reasons.items():
        problems.report(row, Component.CCC, reason)
    return rows[~np.isin(rows, list(reasons))]


def links_of_batch(
    source: Source, rows: Rows, layout: CCCLayout | None, context: CCCContext, problems: Problems
) -> CCCLinks:
    """Return the links of a batch: of most cells at once where they are stored in the usual way, and of the others."""
    found: list[CCCLinks] = []
    if layout is not None and ccc.is_usual(layout):
        links, at = ccc.decode_compressed(source.fetch_compressed(Component.CCC, rows), rows, layout, context)
        found.append(links)
        rows = np.delete(rows, at)
    if len(rows):
        found.append(ccc.decode(source.fetch(Component.CCC, rows), rows, layout, context, problems))
    return found[0] if len(found) == 1 else ccc.concat(found)


def _bytes_per_cell(source: Source) -> int:
    forms = source.index.forms[Component.CCC].forms
    dense = (math.prod(form.shape) * _FLOAT_BYTES for form in forms if form.kind == "dataset" and form.shape)
    return max(_SPARSE_BYTES, *dense, 0)


def annotate(
    adata: "AnnData", source: Source, links: CCCLinks, rows: Rows, *, pairs: bool, genes: "pd.Index", notes: Notes
) -> None:
    """Write the links among the cells at `rows` to their table, and note what was left out.

    Parameters
    ----------
    adata, rows
        The table, and the rows of its cells in the file.
    source, links
        The file, and what was decoded of it.
    pairs
        Whether to write a matrix for each ligand-receptor pair too.
    genes
        Names of all genes of the file: pairs are split into ligand and receptor by them.
    notes
        Where links that were left out are counted.
    """
    scales = {slide.mpp for slide in source.index.findings.slides}
    mpp = scales.pop() if len(scales) == 1 else None
    reach = None if mpp is None else CCC_REACH_UM / mpp
    found = ccc.annotate(adata, ccc.select(links, rows, pairs=pairs), genes=genes, distance_threshold=reach)
    note_links(found, links.n_inexact, notes)


def note_links(found: ccc.CCCNotes, n_inexact: int, notes: Notes) -> None:
    """Note what was left out of the CCC that was written to a table, and how many values were rounded."""
    if found.n_dropped:
        notes.take(f"{found.n_dropped:,} CCC links to cells left out were dropped")
    if found.unsplit:
        notes.take(f"{len(found.unsplit):,} CCC pairs are not a ligand and a receptor among the genes: left unsplit")
    if found.n_unstored:
        notes.warn_of(f"{found.n_unstored:,} CCC links are stored only with another cell than their sender: left out")
    if n_inexact:
        notes.warn_of(f"{n_inexact:,} CCC values were rounded: they are stored with more digits")
