"""What a figure is about: the same few things, whether cells come as SpatialData, AnnData, a file or its path."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.drawing.style import is_known
from cellnet_sd.errors import LayoutError, SelectionError
from cellnet_sd.handle import CellNetFile, open_file
from cellnet_sd.notes import provenance, table_in
from cellnet_sd.patch_lookup import patches
from cellnet_sd.sources.paths import is_path

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

Drawable = "SpatialData | AnnData | CellNetFile | str | Path"
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Subject:
    """Cells to be drawn.

    Parameters
    ----------
    obj
        What was passed: SpatialData, AnnData or `CellNetFile`.
    holder
        The AnnData or `CellNetFile` with the cells.
    source
        Where the file the cells came from is now, if it was moved.
    table
        Name of the table of a SpatialData.
    """

    obj: Any
    holder: "AnnData | CellNetFile"
    source: str | Path | None = None
    table: str = keys.TABLE

    @property
    def obs(self) -> "pd.DataFrame":
        """One row per cell."""
        return self.holder.obs

    def require(self, columns: Sequence[str]) -> None:
        """See that `obs` has some columns.

        Raises
        ------
        SelectionError
            If one is not there.
        """
        for name in columns:
            if name not in self.obs:
                msg = f"obs has no column {name!r}; it has {', '.join(map(str, self.obs.columns))}."
                raise SelectionError(msg)

    def rows(self, cells: Sequence[str] | Sequence[int] | NDArray[Any] | slice) -> Rows:
        """Return the rows of cells given by name, number, mask or a slice of rows.

        Raises
        ------
        SelectionError
            If a cell is not there, or a mask is not of all cells.
        """
        if isinstance(cells, slice):
            return np.arange(len(self.obs), dtype=np.int64)[cells]
        asked = np.asarray([cells] if isinstance(cells, str) else cells)
        if asked.dtype == bool:
            if asked.shape != (len(self.obs),):
                msg = f"cells= is a mask of {asked.size:,}, there are {len(self.obs):,} cells."
                raise SelectionError(msg)
            return np.flatnonzero(asked).astype(np.int64)
        numbers = asked.astype(np.int64) if asked.dtype.kind in "iu" else self.obs.index.get_indexer(asked.tolist())
        outside = (numbers < 0) | (numbers >= len(self.obs))
        if outside.any():
            msg = f"cells={asked[outside].tolist()[0]!r} is not among the {len(self.obs):,} cells."
            raise SelectionError(msg)
        return numbers

    def captions(self, rows: Rows) -> list[str]:
        """Return the captions; `""` where there is none."""
        if isinstance(self.holder, CellNetFile):
            column = self.holder.captions.iloc[rows]
        elif keys.CAPTION in self.obs:
            column = self.obs[keys.CAPTION].iloc[rows]
        else:
            return [""] * len(rows)
        return column.fillna("").astype(str).tolist()

    @cached_property
    def genes(self) -> list[str]:
        """Names of the genes."""
        return [str(name) for name in self.holder.var_names]

    def profiles(self, rows: Rows) -> NDArray[np.float32]:
        """Return expression, float32 (n, n_genes); no column where there is none."""
        if isinstance(self.holder, CellNetFile):
            return self.holder.expression[rows].toarray()
        if self.holder.X is None:
            return np.zeros((len(rows), 0), np.float32)
        # in ascending order: a backed X takes no other
        order = np.argsort(rows, kind="stable")
        block = self.holder[rows[order]].to_memory().X
        dense = block.toarray() if hasattr(block, "toarray") else np.asarray(block)
        return np.asarray(dense[np.argsort(order)], dtype=np.float32)

    def patches(self, level: str, rows: Rows) -> NDArray[Any] | None:
        """Return patches, (n, y, x, c); `None` if there are none of this level."""
        try:
            if isinstance(self.holder, CellNetFile):
                lazy = self.holder.patches(level)  # type: ignore[arg-type]
            else:
                lazy = patches(self.obj, level, source=self.source, table=self.table)
        except LayoutError:
            return None
        return np.asarray(lazy[rows].values)

    def positions(self, rows: Rows) -> NDArray[np.float64]:
        """Return positions in slide pixels, (n, 2); NaN where unknown."""
        if keys.SPATIAL not in self.holder.obsm:
            return np.full((len(rows), 2), np.nan)
        return np.asarray(self.holder.obsm[keys.SPATIAL], dtype=np.float64)[rows]

    def wsi_scales(self) -> dict[str, float | None]:
        """Return slide pixels per pixel of the WSI image, by slide."""
        if isinstance(self.holder, CellNetFile):
            scales = self.holder.slides["wsi_scale"]
            return {str(slide): None if math.isnan(scale) else scale for slide, scale in scales.astype(float).items()}
        found: dict[str, float | None] = provenance(self.holder, "wsi_scale")
        return found


def subject(obj: Any, *, source: str | Path | None = None, table: str = keys.TABLE) -> Subject:
    """Return what `obj` is about.

    Raises
    ------
    TypeError
        If it is none of SpatialData, AnnData, `CellNetFile` and a path.
    LayoutError
        If a SpatialData has no such table.
    """
    if is_path(obj):
        obj = open_file(obj)
    holder = table_in(obj, table) if hasattr(obj, "tables") else obj
    if not isinstance(holder, CellNetFile) and not hasattr(holder, "obs"):
        msg = f"{type(obj).__name__} is none of SpatialData, AnnData, CellNetFile and a path."
        raise TypeError(msg)
    return Subject(obj, holder, source, table)


def diverse_rows(labels: "pd.Series | None", n_cells: int, n: int, seed: int) -> Rows:
    """Return `n` random rows, as many different labels among them as there can be; equal labels side by side."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(n_cells)
    if labels is None:
        return np.sort(shuffled[:n])
    shown = labels.astype(str).to_numpy()[shuffled]
    turn = np.empty(n_cells, dtype=np.int64)
    for label in np.unique(shown):
        here = np.flatnonzero(shown == label)
        turn[here] = np.arange(len(here)) + (0 if is_known(label) else n_cells)
    chosen = np.argsort(turn, kind="stable")[:n]
    order = np.lexsort((shuffled[chosen], shown[chosen]))
    return shuffled[chosen][order]
