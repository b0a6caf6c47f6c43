"""Figures that squidpy and spatialdata-plot do not have: cells as cards, and what a file is made of.

Each function returns a matplotlib `Figure`. In a notebook the figure shows when it is a cell's last expression;
elsewhere save it with `figure.savefig("cells.png")`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cellnet_sd import keys

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from cellnet_sd.handle import CellNetFile

__all__ = ["composition", "gallery"]


def gallery(
    obj: "SpatialData | AnnData | CellNetFile | str | Path",
    *,
    cells: "Sequence[str] | Sequence[int] | NDArray[Any] | slice | None" = None,
    n: int = 6,
    levels: Sequence[Literal["cell", "tissue", "wsi"]] = ("cell", "tissue", "wsi"),
    genes: Sequence[str] | None = None,
    n_genes: int = 6,
    label: str = "cell_type",
    n_columns: int | None = None,
    seed: int = 0,
    source: str | Path | None = None,
    table: str = keys.TABLE,
) -> "Figure":
    """Draw cells as cards: patches at each scale, most expressed genes, attributes and caption.

    On the tissue patch, the circle is the cell (its diameter) and the dashed box is the cell patch, drawn where it is
    the centre of the tissue patch to the pixel. On the slide, the ring is the cell's place.

    Parameters
    ----------
    obj
        A SpatialData or AnnData that `read` gave, or anything made from it; an open file; or a path.
    cells
        Which cells: names, row numbers, a slice of rows or a boolean mask. By default `n` at random, with as many
        different labels among them as possible.
    n
        How many cells, unless `cells` says which.
    levels
        Which patches.
    genes
        Genes to show; by default the `n_genes` that the cell expresses most.
    n_genes
        How many genes to show, unless `genes` says which; 0 for none.
    label
        Column of `obs` in a card's title.
    n_columns
        Cards side by side; by default 2, or 1 for a single cell.
    seed
        Determines the random choice.
    source
        Where the file the cells came from is now, if it was moved.
    table
        Name of the table of a SpatialData.

    Returns
    -------
    matplotlib.figure.Figure
        One card per cell, row by row.

    Raises
    ------
    SelectionError
        If a cell, gene or column of `obs` is not there.
    SourceMovedError
        If the file that holds the patches is gone.
    ValueError
        If there is no such level, or nothing to draw.
    """
    from cellnet_sd.drawing.gallery import Contents, draw_gallery

    contents = Contents((levels,) if isinstance(levels, str) else tuple(levels), genes, n_genes, label)
    return draw_gallery(obj, contents, cells=cells, n=n, n_columns=n_columns, seed=seed, source=source, table=table)


def composition(
    obj: "SpatialData | AnnData | CellNetFile | str | Path",
    *,
    by: str = keys.SLIDE,
    label: str = "cell_type",
    others: Sequence[str] | None = None,
    table: str = keys.TABLE,
) -> "Figure":
    """Draw what cells there are: how many of each type on each slide, and how many of each other label.

    Parameters
    ----------
    obj
        A SpatialData or AnnData, an open file, or a path.
    by
        Column of `obs` with a bar for each value.
    label
        Column of `obs` that the bars are divided by.
    others
        Further columns of `obs` to count, a panel each; by default the attributes of Cell-NET that are labels. Those
        with one value throughout are written in a line instead.
    table
        Name of the table of a SpatialData.

    Returns
    -------
    matplotlib.figure.Figure
        The bars first, then a panel for each of `others` that has several values.

    Raises
    ------
    SelectionError
        If there is no such column.
    """
    from cellnet_sd.drawing.composition import draw_composition

    return draw_composition(obj, by=by, label=label, others=others, table=table)
