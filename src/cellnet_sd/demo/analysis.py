"""The analysis of the demonstration: scanpy and squidpy as their users call them."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from cellnet_sd import keys
from cellnet_sd.demo.niches import neighborhood_niches
from cellnet_sd.demo.telling import Teller
from cellnet_sd.drawing.style import is_known

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

CLUSTER: Final = "leiden"
DOMAIN: Final = "spatial_domain"
CELL_TYPE: Final = "cell_type"
_MANY_GENES: Final = 3_000
_VARIABLE: Final = 2_000
_AUTOCORRELATED: Final = 50
_SHOWN: Final = 5


class Labels(NamedTuple):
    """By what cells are grouped for domains and communication: a column of `obs`, and why it is not the cell type."""

    key: str
    reason: str = ""


def prepare(adata: "AnnData", tell: Teller) -> None:
    """Normalise counts, and choose genes where there are many."""
    if "log1p" not in adata.uns:
        tell.call("sc.pp.normalize_total", adata)
        tell.call("sc.pp.log1p", adata)
    if adata.n_vars > _MANY_GENES:
        tell.call("sc.pp.highly_variable_genes", adata, n_top_genes=_VARIABLE)


def cluster(adata: "AnnData", tell: Teller, seed: int) -> None:
    """Run PCA, neighbours, Leiden and UMAP."""
    tell.call("sc.pp.pca", adata, n_comps=min(30, min(adata.shape) - 1), random_state=seed)
    tell.call("sc.pp.neighbors", adata, random_state=seed)
    tell.call("sc.tl.leiden", adata, flavor="igraph", n_iterations=2, random_state=seed)
    tell.call("sc.tl.umap", adata, random_state=seed)
    tell.line(f"{adata.obs[CLUSTER].nunique()} clusters")


def markers(adata: "AnnData", tell: Teller, key: str) -> None:
    """Rank genes by group and say the first of each."""
    sizes = adata.obs[key].value_counts()
    # scanpy refuses groups of a single cell
    few: dict[str, Any] = {"groups": sorted(sizes.index[sizes > 1])} if (sizes == 1).any() else {}
    tell.call("sc.tl.rank_genes_groups", adata, key, **few, method="t-test")
    for group in adata.uns["rank_genes_groups"]["names"].dtype.names:
        best = adata.uns["rank_genes_groups"]["names"][group][:_SHOWN]
        tell.line(f"{group}: {', '.join(best)}")


def choose_labels(adata: "AnnData") -> Labels:
    """Return the cell type, or Leiden's clusters where cell types say nothing."""
    if CELL_TYPE not in adata.obs:
        return Labels(CLUSTER, "the cells have no cell_type")
    known = [value for value in adata.obs[CELL_TYPE].dropna().unique() if is_known(value)]
    if len(known) > 1:
        return Labels(CELL_TYPE)
    only = known[0] if known else adata.obs[CELL_TYPE].astype("str").iloc[0]
    return Labels(CLUSTER, f"cell_type is {only!r} for all cells")


def spatial_graph(adata: "AnnData", tell: Teller) -> None:
    """Join each cell to the cells around it, within its slide."""
    smallest = int(adata.obs[keys.SLIDE].value_counts().min())
    n_neighs = int(np.clip(smallest // 20, min(6, smallest - 1), 20))
    tell.call("sq.gr.spatial_neighbors_knn", adata, n_neighs=n_neighs, library_key=keys.SLIDE)


def neighbourhoods(adata: "AnnData", tell: Teller, key: str, seed: int) -> "pd.DataFrame":
    """Return z-scores of how often groups lie side by side, and say the extremes."""
    scores = enrichment(adata, tell, key, seed)
    upper = scores.where(np.triu(np.ones(scores.shape, dtype=bool), 1)).stack().dropna().sort_values()
    if len(upper):
        (low_a, low_b), (high_a, high_b) = upper.index[0], upper.index[-1]
        tell.line(f"most often side by side: {high_a} and {high_b} (z = {upper.iloc[-1]:.0f})")
        tell.line(f"least often: {low_a} and {low_b} (z = {upper.iloc[0]:.0f})")
    return scores


def enrichment(adata: "AnnData", tell: Teller, key: str, seed: int, **options: Any) -> "pd.DataFrame":
    """Return squidpy's z-scores of the links between groups, more than a random labelling would give."""
    tell.call(
        "sq.gr.nhood_enrichment", adata, cluster_key=key, **options, n_perms=200, seed=seed, show_progress_bar=False
    )
    return _by_group(adata, key, adata.uns[f"{key}_nhood_enrichment"]["zscore"])


def domains(adata: "AnnData", tell: Teller, key: str) -> None:
    """Find spatial domains: cells with alike surroundings. Writes `obs["spatial_domain"]`."""
    neighborhood_niches(adata, tell, groups=key, n_neighbors=min(100, adata.n_obs // 4), into=DOMAIN)
    tell.line(f"{adata.obs[DOMAIN].nunique()} domains")


def spatial_genes(adata: "AnnData", tell: Teller) -> "pd.DataFrame":
    """Return Moran's I of the most variable genes, and say the first."""
    from scanpy.pp import highly_variable_genes

    ranked = highly_variable_genes(adata, n_top_genes=min(_AUTOCORRELATED, adata.n_vars), inplace=False)
    genes = adata.var_names[ranked["highly_variable"].to_numpy()].tolist()
    tell.name(genes, "genes")
    tell.line(f"genes: the {len(genes)} most variable ones")
    tell.call("sq.gr.spatial_autocorr", adata, mode="moran", genes=genes, show_progress_bar=False)
    found = adata.uns["moranI"]
    tell.line(", ".join(f"{gene} {value:.2f}" for gene, value in found["I"].head(_SHOWN).items()))
    return found


def signals(adata: "AnnData", tell: Teller, key: str) -> "pd.DataFrame":
    """Return the signal from each group (rows) to each group (columns), summed over links."""
    tell.call("sq.gr.interaction_matrix", adata, cluster_key=key, connectivity_key=keys.CCC, weights=True)
    return _by_group(adata, key, adata.uns[f"{key}_interactions"])


def ranked_pairs(scores: "pd.DataFrame") -> "pd.Series":
    """Return the scores of (sender, receiver), the highest first."""
    return scores.stack().dropna().sort_values(ascending=False, kind="stable")


def _by_group(adata: "AnnData", key: str, values: Any) -> "pd.DataFrame":
    import pandas as pd

    groups = adata.obs[key].cat.categories
    return pd.DataFrame(np.asarray(values, dtype=np.float64), index=groups, columns=groups)
