"""Spatial domains by squidpy's neighbourhood flavour, whatever this version of squidpy calls it."""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from anndata import AnnData

    from cellnet_sd.demo.telling import Teller

_RESOLUTION: Final = 0.1


def neighborhood_niches(adata: "AnnData", tell: "Teller", *, groups: str, n_neighbors: int, into: str) -> None:
    """Cluster cells by which groups surround them, into the column `into` of `obs`.

    Works on the AnnData, since with SpatialData `calculate_niche` fails on the name of its own column
    (`nhood_niche_res=0.1` is no legal key), and renames that column.

    Parameters
    ----------
    adata
        A table with a spatial graph.
    tell
        Makes the call.
    groups
        Column of `obs` that is counted around each cell.
    n_neighbors
        How many cells with the most alike surroundings each cell is joined to.
    into
        Name of the new column, categorical.
    """
    before = set(adata.obs)
    function, options = _spelled()
    # scale=False: shares are compared as they are, so that rare groups do not weigh as much as common ones
    tell.call(function, adata, **options, groups=groups, n_neighbors=n_neighbors, resolutions=_RESOLUTION, scale=False)
    (made,) = set(adata.obs) - before
    tell.line(f'>>> adata.obs[{into!r}] = adata.obs.pop({made!r}).astype("category")')
    adata.obs[into] = adata.obs.pop(made).astype("category")


def _spelled() -> tuple[str, dict[str, Any]]:
    """Return squidpy's function and the option that chooses the flavour."""
    from squidpy import gr

    # squidpy 1.8.4 has a function per flavour, and 1.9 drops the one for all
    if hasattr(gr, "calculate_niche_neighborhood"):
        return "sq.gr.calculate_niche_neighborhood", {}
    return "sq.gr.calculate_niche", {"flavor": "neighborhood"}
