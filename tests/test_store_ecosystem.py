"""A converted store in use: scanpy, squidpy, SpatialData, spatialdata-plot and annbatch on it, with values checked."""

import warnings
from pathlib import Path

import annbatch
import anndata as ad
import dask.array as da
import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
import spatialdata as sd
import spatialdata_plot  # noqa: F401  # registers sdata.pl
import squidpy as sq
import zarr
from sklearn.metrics import adjusted_rand_score
from spatialdata.transformations import get_transformation

import cellnet_sd as cn
from truth_checks import quiet

pytestmark = pytest.mark.thorough

REACH = 32
"""How far squidpy's crops reach from the pixel in their middle."""


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> cn.datasets.SyntheticTissue:
    """Return the truth about 240 cells on two slides."""
    path = tmp_path_factory.mktemp("in_use") / "tissue.h5"
    return cn.datasets.synthetic(
        path, n_cells=240, n_genes=60, n_slides=2, mpp=1.0, cell_area_um2=2500.0, seed=1, progress=False
    )


@pytest.fixture(scope="module")
def store(tissue: cn.datasets.SyntheticTissue) -> Path:
    """Return it converted to SpatialData."""
    with quiet():
        return cn.convert(tissue.path, tissue.path.parent / "tissue.zarr")


@pytest.fixture
def sdata(store: Path) -> sd.SpatialData:
    """Return the store, reopened, to be changed."""
    return cn.open_store(store)


@pytest.fixture
def eager(tissue: cn.datasets.SyntheticTissue) -> ad.AnnData:
    """Return the table as it is read into memory, to be changed."""
    with quiet():
        return cn.read_anndata(tissue.path)


# --- the quickstart --------------------------------------------------------------------------------------------------


def test_clusters_and_marker_genes_are_those_found_in_memory(
    sdata: sd.SpatialData, eager: ad.AnnData, tissue: cn.datasets.SyntheticTissue
) -> None:
    lazy = sdata["table"]
    for table in (lazy, eager):
        sc.pp.pca(table, n_comps=10)
        table.obsm["X_pca"] = np.asarray(table.obsm["X_pca"])
        sc.pp.neighbors(table, n_neighbors=10, method="gauss")  # method="umap" compiles for seconds
        sc.tl.leiden(table, flavor="igraph", n_iterations=2, directed=False)
        sc.tl.rank_genes_groups(table, "cell_type", method="t-test")
    assert isinstance(lazy.X, da.Array)
    np.testing.assert_allclose(lazy.uns["pca"]["variance_ratio"], eager.uns["pca"]["variance_ratio"], rtol=1e-4)
    np.testing.assert_allclose(np.abs(lazy.obsm["X_pca"]), np.abs(eager.obsm["X_pca"]), atol=0.01)
    of_n = eager.uns["pca"]["variance"] * (eager.n_obs - 1) / eager.n_obs  # scanpy divides by n where X is a dask array
    np.testing.assert_allclose(lazy.uns["pca"]["variance"], of_n, rtol=1e-4)
    assert adjusted_rand_score(lazy.obs["leiden"], eager.obs["leiden"]) > 0.9
    for cell_type, markers in tissue.markers.items():
        if (lazy.obs["cell_type"] == cell_type).sum() > 3:
            first = [sc.get.rank_genes_groups_df(table, cell_type)["names"].iloc[0] for table in (lazy, eager)]
            assert first[0] == first[1]
            assert first[0] in markers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap's own
        sc.tl.umap(lazy, maxiter=5, init_pos="random")
    assert np.isfinite(lazy.obsm["X_umap"]).all()
    sc.pl.umap(lazy, color=["leiden", "cell_type"], show=False)
    assert all(axis.collections for axis in plt.gcf().axes[:2])
    plt.close("all")


def test_domains_and_signals_are_those_found_in_memory(sdata: sd.SpatialData, eager: ad.AnnData) -> None:
    lazy = sdata["table"]
    for table in (lazy, eager):
        sq.gr.spatial_neighbors_knn(table, n_neighs=10, library_key="slide")
        sq.gr.calculate_niche(table, flavor="neighborhood", groups="cell_type", n_neighbors=15, resolutions=0.5)
        sq.gr.interaction_matrix(table, "cell_type", connectivity_key="ccc", weights=True)
        sq.gr.nhood_enrichment(table, "cell_type", connectivity_key="ccc", n_perms=20, seed=0, show_progress_bar=False)
    assert lazy.obs["nhood_niche_res=0.5"].nunique() > 1
    assert lazy.obs["nhood_niche_res=0.5"].tolist() == eager.obs["nhood_niche_res=0.5"].tolist()
    np.testing.assert_array_equal(lazy.uns["cell_type_interactions"], eager.uns["cell_type_interactions"])
    found = [table.uns["cell_type_nhood_enrichment"]["count"] for table in (lazy, eager)]
    np.testing.assert_array_equal(*found)
    assert found[0].sum() == lazy.obsp["ccc_connectivities"].nnz


def test_values_that_are_taken_as_counts_are_normalised_block_by_block(
    tissue: cn.datasets.SyntheticTissue, tmp_path: Path
) -> None:
    with quiet():
        lazy = cn.open_store(cn.convert(tissue.path, tmp_path / "out.zarr", kind="anndata", expression="counts"))
        eager = cn.read_anndata(tissue.path, expression="counts")
    for table in (lazy, eager):
        sc.pp.filter_genes(table, min_cells=3)
        sc.pp.normalize_total(table, target_sum=1e4)
        sc.pp.log1p(table)
        sc.pp.highly_variable_genes(table, n_top_genes=20)
    assert isinstance(lazy.X, da.Array)
    assert lazy.var["highly_variable"].sum() == 20
    assert lazy.var_names.tolist() == eager.var_names.tolist()
    assert lazy.var["highly_variable"].tolist() == eager.var["highly_variable"].tolist()
    np.testing.assert_allclose(lazy.to_memory().X.toarray(), eager.X.toarray(), rtol=1e-5)


