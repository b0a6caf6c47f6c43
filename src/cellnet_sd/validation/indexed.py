"""What the index of a file tells without another look at its values: defects, gaps, names, places, slides."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.cellindex import CellIndex, Rows
from cellnet_sd.components import expression
from cellnet_sd.components.attribute_columns import OBSM
from cellnet_sd.errors import LayoutError
from cellnet_sd.keys import SPATIAL
from cellnet_sd.layout import ATTRIBUTES, CELL_DIAMETER, LABELS, POSITION_IN_WSI, Component
from cellnet_sd.sources.base import Source
from cellnet_sd.table import described
from cellnet_sd.validation.tally import Tally

SKIP: Final = "Leave such cells out with on_error='skip'."
_NO_CIRCLE: Final = "Such cells are read, but get no circle."
_SHOWN: Final = 5


def check_index(source: Source, tally: Tally) -> None:
    """Count what the index tells."""
    index = source.index
    tally.add_problems(index.defects, SKIP)
    _untold(index, tally)
    _profiles(index, tally)
    _absent(index, tally)
    _names(index, tally)
    _attributes(index, tally)
    _places(index, tally)
    _slides(index, tally)
    _genes(source, tally)
    _unknown(index, tally)


def describe(index: CellIndex, tally: Tally) -> None:
    """Add what the file was taken to be."""
    findings = index.findings
    n_slides = len(findings.slides)
    size = f"{len(index):,} cells, {findings.n_genes:,} genes, {n_slides:,} slide{'s' if n_slides > 1 else ''}"
    present = ", ".join(f"{component} in {index.has(component).sum():,}" for component in Component)
    tally.note("info", "file", f"{size}; {present}")
    for sentence in described(index):
        tally.note("info", "file", sentence)


# --- defects and gaps ------------------------------------------------------------------------------------------------


def _untold(index: CellIndex, tally: Tally) -> None:
    """Count the components that cannot be told; mixed expression is counted cell by cell instead."""
    for component, message in index.findings.errors.items():
        if component is not Component.EXPRESSION:
            reason, advice = message.removeprefix(f"{index.path}: "), f"It is stored as {_forms(index, component)}."
            tally.add("error", component, reason, tally.sound(component), advice)


def _forms(index: CellIndex, component: Component) -> str:
    """Return in words how a component is stored in how many cells, the commonest first, with an example of each."""
    column = index.forms[component]
    counts = column.counts().most_common()
    described = []
    for form, count in counts[:_SHOWN]:
        example = index.names.iloc[int(np.argmax(column.codes == column.forms.index(form)))]
        described.append(f"{form.describe()} in {count:,} ({example}{', …' if count > 1 else ''})")
    return "; ".join(described) + (f"; and {len(counts) - _SHOWN:,} more forms" if len(counts) > _SHOWN else "")


def _profiles(index: CellIndex, tally: Tally) -> None:
    rows = np.flatnonzero(~tally.spoilt(Component.EXPRESSION)).astype(np.int64)
    column = index.forms[Component.EXPRESSION]
    tally.add_problems(expression.misfits(column, rows, index.findings.n_genes), SKIP)


def _absent(index: CellIndex, tally: Tally) -> None:
    """Count the cells that lack what others have; a missing profile is an error, and counted as such."""
    for component in Component:
        has = index.has(component)
        if component is not Component.EXPRESSION and has.any():
            lacking = np.flatnonzero(~has & ~tally.spoilt(component))
            tally.add("warning", component, "missing, while other cells have one", lacking)


def _names(index: CellIndex, tally: Tally) -> None:
    twice = np.flatnonzero(index.names.duplicated(keep=False))
    advice = "They are read as {slide}/{name}."
    tally.add("warning", "name", "the name of the cell is also another's", twice, advice)


def _unknown(index: CellIndex, tally: Tally) -> None:
    if not index.unknown:
        return
    counts = sorted(index.unknown.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name!r} ({count:,})" for name, count in counts[:_SHOWN])
    more = f" and {len(counts) - _SHOWN:,} more" if len(counts) > _SHOWN else ""
    tally.note("warning", "file", f"objects that are no part of the layout are not read: {named}{more}")


# --- attributes and places -------------------------------------------------------------------------------------------


def _attributes(index: CellIndex, tally: Tally) -> None:
    """Count the cells whose attributes lack one of the published nine, or have no use for a circle."""
    rows = tally.sound(Component.ATTRIBUTES)
    nowhere = []
    for name in ATTRIBUTES:
        missing = _missing(index, name)[rows]
        if missing.all():
            nowhere.append(name)
        else:
            reason = f"{name} is missing" if name in LABELS else f"{name} is missing or not finite"
            advice = _NO_CIRCLE if name in (CELL_DIAMETER, POSITION_IN_WSI) else ""
            tally.add("warning", Component.ATTRIBUTES, reason, rows[missing], advice)
    if nowhere and len(rows):
        tally.add("warning", Component.ATTRIBUTES, f"no cell has {', '.join(nowhere)}", rows)
    if CELL_DIAMETER in index.obs:
        negative = rows[(index.obs[CELL_DIAMETER].to_numpy(dtype=float) <= 0)[rows]]
        tally.add("warning", Component.ATTRIBUTES, f"{CELL_DIAMETER} is not positive", negative, _NO_CIRCLE)


def _missing(index: CellIndex, name: str) -> NDArray[np.bool_]:
    """Return which cells lack a published attribute, (n_cells,); infinite numbers are no use either."""
    if name in OBSM:
        positions = index.obsm.get(OBSM[name])
        return np.ones(len(index), dtype=bool) if positions is None else ~np.isfinite(positions).all(axis=1)
    if name not in index.obs:
        return np.ones(len(index), dtype=bool)
    values = index.obs[name]
    return ~np.isfinite(values.to_numpy(dtype=float)) if name == CELL_DIAMETER else values.isna().to_numpy()


def _places(index: CellIndex, tally: Tally) -> None:
    positions = index.obsm.get(SPATIAL)
    if positions is None:
        return
    rows = np.flatnonzero(np.isfinite(positions).all(axis=1))
    x, y = positions[rows].T
    spots = pd.DataFrame({"slide": index.slides[rows], "x": x, "y": y})
    twins = rows[spots.duplicated(keep=False)]
    reason = f"another cell of its slide has the same {POSITION_IN_WSI}"
    tally.add("warning", Component.ATTRIBUTES, reason, twins, "See whether cells are stored twice.")


# --- slides and genes ------------------------------------------------------------------------------------------------


def _slides(index: CellIndex, tally: Tally) -> None:
    for component, reason, rows, advice in _slide_gaps(index):
        tally.add("warning", component, reason, rows, advice)


def _slide_gaps(index: CellIndex) -> Iterator[tuple[str, str, Rows, str]]:
    """Yield what is not known of each slide."""
    for slide, rows in zip(index.findings.slides, index.rows_of_slides(), strict=True):
        if slide.mpp is None:
            reason = f"slide {slide.name!r}: µm per pixel not known ({slide.mpp_words})"
            yield (
                "slide",
                reason,
                rows,
                "Pass mpp=. Without it the reach of CCC is not checked and circles are sized by spacing.",
            )
        if slide.wsi_row is not None and slide.wsi_scale is None:
            advice = "Pass wsi_scale=. Without it the image lies in a coordinate system of its own."
            yield Component.WSI_PATCH, f"slide {slide.name!r}: {slide.wsi_words}", rows, advice


def _genes(source: Source, tally: Tally) -> None:
    try:
        genes = source.genes
    except LayoutError as error:
        tally.note("error", "genes", str(error).removeprefix(f"{source.path}: "))
        return
    if genes is None:
        if source.index.findings.n_genes:
            tally.note("warning", "genes", "they are named nowhere: gene_0, gene_1, …", "Pass gene_list=.")
        return
    names = pd.Series(genes.names, dtype="str")
    twice = names[names.duplicated()].unique()
    if len(twice):
        shown = ", ".join(map(repr, twice[:_SHOWN])) + (", …" if len(twice) > _SHOWN else "")
        advice = "They are made unique by -1, -2, …"
        tally.note("warning", "genes", f"{len(twice):,} gene names occur more than once: {shown}", advice)
