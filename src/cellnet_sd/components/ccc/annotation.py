"""Where CCC goes in AnnData: the keys by which scanpy, squidpy and COMMOT find it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cellnet_sd import keys
from cellnet_sd.components.ccc.commot import annotate_commot
from cellnet_sd.components.ccc.links import CCCTables
from cellnet_sd.naming import legal_names

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy import sparse

_METHOD: Final = "cellnet"
_ROWS: Final = 2**14
"""Cells whose links are measured at once."""


@dataclass(frozen=True)
class CCCNotes:
    """What a user should know of the CCC that was written to an AnnData.

    Parameters
    ----------
    n_dropped
        Links to cells left out.
    n_unstored
        Links that only other cells store.
    unsplit
        Pairs that were not split into ligand and receptor for COMMOT: not both are genes or complexes of the table.
    """

    n_dropped: int
    n_unstored: int
    unsplit: tuple[str, ...] = ()


def annotate(
    adata: "AnnData",
    tables: CCCTables,
    *,
    genes: Iterable[str] | None = None,
    database: str = "cellnet",
    distance_threshold: float | None = None,
) -> CCCNotes:
    """Write the links among the cells of `adata` to it.

    Written are

    - `obsp["ccc_connectivities"]`, CSR: signal from the cell of the row to the cell of the column, summed over pairs;
    - `obsp["ccc_distances"]`, CSR float32: distances of the linked cells in the unit of `obsm["spatial"]` (pixels of
      the whole-slide image), NaN where a position is unknown; only if `obsm["spatial"]` is there;
    - `uns["ccc"]` (scanpy's `neighbors_key="ccc"`) and `uns["ccc_neighbors"]` (squidpy's spelling of the same);
    - `uns["ccc_pairs"]`, the names of the pairs, if there are any.

    With a matrix for each pair, also

    - `obsp["ccc-{pair}_connectivities"]`, `{pair}` made legal; `uns["ccc_pair_keys"]` is JSON text of the `obsp` key by
      original name;
    - COMMOT's own names, see `annotate_commot`.

    Scores without receivers go to `obsm["ccc_pairs"]`, CSR `(n, pairs)`, and `uns["ccc_pairs"]`; nothing else is
    written.

    Parameters
    ----------
    adata
        The table; its rows are those that `tables` was made for.
    tables
        What `select` returned.
    genes
        Gene names by which pairs are split into ligand and receptor; `adata.var_names` by default.
    database
        Name of the ligand-receptor database, as it stands in COMMOT's keys.
    distance_threshold
        Reach of the signals in the unit of `obsm["spatial"]`, for COMMOT; left out if unknown.
    """
    if tables.pairs:
        adata.uns[keys.CCC_PAIRS] = np.array(tables.pairs, dtype=object)
    if tables.total is None:
        adata.obsm[keys.CCC_PAIRS] = tables.scores
        return CCCNotes(tables.n_dropped, tables.n_unstored)
    _annotate_total(adata, tables.total)
    if not tables.by_pair:
        return CCCNotes(tables.n_dropped, tables.n_unstored)
    pair_keys = dict(zip(tables.by_pair, pair_key_names(tuple(tables.by_pair)), strict=True))
    for pair, key in pair_keys.items():
        adata.obsp[key] = tables.by_pair[pair]
    adata.uns[keys.CCC_PAIR_KEYS] = json.dumps(pair_keys, ensure_ascii=False)
    unsplit = annotate_commot(
        adata,
        tables.total,
        tables.by_pair,
        genes=adata.var_names if genes is None else genes,
        database=database,
        distance_threshold=distance_threshold,
    )
    return CCCNotes(tables.n_dropped, tables.n_unstored, unsplit)


def pair_key_names(pairs: Sequence[str]) -> list[str]:
    """Return the `obsp` key of each pair: legal, and different from all others even without case."""
    return [keys.pair_connectivities(name) for name in legal_names(pairs)]


def _annotate_total(adata: "AnnData", total: "sparse.csr_matrix") -> None:
    adata.obsp[keys.CCC_CONNECTIVITIES] = total
    if keys.SPATIAL in adata.obsm:
        adata.obsp[keys.CCC_DISTANCES] = distances(total, np.asarray(adata.obsm[keys.SPATIAL]))
    for key in (keys.CCC, keys.CCC_NEIGHBORS):
        adata.uns[key] = _graph(total)


def _graph(total: "sparse.csr_matrix") -> dict[str, Any]:
    """Return what scanpy and squidpy want to know of a graph.

    `n_neighbors` is the largest number of cells that one cell signals to. scanpy demands the name of a distance matrix
    even where it does not read one.
    """
    return {
        "connectivities_key": keys.CCC_CONNECTIVITIES,
        "distances_key": keys.CCC_DISTANCES,
        "params": {"n_neighbors": int(np.diff(total.indptr).max(initial=0)), "method": _METHOD},
    }


def distances(links: "sparse.csr_matrix", positions: "np.ndarray[Any, Any]") -> "sparse.csr_matrix":
    """Return the distances of linked cells in the unit of `positions`: CSR float32 with the entries of `links`."""
    from scipy import sparse

    distance = np.empty(links.nnz, np.float32)
    for start in range(0, links.shape[0], _ROWS):
        ends = links.indptr[start : start + _ROWS + 1]
        own = positions[start : start + _ROWS].repeat(np.diff(ends), axis=0)
        part = slice(ends[0], ends[-1])
        distance[part] = np.linalg.norm(own - positions[links.indices[part]], axis=1)
    return sparse.csr_matrix((distance, links.indices.copy(), links.indptr.copy()), shape=links.shape)
