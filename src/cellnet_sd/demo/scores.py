"""The results against the truth, beside the same analysis of shuffled labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from cellnet_sd import keys
from cellnet_sd.demo import analysis
from cellnet_sd.demo.telling import Teller

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cellnet_sd.datasets import SyntheticTissue

_SHUFFLED: Final = "shuffled"


@dataclass(frozen=True)
class Scores:
    """How well the planted truth was found.

    Parameters
    ----------
    clusters
        Adjusted Rand index of Leiden's clusters and the planted cell types.
    domains
        Adjusted Rand index of the spatial domains found and planted.
    markers
        Share of the groups whose first marker is a planted one.
    pairs
        Share of the planted (sender, receiver) types among as many with the most links beyond chance.
    """

    clusters: float
    domains: float
    markers: float
    pairs: float


def truth_of(adata: "AnnData", tissue: "SyntheticTissue") -> "pd.DataFrame":
    """Return the truth about the cells of `adata`, row by row."""
    return tissue.cells.set_index("name").loc[adata.obs_names]


def score(adata: "AnnData", tissue: "SyntheticTissue", enriched: "pd.DataFrame") -> Scores:
    """Return the scores of an analysis.

    Parameters
    ----------
    adata
        The table with Leiden's clusters, domains and ranked genes.
    tissue
        The truth.
    enriched
        Z-scores of the links from group (rows) to group (columns).
    """
    from sklearn.metrics import adjusted_rand_score

    truth = truth_of(adata, tissue)
    return Scores(
        float(adjusted_rand_score(truth["cell_type"], adata.obs[analysis.CLUSTER])),
        float(adjusted_rand_score(truth["domain"], adata.obs[analysis.DOMAIN])),
        _first_markers(adata, tissue.markers),
        planted_first(enriched, tissue),
    )


def _first_markers(adata: "AnnData", planted: Mapping[str, tuple[str, ...]]) -> float:
    names = adata.uns["rank_genes_groups"]["names"]
    return float(np.mean([names[group][0] in planted.get(group, ()) for group in names.dtype.names]))


def planted_first(enriched: "pd.DataFrame", tissue: "SyntheticTissue") -> float:
    """Return the share of the planted (sender, receiver) types among as many with the highest scores."""
    planted = set(tissue.pairs[["sender", "receiver"]].itertuples(index=False, name=None))
    return float(np.mean([pair in planted for pair in analysis.ranked_pairs(enriched).index[: len(planted)]]))


def score_shuffled(adata: "AnnData", tissue: "SyntheticTissue", key: str, seed: int) -> Scores:
    """Return the scores of the same analysis after the labels were shuffled among the cells of each slide.

    The labels in column `key` are shuffled before markers, domains and signals are found again. Leiden's clusters do
    not depend on them: there, it is the truth that is shuffled.
    """
    from sklearn.metrics import adjusted_rand_score

    silent = Teller(lambda _: None)
    other = _without_results(adata)
    other.obs[key] = _shuffled(adata.obs, key, seed)
    analysis.domains(other, silent, key)
    analysis.markers(other, silent, key)
    truth = truth_of(adata, tissue)
    return Scores(
        float(adjusted_rand_score(_shuffled(truth, "cell_type", seed), adata.obs[analysis.CLUSTER])),
        float(adjusted_rand_score(truth["domain"], other.obs[analysis.DOMAIN])),
        _first_markers(other, tissue.markers),
        planted_first(analysis.enrichment(other, silent, key, seed, connectivity_key=keys.CCC), tissue),
    )


def _without_results(adata: "AnnData") -> "AnnData":
    from anndata import AnnData

    graphs = {name: adata.obsp[name] for name in ("spatial_connectivities", keys.CCC_CONNECTIVITIES)}
    other = AnnData(adata.X, obs=adata.obs[[keys.SLIDE]].copy(), var=adata.var[[]].copy(), obsp=graphs)
    other.uns["log1p"] = {"base": None}
    return other


def _shuffled(obs: "pd.DataFrame", key: str, seed: int) -> "pd.Series":
    rng = np.random.default_rng(seed)
    places = np.arange(len(obs))
    for here in obs.reset_index().groupby(keys.SLIDE, observed=True).groups.values():
        places[here] = rng.permutation(here)
    return obs[key].iloc[places].set_axis(obs.index)


def tell_scores(tell: Teller, found: Scores, shuffled: Scores, n_pairs: int, n_groups: int) -> None:
    """Say both scores, side by side."""

    def of(share: float, n: int) -> str:
        return f"{round(share * n)} of {n}"

    def index(value: float) -> str:
        return f"{round(value, 2) + 0.0:.2f}"

    tell.table(
        [
            ("", "found", _SHUFFLED),
            ("Leiden clusters = planted cell types (ARI)", index(found.clusters), index(shuffled.clusters)),
            ("spatial domains = planted domains (ARI)", index(found.domains), index(shuffled.domains)),
            ("cell types whose first marker was planted", of(found.markers, n_groups), of(shuffled.markers, n_groups)),
            (
                "planted sender → receiver types ranked first",
                of(found.pairs, n_pairs),
                of(shuffled.pairs, n_pairs),
            ),
        ]
    )
