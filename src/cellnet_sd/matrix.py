"""`X`: expression profiles as rows of a CSR matrix, read now or lazily, and the genes that are its columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.cellindex import Rows
from cellnet_sd.components import expression
from cellnet_sd.errors import LayoutError, NotEnoughMemoryError
from cellnet_sd.layout import Component
from cellnet_sd.notes import Notes, warn
from cellnet_sd.problems import Problems
from cellnet_sd.progress import progress
from cellnet_sd.settings import settings
from cellnet_sd.sources.base import Source

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BACKED_ROWS = 1024
"""Cells per block of a lazy `X`."""
_MOST_ROWS = 4096
_CSR_BYTES = 8
_LONG_CSR_BYTES = 12
"""Bytes of a value and its column; SciPy indexes by int64 where there are more values than int32 counts."""
_COPIES = 2
"""A matrix and the parts it is stacked from are in memory at once."""
_FLOAT_BYTES = 4
_ROUNDED = "expression values were rounded: float32 cannot hold them exactly"


@dataclass(frozen=True)
class GeneColumns:
    """Which genes of a file are read, and which columns they become.

    Parameters
    ----------
    n
        Number of columns.
    taken
        The genes that are read, by their places in the file; `None` for all.
    to
        int32, the column of each gene that is read; `None` where they come one after the other and fill all columns.
    """

    n: int
    taken: NDArray[np.int64] | None = None
    to: NDArray[np.int32] | None = None

    @property
    def are_all(self) -> bool:
        """Whether profiles are taken as they are."""
        return self.taken is None and self.to is None

    def of(self, profiles: "csr_matrix") -> "csr_matrix":
        """Return the columns of some profiles."""
        from scipy.sparse import csr_matrix

        found = profiles if self.taken is None else profiles[:, self.taken]
        if self.to is None:
            return found
        placed = csr_matrix((found.data, self.to[found.indices], found.indptr), shape=(found.shape[0], self.n))
        placed.sort_indices()
        return placed


def gene_table(source: Source, notes: Notes | None = None) -> pd.DataFrame:
    """Return `var`: gene names made unique, with `gene_ids` and `feature_types` where the gene list has them."""
    from anndata.utils import make_index_unique

    genes = source.genes
    n_genes = source.index.findings.n_genes
    if genes is None:
        if notes is not None and n_genes:
            notes.warn_of("its genes are named nowhere: they are called gene_0, gene_1, … Pass gene_list= to name them")
        return pd.DataFrame(index=pd.Index([f"gene_{i}" for i in range(n_genes)], dtype="str"))
    names = pd.Index(genes.names, dtype="str")
    columns = {keys.GENE_IDS: genes.ids, keys.FEATURE_TYPES: genes.types}
    var = pd.DataFrame({name: list(values) for name, values in columns.items() if values is not None}, index=names)
    if keys.FEATURE_TYPES in var:
        var[keys.FEATURE_TYPES] = var[keys.FEATURE_TYPES].astype("category")
    if not names.is_unique:
        var.index = make_index_unique(names)
    return var


def read_matrix(source: Source, rows: Rows, columns: GeneColumns, problems: Problems, notes: Notes) -> "csr_matrix":
    """Return the expression of the cells at `rows`, batch by batch; malformed rows are empty, and reported.

    Parameters
    ----------
    source, rows
        The cells.
    columns
        The genes.
    problems, notes
        Where malformed cells are reported, and rounded values counted.

    Raises
    ------
    LayoutError
        If a cell holds counts where the file holds logarithms, or the other way round.
    NotEnoughMemoryError
        If the matrix cannot fit in memory, as the index' sample lets expect.
    """
    n_genes = source.index.findings.n_genes
    n_taken = n_genes if columns.taken is None else len(columns.taken)
    _check_memory(source, len(rows), n_taken / max(1, n_genes))
    parts, n_inexact = [], 0
    for batch in batches(rows, n_genes * _FLOAT_BYTES, "Reading expression"):
        profiles = expression.read(source, batch, n_genes, problems)
        _check_kind(source, profiles.matrix, batch)
        n_inexact += profiles.n_inexact
        parts.append(columns.of(profiles.matrix))
    if n_inexact:
        notes.warn_of(f"{n_inexact:,} {_ROUNDED}")
    return _stacked(parts, columns.n)


def _check_kind(source: Source, matrix: "csr_matrix", batch: Rows) -> None:
    """Refuse a cell that is not of the kind the file was found to be, unless the caller said what it is."""
    findings = source.index.findings
    if findings.expression is None or source.choices.expression is not None:
        return
    _, whole = expression.kind_of(matrix)
    filled = np.diff(matrix.indptr) > 0
    odd = batch[filled & (whole if findings.expression == "lognorm" else ~whole)]
    if len(odd):
        msg = (
            f"{source.path}: cell {source.index.names.iloc[odd[0]]!r}, {Component.EXPRESSION}: the file was taken to "
            f"hold {findings.expression_words}; this cell holds the other kind. Say which it is with expression=."
        )
        raise LayoutError(msg)


def _check_memory(source: Source, n_cells: int, share: float) -> None:
    import psutil

    n_values = n_cells * source.index.findings.nnz_per_cell * share
    needed = int(_COPIES * n_values * (_CSR_BYTES if n_values <= np.iinfo(np.int32).max else _LONG_CSR_BYTES))
    available = int(psutil.virtual_memory().available)
    if needed > available:
        msg = (
            f"{source.path}: reading the expression of {n_cells:,} cells takes about {needed / 2**30:,.1f} GiB and "
            f"{available / 2**30:,.1f} GiB are free. Pass backed=True to read it block by block, or choose cells "
            "with where= or genes with genes=."
        )
        raise NotEnoughMemoryError(msg)


def batches(rows: Rows, bytes_per_cell: int, desc: str) -> Iterator[Rows]:
    """Yield `rows` in batches that decode to no more than `settings.batch_bytes`, with a progress bar over cells."""
    size = max(1, min(_MOST_ROWS, settings.batch_bytes // max(1, bytes_per_cell)))
    starts = range(0, len(rows), size)
    yield from progress((rows[start : start + size] for start in starts), total=len(starts), desc=desc, unit="batches")


def lazy_matrix(source: Source, rows: Rows, columns: GeneColumns) -> Any:
    """Return expression as a dask array of CSR blocks.

    A task carries its rows and the source, which is a path, and reopens it. The columns are a task of their own: a
    worker of a cluster gets them once.
    """
    import dask
    import dask.array as da
    from dask.layers import ArrayValuesDep
    from scipy.sparse import csr_matrix

    parts = [rows[start : start + BACKED_ROWS] for start in range(0, max(1, len(rows)), BACKED_ROWS)]
    chunks = (tuple(map(len, parts)), (columns.n,))
    numbers = ArrayValuesDep(chunks, {(number, 0): _compact(part) for number, part in enumerate(parts)})
    return da.blockwise(
        partial(_block, source),
        "ij",
        numbers,
        "ij",
        columns if columns.are_all else dask.delayed(columns, pure=True),
        None,
        align_arrays=False,
        dtype=np.float32,
        meta=csr_matrix((0, 0), dtype=np.float32),
    )


def _compact(rows: Rows) -> Rows | range:
    """Return consecutive rows as a range: most are, and there may be millions in a graph."""
    if len(rows) and (np.diff(rows) == 1).all():
        return range(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _block(source: Source, rows: Rows | range, columns: GeneColumns) -> "csr_matrix":
    return columns.of(read_profiles(source, rows))


def read_profiles(source: Source, rows: Sequence[int] | Rows) -> "csr_matrix":
    """Return the expression of the cells at `rows` as CSR float32, (n, n_genes).

    Warns of values that were rounded.

    Raises
    ------
    MalformedCellError
        If a profile is missing or malformed.
    LayoutError
        If it cannot be told what the values are, or a cell holds counts where the file holds logarithms.
    """
    if (error := source.index.findings.errors.get(Component.EXPRESSION)) is not None:
        raise LayoutError(error)
    names = source.index.names
    problems = Problems(
        str(source.path), lambda row: str(names.iloc[row]), advice="Leave it out with where= or cells=."
    )
    rows = np.asarray(rows, dtype=np.int64)
    profiles = expression.read(source, rows, source.index.findings.n_genes, problems)
    _check_kind(source, profiles.matrix, rows)
    if profiles.n_inexact:
        warn(f"{source.path}: {profiles.n_inexact:,} {_ROUNDED}", stacklevel=3)
    return profiles.matrix


def _stacked(parts: Sequence["csr_matrix"], n_genes: int) -> "csr_matrix":
    from scipy import sparse

    if not parts:
        return sparse.csr_matrix((0, n_genes), dtype=np.float32)
    return sparse.vstack(parts, format="csr") if len(parts) > 1 else parts[0]