# --- the slide -------------------------------------------------------------------------------------------------------


def test_image_features_of_squidpy_are_those_of_the_slide(
    sdata: sd.SpatialData, tissue: cn.datasets.SyntheticTissue
) -> None:
    name, element = "slide_1", sdata.images["slide_1_tissue"]
    corner = get_transformation(element, name).to_affine_matrix(("x", "y"), ("x", "y"))[:2, 2]
    here = sdata["table"][sdata["table"].obs["slide"] == name]
    spots = ad.AnnData(obs=here.obs[["slide"]].copy(), obsm={"spatial": here.obsm["spatial"] - corner})
    spots.uns["spatial"] = {name: {"scalefactors": {"spot_diameter_fullres": 2.0 * REACH + 1}}}
    pixels = element["scale0"]["image"].rename(c="channels").expand_dims("z", axis=-1)
    container = sq.im.ImageContainer(pixels.transpose("y", "x", "z", "channels"), layer="image")
    sq.im.calculate_image_features(
        spots, container, layer="image", features="summary", n_jobs=1, show_progress_bar=False
    )
    slide, compared = tissue.slides[name], 0
    for cell in tissue.cells[tissue.cells["slide"] == name].itertuples():
        y, x = int(cell.y) - REACH, int(cell.x) - REACH
        if min(y, x) >= 0 and y + 2 * REACH < slide.shape[0] and x + 2 * REACH < slide.shape[1]:
            window = slide[y:, x:][: 2 * REACH + 1, : 2 * REACH + 1].astype(float)
            found = spots.obsm["img_features"].loc[cell.name]
            for channel in range(3):
                assert found[f"summary_ch-{channel}_mean"] == pytest.approx(window[..., channel].mean(), rel=1e-4)
                assert found[f"summary_ch-{channel}_std"] == pytest.approx(window[..., channel].std(), rel=1e-3)
            compared += 1
    assert compared > 50


@pytest.mark.filterwarnings("ignore:The table is annotating:UserWarning")  # of the slide that the query drops
def test_a_box_of_a_store_is_cut_and_drawn(sdata: sd.SpatialData, tissue: cn.datasets.SyntheticTissue) -> None:
    low, high = np.array([100, 150]), np.array([300, 270])
    box = sd.bounding_box_query(
        sdata, ("x", "y"), min_coordinate=low, max_coordinate=high, target_coordinate_system="slide_1"
    )
    pixels = np.moveaxis(box.images["slide_1_tissue"]["scale0"]["image"].values, 0, -1)
    expected = tissue.slides["slide_1"][low[1] : high[1], low[0] : high[0]]
    shown = (pixels != 255).any(axis=2)
    assert shown.mean() > 0.8
    np.testing.assert_array_equal(pixels[shown], expected[shown])
    cells = tissue.cells[tissue.cells["slide"] == "slide_1"].set_index("name")
    inside = ((cells[["x", "y"]] >= low) & (cells[["x", "y"]] <= high)).all(axis=1)
    assert set(box["table"].obs_names) == set(cells.index[inside])
    assert isinstance(box["table"].X, da.Array)
    _, ax = plt.subplots()
    box.pl.render_images("slide_1_tissue").pl.render_shapes("slide_1_cells", color="cell_type").pl.show(
        coordinate_systems="slide_1", ax=ax
    )
    assert ax.images
    assert ax.collections
    assert sorted(ax.get_xlim()) == pytest.approx([low[0], high[0]], abs=10)
    plt.close("all")


# --- annbatch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [None, "tables/table"])
def test_annbatch_iterates_a_store(tissue: cn.datasets.SyntheticTissue, store: Path, inside: str | None) -> None:
    if inside is None:
        with quiet():
            store = cn.convert(tissue.path, store.with_name("table.zarr"), kind="anndata", overwrite=True)
    group = zarr.open_group(store, mode="r", path=inside)
    labels = ad.io.read_elem(group["obs"])[["cell_type", "slide"]]
    adata = ad.AnnData(X=ad.io.sparse_dataset(group["X"]), obs=labels, var=ad.io.read_elem(group["var"]))
    loader = annbatch.Loader(
        batch_size=32,
        chunk_size=8,
        preload_nchunks=8,
        shuffle=True,
        return_index=True,
        preload_to_gpu=False,
        rng=np.random.default_rng(0),
    ).add_adata(adata)
    with h5py.File(tissue.path) as root:
        expected = np.stack([root[f"{c.slide}/{c.name}/expression"][()] for c in tissue.cells.itertuples()])
    seen = []
    for batch in loader:
        np.testing.assert_array_equal(batch["X"].toarray(), expected[batch["index"]])
        truth = tissue.cells.iloc[batch["index"]]
        assert batch["obs"]["cell_type"].tolist() == truth["cell_type"].tolist()
        assert batch["obs"]["slide"].tolist() == truth["slide"].tolist()
        seen.append(batch["index"])
    assert len(seen) == -(-240 // 32)
    assert sorted(np.concatenate(seen)) == list(range(240))
    assert not np.array_equal(np.concatenate(seen), np.arange(240))
