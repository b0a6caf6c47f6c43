"""The open handle on a Cell-NET file: its cells as a table, and its components row by row."""

from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.communication import read_links
from cellnet_sd.components import ccc
from cellnet_sd.components.ccc.layouts import CCCLayoutName
from cellnet_sd.components.expression import ExpressionKind
from cellnet_sd.errors import LayoutError, SelectionError
from cellnet_sd.findings import Choices, absolute
from cellnet_sd.indexfile import saved_at
from cellnet_sd.matrix import gene_table, read_profiles
from cellnet_sd.patch_lookup import of_source
from cellnet_sd.problems import Problems
from cellnet_sd.rows import CellOrder
from cellnet_sd.selection import named_rows
from cellnet_sd.sources.access import Access, Engine
from cellnet_sd.sources.base import Source
from cellnet_sd.sources.opening import open_source
from cellnet_sd.sources.paths import require_local
from cellnet_sd.workers import workers_of

if TYPE_CHECKING:
    from distributed import Client
    from scipy.sparse import csr_matrix
    from upath import UPath
    from xarray import DataArray

Level = Literal["cell", "tissue", "wsi"]
_INDEXED: Final = (
    "all of a file is read to index it. Where the file is, run `cellnet-sd index FILE`, and put FILE.cnindex beside it."
)


class CellNetFile:
    """A Cell-NET file, open for reading rows of its components; what `cellnet_sd.open` returns.

    Holds no file handle between calls, so it can be pickled and used from several processes.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def path(self) -> Path:
        """The file; a `UPath` if it is remote."""
        return self._source.path

    def __len__(self) -> int:
        return len(self._source.index)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open between calls."""

    def __repr__(self) -> str:
        size = " × ".join((f"{len(self):,} cells", f"{self._source.index.findings.n_genes:,} genes"))
        return f"CellNetFile({str(self.path)!r}): {size}, slides {', '.join(self._source.index.slide_names()[:5])}"

    @cached_property
    def obs(self) -> pd.DataFrame:
        """One row per cell, in row order: `slide` and the attributes; the index is `obs_names`."""
        return self._source.index.frame()

    @cached_property
    def var_names(self) -> pd.Index:
        """Names of the genes, unique."""
        return gene_table(self._source).index

    @property
    def slides(self) -> pd.DataFrame:
        """One row per slide, by name: `n_cells`, `mpp` (µm per pixel) and `wsi_scale` (slide pixels per WSI pixel)."""
        found = self._source.index.findings.slides
        columns = {name: [getattr(slide, name) for slide in found] for name in ("n_cells", "mpp", "wsi_scale")}
        return pd.DataFrame(columns, index=pd.Index([slide.name for slide in found], name="slide"))

    @property
    def captions(self) -> pd.Series:
        """Captions, `str`, missing where a cell has none; loaded when asked for."""
        return self._source.index.captions.set_axis(self.obs.index)

    @property
    def obsm(self) -> dict[str, NDArray[np.float64]]:
        """Positions in pixels, (n_cells, 2), x then y: `spatial` in the slide, `spatial_tissue` in the tissue."""
        return dict(self._source.index.obsm)

    @property
    def expression(self) -> "ExpressionRows":
        """Expression by row: `f.expression[rows]` is CSR float32 (n, n_genes), in the order asked."""
        return ExpressionRows(self._source)

    @cached_property
    def ccc(self) -> "csr_matrix":
        """Cell-cell communication of all cells, CSR (n_cells, n_cells): rows send, columns receive, summed over pairs.

        Raises
        ------
        LayoutError
            If the file has none, or stores only scores without receivers.
        """
        rows = np.arange(len(self))
        links = read_links(self._source, rows, Problems(str(self.path), lambda row: str(self.obs.index[row])))
        total = None if links is None else ccc.select(links, rows).total
        if total is None:
            msg = f"{self.path} stores no CCC between cells."
            raise LayoutError(msg)
        return total

    def patches(self, level: Level) -> "DataArray":
        """Return the patches of all cells, lazily: see `cellnet_sd.patches`."""
        return of_source(self._source, level, np.arange(len(self)), self.obs.index.tolist())


