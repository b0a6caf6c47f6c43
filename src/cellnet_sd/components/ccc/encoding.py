"""From AnnData back to stored CCC: one CSR matrix per cell."""

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellnet_sd import keys
from cellnet_sd.components.ccc.layouts import CCCLayoutName
from cellnet_sd.errors import CellNetWarning, LayoutError

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse


@dataclass(frozen=True)
class EncodedCCC:
    """The canonical stored form of CCC, made cell by cell as it is asked for.

    `encoded[i]` is the CSR matrix of the cell in row i of the table: `(1, N)`, or `(P, N)` over P pairs, or `(P, 1)`
    for scores. float32 values, int32 indices, ascending within a row; explicit zeros stay.

    Parameters
    ----------
    stacked
        The matrices of all cells below each other, CSR `(n * n_rows, width)`.
    n_rows
        Rows of each cell's matrix.
    layout
        What the form is called; to be stored beside the cells, as its shape does not tell when P equals N.
    pairs
        Names of the pairs, to be stored beside the cells; `None` if there are none.
    """

    stacked: "sparse.csr_matrix"
    n_rows: int
    layout: CCCLayoutName
    pairs: tuple[str, ...] | None

    def __len__(self) -> int:
        return int(self.stacked.shape[0]) // self.n_rows

    def __iter__(self) -> Iterator["sparse.csr_matrix"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> "sparse.csr_matrix":
        from scipy import sparse

        if not 0 <= i < len(self):
            msg = f"cell {i} of {len(self):,}"
            raise IndexError(msg)
        indptr = self.stacked.indptr[i * self.n_rows : (i + 1) * self.n_rows + 1]
        inside = slice(indptr[0], indptr[-1])
        parts = (
            self.stacked.data[inside],
            self.stacked.indices[inside].astype(np.int32, copy=False),
            (indptr - indptr[0]).astype(np.int32),
        )
        return sparse.csr_matrix(parts, shape=(self.n_rows, self.stacked.shape[1]))


def encode(adata: "AnnData") -> EncodedCCC | None:
    """Return the CCC of a table in its stored form; `None` if it has none.

    Taken are the matrices of the pairs (`uns["ccc_pair_keys"]`) if they are there, else
    `obsp["ccc_connectivities"]`, else the scores in `obsm["ccc_pairs"]`. Receivers are counted in the order of rows.

    Raises
    ------
    LayoutError
        If `uns` lists pairs whose matrices are gone, or the scores are not as many as their names.

    Warns
    -----
    CellNetWarning
        If float32 cannot hold the values.
    """
    pair_keys: dict[str, str] = json.loads(adata.uns.get(keys.CCC_PAIR_KEYS, "{}"))
    if pair_keys:
        return _encode_pairs(adata, pair_keys)
    if keys.CCC_CONNECTIVITIES in adata.obsp:
        total = _canonical(adata.obsp[keys.CCC_CONNECTIVITIES], keys.CCC_CONNECTIVITIES)
        return EncodedCCC(total, 1, "cells", None)
    if keys.CCC_PAIRS in adata.obsm:
        return _encode_scores(adata)
    return None


def _encode_pairs(adata: "AnnData", pair_keys: dict[str, str]) -> EncodedCCC:
    missing = [key for key in pair_keys.values() if key not in adata.obsp]
    if missing:
        msg = (
            f"uns[{keys.CCC_PAIR_KEYS!r}] lists {len(pair_keys):,} pairs, but obsp has no {missing[0]!r}"
            f" and {len(missing) - 1:,} more. Delete uns[{keys.CCC_PAIR_KEYS!r}] to write the sum alone."
        )
        raise LayoutError(msg)
    matrices = [_canonical(adata.obsp[key], key) for key in pair_keys.values()]
    return EncodedCCC(_interleaved(matrices), len(matrices), "pairs_by_cells", tuple(pair_keys))


def _encode_scores(adata: "AnnData") -> EncodedCCC:
    from scipy import sparse

    scores = _canonical(adata.obsm[keys.CCC_PAIRS], keys.CCC_PAIRS)
    n, n_pairs = scores.shape
    pairs = _stored_pairs(adata)
    if pairs is not None and len(pairs) != n_pairs:
        msg = (
            f"obsm[{keys.CCC_PAIRS!r}] has {n_pairs:,} columns but uns[{keys.CCC_PAIRS!r}] names {len(pairs):,} pairs."
        )
        raise LayoutError(msg)
    cell, pair = _rows(scores), scores.indices.astype(np.int64)
    column = (scores.data, (cell * n_pairs + pair, np.zeros_like(pair)))
    return EncodedCCC(sparse.coo_matrix(column, shape=(n * n_pairs, 1)).tocsr(), n_pairs, "scores", pairs)


def _stored_pairs(adata: "AnnData") -> tuple[str, ...] | None:
    pairs = adata.uns.get(keys.CCC_PAIRS)
    return None if pairs is None else tuple(map(str, pairs))


def _interleaved(matrices: Sequence["sparse.csr_matrix"]) -> "sparse.csr_matrix":
    """Return one matrix with the rows of each cell, one per pair, below each other."""
    from scipy import sparse

    n, width = matrices[0].shape
    n_pairs = len(matrices)
    row = np.concatenate([_rows(matrix) * n_pairs + i for i, matrix in enumerate(matrices)])
    col = np.concatenate([matrix.indices for matrix in matrices])
    data = np.concatenate([matrix.data for matrix in matrices])
    stacked = sparse.coo_matrix((data, (row, col)), shape=(n * n_pairs, width)).tocsr()
    stacked.sort_indices()
    return stacked


def _rows(matrix: "sparse.csr_matrix") -> "np.ndarray[Any, np.dtype[np.int64]]":
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def _canonical(matrix: Any, key: str) -> "sparse.csr_matrix":
    """Return a CSR float32 copy with ascending indices, each once."""
    from scipy import sparse

    stored = sparse.csr_matrix(matrix, copy=True)
    stored.sum_duplicates()
    single = stored.astype(np.float32)
    changed = int(np.count_nonzero(single.data.astype(stored.dtype) != stored.data))
    if changed:
        msg = f"{changed:,} values of {key!r} are rounded to float32."
        warnings.warn(msg, CellNetWarning, stacklevel=4)
    return single