class ExpressionRows:
    """Expression of a file, by row."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""
        return len(self._source.index), self._source.index.findings.n_genes

    def __getitem__(self, rows: Any) -> "csr_matrix":
        """Return the profiles at `rows`: a number, a slice, a list of numbers or names, or a boolean mask."""
        return read_profiles(self._source, _as_rows(self._source, rows))


def _as_rows(source: Source, rows: Any) -> NDArray[np.int64]:
    n = len(source.index)
    if isinstance(rows, slice):
        return np.arange(n)[rows]
    chosen = None if isinstance(rows, tuple) else np.atleast_1d(np.asarray(rows))
    if chosen is None or chosen.ndim > 1:  # a tuple is what Python makes of `expression[row, gene]`
        msg = (
            f"{source.path}: rows alone are chosen here, as a slice or one flat list. Take genes of what is returned, "
            "as in expression[:3][:, :5]."
        )
        raise SelectionError(msg)
    if chosen.dtype.kind in "iu":  # repeated rows are fine here: a batch may draw a cell twice
        chosen = chosen.astype(np.int64)  # the number of cells may not fit into the caller's integers
        outside = chosen[(chosen < -n) | (chosen >= n)]
        if len(outside):
            msg = f"{source.path}: row {outside[0]} is asked for, the file has {n:,} cells."
            raise SelectionError(msg)
        return np.where(chosen < 0, chosen + n, chosen)
    return named_rows(source.index, chosen)


def open_file(
    path: "str | Path | UPath",
    *,
    expression: ExpressionKind | None = None,
    ccc_layout: CCCLayoutName | None = None,
    gene_list: str | Path | None = None,
    slide_key: str | None = None,
    cell_order: CellOrder | None = None,
    mpp: float | None = None,
    wsi_scale: float | None = None,
    index: bool | None = None,
    engine: Engine | None = None,
    n_threads: int | None = None,
) -> CellNetFile:
    """Open a Cell-NET file, building its index if there is none.

    Parameters
    ----------
    path
        A Cell-NET HDF5 file, or its URL.
    expression, ccc_layout, gene_list, slide_key, cell_order, mpp, wsi_scale, index, engine, n_threads
        As in `read`.

    Returns
    -------
    CellNetFile
        A context manager: `len(f)`, `f.obs`, `f.var_names`, `f.expression[rows]`, `f.patches("cell")[rows]`,
        `f.captions`, `f.ccc`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CellNetError
        If it is no Cell-NET file, or cannot be trusted.
    """
    choices = Choices(
        slide_key=slide_key,
        cell_order=cell_order,
        gene_list=absolute(gene_list),
        expression=expression,
        mpp=mpp,
        wsi_scale=wsi_scale,
        ccc_layout=ccc_layout,
    )
    return CellNetFile(open_source(path, choices, index=index, engine=engine, n_threads=n_threads))


def build_index(
    path: str | Path,
    *,
    client: "Client | str | None" = None,
    engine: Engine | None = None,
    n_threads: int | None = None,
) -> Path:
    """Build the index of a Cell-NET file, unless there is one of its present state.

    The index is saved beside the file as `{file}.cnindex`, or in `settings.cache_dir` where that folder cannot be
    written. With it, every later `open` and `read` starts at once. While it is built, finished parts are kept in
    `{file}.cnindex.parts`: a build that was interrupted goes on from there.

    Parameters
    ----------
    path
        A Cell-NET HDF5 file.
    client
        A `distributed.Client`, or the address of a dask scheduler, whose workers scan the file; they see it, and the
        folder it is in, under the same paths.
    engine, n_threads
        As in `read`. An index that `engine="h5py"` built does not say where bytes are: other engines build it again.

    Returns
    -------
    The path of the index.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    RemoteError
        If it is a URL.
    CellNetError
        If it is no Cell-NET file, the index can be saved nowhere, or the workers of `client` died.
    """
    path = require_local(path, _INDEXED)
    with workers_of(client, Access.of(engine, n_threads).n_threads) as workers:
        source = open_source(path, index=True, engine=engine, n_threads=n_threads, workers=workers)
    saved = saved_at(source.path, source.identity)
    assert saved is not None  # it was loaded from there, or has just been saved
    return saved
