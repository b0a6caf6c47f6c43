"""scanpy, squidpy, SpatialData and spatialdata-plot on what is read, unchanged: real calls, values checked."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import h5py
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import spatialdata as sd
import spatialdata_plot  # noqa: F401  # registers sdata.pl
import squidpy as sq
from spatialdata.models import ShapesModel, TableModel, get_table_keys
from spatialdata.transformations import get_transformation

import cellnet_sd as cn
from truth_checks import quiet

MPP = 0.5


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> cn.datasets.SyntheticTissue:
    """Return the truth about 240 cells on two slides, at half a micrometre per pixel."""
    path = tmp_path_factory.mktemp("ecosystem") / "tissue.h5"
    return cn.datasets.synthetic(path, n_cells=240, n_genes=60, n_slides=2, mpp=MPP, seed=1)


@pytest.fixture(scope="module")
def as_read(tissue: cn.datasets.SyntheticTissue) -> sd.SpatialData:
    """Return it as SpatialData; not to be changed."""
    with quiet():
        return cn.read(tissue.path)


@pytest.fixture
def sdata(as_read: sd.SpatialData) -> sd.SpatialData:
    """Return it with a table and attributes of its own, to be changed."""
    made = sd.SpatialData(images=dict(as_read.images), shapes=dict(as_read.shapes), attrs=dict(as_read.attrs))
    made.tables["table"] = as_read["table"].copy()
    return made


@pytest.fixture
def adata(as_read: sd.SpatialData) -> ad.AnnData:
    """Return its table, to be changed."""
    return as_read["table"].copy()


@pytest.fixture
def links(tissue: cn.datasets.SyntheticTissue) -> np.ndarray:
    """Return the signals from cell to cell over all pairs, (n, n), by plain h5py."""
    with h5py.File(tissue.path) as root:
        rows = []
        for cell in tissue.cells.itertuples():
            ccc = root[f"{cell.slide}/{cell.name}/CCC"]
            parts = tuple(ccc[key][()] for key in ("data", "indices", "indptr"))
            rows.append(sp.csr_matrix(parts, shape=ccc.attrs["shape"]).toarray().sum(axis=0))
    return np.stack(rows)


# --- what is read ----------------------------------------------------------------------------------------------------


def test_links_are_a_scipy_matrix_with_both_spellings_of_their_entry(adata: ad.AnnData, links: np.ndarray) -> None:
    graph = adata.obsp["ccc_connectivities"]
    assert sp.issparse(graph)
    assert graph.format == "csr"
    np.testing.assert_allclose(graph.toarray(), links, rtol=1e-5)
    for key in ("ccc", "ccc_neighbors"):
        assert adata.uns[key]["connectivities_key"] == "ccc_connectivities"
        assert adata.uns[key]["distances_key"] in adata.obsp
        assert {"n_neighbors", "method"} <= set(adata.uns[key]["params"])
    distances = adata.obsp["ccc_distances"].tocoo()
    xy = adata.obsm["spatial"]
    np.testing.assert_allclose(distances.data, np.linalg.norm(xy[distances.row] - xy[distances.col], axis=1), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Calling `spatial_neighbors` is deprecated:FutureWarning")
def test_nothing_is_written_that_switches_squidpy_to_a_grid(adata: ad.AnnData) -> None:
    assert "spatial" not in adata.uns
    sq.gr.spatial_neighbors(adata, library_key="slide")
    degrees = np.diff(adata.obsp["spatial_connectivities"].indptr)
    assert (degrees >= 6).all()
    assert adata.uns["spatial_neighbors"]["params"]["coord_type"] == "generic"


def test_names_of_systems_and_regions_are_plain_text(sdata: sd.SpatialData) -> None:
    names = [*sdata.coordinate_systems, *sdata.images, *sdata.shapes]
    names += [
        s
        for element in [*sdata.images.values(), *sdata.shapes.values()]
        for s in get_transformation(element, get_all=True)
    ]
    regions, _, _ = get_table_keys(sdata["table"])
    assert {type(name) for name in [*names, *regions]} == {str}
    systems = {f"{slide}{end}" for slide in ("slide_1", "slide_2") for end in ("", "_um", "_patches")}
    assert set(sdata.coordinate_systems) == systems


def test_stacks_of_patches_are_in_a_system_of_their_own(sdata: sd.SpatialData) -> None:
    for slide in ("slide_1", "slide_2"):
        stack = sdata.images[f"{slide}_cell_patches"]
        assert stack.dims == ("c", "z", "y", "x")
        assert list(get_transformation(stack, get_all=True)) == [f"{slide}_patches"]
        assert set(sd.get_extent(sdata, coordinate_system=slide)) == {"x", "y"}


AWKWARD = [
    {"dataset title": "a", "Tissue": 1, "tissue": "x", "__p": [1], "a/b:c": {"k": None}, "_index": 1, "mixed": 1},
    {"dataset title": "b", "Tissue": 2, "tissue": "y", "__p": [2], "a/b:c": {"k": 2}, "_index": 2, "mixed": "one"},
    {"dataset title": None, "tissue": None, "region": "mine", "Cell_ID": 7, "slide ": "s", "mixed": [True]},
]


@pytest.mark.parametrize("form", ["zarr", "h5ad"])
def test_whatever_attributes_are_called_and_hold_they_are_stored_and_read_back(tmp_path: Path, form: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w", track_order=True) as root:
        root["gene_names"] = ["A"]
        for row, document in enumerate(AWKWARD):
            root[f"Cell_{row}/expression"] = np.array([0.5], "f4")
            root[f"Cell_{row}/caption.txt"] = f"cell {row}"
            root[f"Cell_{row}/attributes.json"] = json.dumps({"Position_in_WSI": f"({row}, 2)", **document})
    with quiet():
        sdata = cn.read(tmp_path / "a.h5")
    table = sdata["table"]
    assert [json.loads(text) for text in table.obs["mixed"]] == [1, "one", [True]]
    if form == "zarr":
        sdata.write(tmp_path / "a.zarr")
        again = sd.read_zarr(tmp_path / "a.zarr")["table"]
    else:
        table.write_h5ad(tmp_path / "a.h5ad")
        again = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(again.obs, table.obs, check_column_type=False)
    with quiet():
        cn.write(again, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as root:
        for row, document in enumerate(AWKWARD):
            got = json.loads(root[f"Cell_{row}/attributes.json"][()])
            assert got == {"Position_in_WSI": f"({row}, 2)", **document}


# --- annotating elements ---------------------------------------------------------------------------------------------


def test_circles_are_the_cells_and_the_table_annotates_them(
    sdata: sd.SpatialData, tissue: cn.datasets.SyntheticTissue
) -> None:
    for slide, cells in tissue.cells.groupby("slide"):
        circles = sdata.shapes[f"{slide}_cells"]
        ShapesModel.validate(circles)
        assert circles.index.dtype == sdata["table"].obs["cell_id"].dtype
        assert circles.index.tolist() == cells["name"].tolist()
        np.testing.assert_array_equal(circles.geometry.x, cells["x"])
        np.testing.assert_array_equal(circles.geometry.y, cells["y"])
        np.testing.assert_allclose(circles["radius"], cells["diameter"] / 2 / MPP)
    element, table = sd.join_spatialelement_table(
        sdata, spatial_element_names="slide_1_cells", table_name="table", how="inner"
    )
    assert table.obs_names.tolist() == element["slide_1_cells"].index.tolist()


def test_a_lazy_matrix_annotates_with_obs_in_memory(tissue: cn.datasets.SyntheticTissue, tmp_path: Path) -> None:
    with quiet():
        lazy, eager = cn.read(tissue.path, backed=True), cn.read(tissue.path)
    assert isinstance(lazy["table"].X, da.Array)
    TableModel.validate(lazy["table"])
    assert type(lazy["table"].obs) is pd.DataFrame
    assert type(lazy["table"].var) is pd.DataFrame
    assert sp.issparse(lazy["table"].obsp["ccc_connectivities"])
    lazy.write(tmp_path / "a.zarr")
    again = sd.read_zarr(tmp_path / "a.zarr")
    assert (again["table"].X != eager["table"].X).nnz == 0


def test_a_selected_table_names_only_its_regions_and_can_be_put_back(
    sdata: sd.SpatialData, tissue: cn.datasets.SyntheticTissue
) -> None:
    kind = tissue.cells.loc[tissue.cells["slide"] == "slide_2", "cell_type"].iloc[0]
    with quiet():
        chosen = cn.read_anndata(tissue.path, where=f"slide == 'slide_2' and cell_type == {kind!r}")
    assert 0 < chosen.n_obs < sdata["table"].n_obs / 2
    assert get_table_keys(chosen)[0] == ["slide_2_cells"]
    sdata.tables["chosen"] = chosen
    _, joined = sd.join_spatialelement_table(
        sdata, spatial_element_names="slide_2_cells", table_name="chosen", how="inner"
    )
    assert joined.obs_names.tolist() == chosen.obs_names.tolist()


def test_a_store_gives_back_equal_elements_and_transformations(sdata: sd.SpatialData, tmp_path: Path) -> None:
    sdata.write(tmp_path / "a.zarr")
    again = sd.read_zarr(tmp_path / "a.zarr")
    for name in (*sdata.images, *sdata.shapes):
        assert get_transformation(again[name], get_all=True) == get_transformation(sdata[name], get_all=True), name
    with quiet():
        np.testing.assert_array_equal(cn.patches(again, "cell")[::40].values, cn.patches(sdata, "cell")[::40].values)


# --- scanpy ----------------------------------------------------------------------------------------------------------


def test_scanpy_knows_that_values_are_logarithms(adata: ad.AnnData, tissue: cn.datasets.SyntheticTissue) -> None:
    assert adata.uns["log1p"] == {"base": None}
    before, sc.settings.logfile = sc.settings.logfile, (log := io.StringIO())
    sc.pp.log1p(adata.copy())
    sc.settings.logfile = before
    assert "already log-transformed" in log.getvalue()
    sc.tl.rank_genes_groups(adata, "cell_type", method="t-test")
    for cell_type, markers in tissue.markers.items():
        if (adata.obs["cell_type"] == cell_type).sum() > 3:
            assert sc.get.rank_genes_groups_df(adata, cell_type)["names"].iloc[0] in markers


def test_filters_and_measures_equal_what_numpy_counts(adata: ad.AnnData) -> None:
    dense = adata.X.toarray()
    sc.pp.calculate_qc_metrics(adata, percent_top=None, log1p=False, inplace=True)
    np.testing.assert_array_equal(adata.obs["n_genes_by_counts"], (dense > 0).sum(axis=1))
    np.testing.assert_allclose(adata.obs["total_counts"], dense.sum(axis=1), rtol=1e-5)
    kept = adata.copy()
    threshold = int(np.median((dense > 0).sum(axis=1)))
    sc.pp.filter_cells(kept, min_genes=threshold)
    assert kept.n_obs == ((dense > 0).sum(axis=1) >= threshold).sum()
    assert kept.obsp["ccc_connectivities"].shape == (kept.n_obs, kept.n_obs)
    sc.pp.filter_genes(kept, min_cells=5)
    assert (np.asarray((kept.X > 0).sum(axis=0)) >= 5).all()


def test_the_way_from_variable_genes_to_clusters_and_a_map(adata: ad.AnnData) -> None:
    from sklearn.metrics import adjusted_rand_score

    sc.pp.highly_variable_genes(adata, n_top_genes=40)
    assert adata.var["highly_variable"].sum() == 40
    sc.pp.pca(adata, n_comps=10)
    share = np.var(adata[:, adata.var["highly_variable"]].X.toarray(), axis=0, ddof=1).sum()
    np.testing.assert_allclose(adata.uns["pca"]["variance"] / adata.uns["pca"]["variance_ratio"], share, rtol=1e-3)
    sc.pp.neighbors(adata, n_neighbors=10, method="gauss")  # method="umap" compiles for seconds
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    assert adjusted_rand_score(adata.obs["cell_type"], adata.obs["leiden"]) > 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap's own
        sc.tl.umap(adata, maxiter=5, init_pos="random")
    assert np.isfinite(adata.obsm["X_umap"]).all()


def test_the_graph_of_signals_is_a_neighbour_graph_of_scanpy(adata: ad.AnnData) -> None:
    sc.tl.leiden(adata, neighbors_key="ccc", key_added="ccc_domain", flavor="igraph", n_iterations=2, directed=False)
    connected = sp.csgraph.connected_components(adata.obsp["ccc_connectivities"], directed=False)[1]
    table = pd.crosstab(connected, adata.obs["ccc_domain"])
    assert ((table > 0).sum(axis=0) == 1).all(), "a cluster of a graph lies within one of its components"
    by_slide = pd.crosstab(adata.obs["slide"], adata.obs["ccc_domain"])
    assert ((by_slide > 0).sum(axis=0) == 1).all(), "no signal crosses slides"
    sc.tl.leiden(adata, obsp="ccc_connectivities", key_added="again", flavor="igraph", n_iterations=2, directed=False)
    assert adata.obs["again"].tolist() == adata.obs["ccc_domain"].tolist()


def test_scanpy_runs_on_a_lazy_matrix_and_finds_the_same(
    tissue: cn.datasets.SyntheticTissue, adata: ad.AnnData
) -> None:
    with quiet():
        lazy = cn.read_anndata(tissue.path, backed=True)
    for table in (lazy, adata):
        sc.pp.filter_genes(table, min_cells=3)
        sc.pp.calculate_qc_metrics(table, percent_top=None, inplace=True)
    assert isinstance(lazy.X, da.Array)
    np.testing.assert_allclose(lazy.obs["total_counts"], adata.obs["total_counts"], rtol=1e-5)
    assert lazy.var_names.tolist() == adata.var_names.tolist()
    genes = adata.var_names[:3].tolist()
    assert (lazy[:, genes].to_memory().X != adata[:, genes].X).nnz == 0


# --- squidpy ---------------------------------------------------------------------------------------------------------


def crosstab(graph: Any, labels: pd.Series, *, weights: bool) -> np.ndarray:
    """Return how much each type is linked to each, by plain numpy."""
    one_hot = pd.get_dummies(labels)[labels.cat.categories].to_numpy(float)
    dense = graph.toarray().astype(float)
    return one_hot.T @ (dense if weights else dense != 0) @ one_hot


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("key", ["ccc", "ccc_connectivities"])
@pytest.mark.parametrize("given", ["adata", "sdata"])
def test_interactions_equal_the_crosstab_of_the_links(
    sdata: sd.SpatialData, given: str, key: str, weights: bool, links: np.ndarray
) -> None:
    obj, options = (sdata, {"table_key": "table"}) if given == "sdata" else (sdata["table"], {})
    sq.gr.interaction_matrix(obj, "cell_type", connectivity_key=key, weights=weights, **options)
    labels = sdata["table"].obs["cell_type"]
    got = sdata["table"].uns["cell_type_interactions"]
    np.testing.assert_allclose(got, crosstab(sp.csr_matrix(links), labels, weights=weights), rtol=1e-4)
    assert np.trace(got) < got.sum()


@pytest.mark.parametrize("given", ["adata", "sdata"])
def test_enrichment_counts_the_links(sdata: sd.SpatialData, given: str) -> None:
    obj, options = (sdata, {"table_key": "table"}) if given == "sdata" else (sdata["table"], {})
    sq.gr.nhood_enrichment(
        obj, "cell_type", connectivity_key="ccc", n_perms=20, seed=0, show_progress_bar=False, **options
    )
    table = sdata["table"]
    counts = crosstab(table.obsp["ccc_connectivities"], table.obs["cell_type"], weights=False)
    np.testing.assert_array_equal(table.uns["cell_type_nhood_enrichment"]["count"], counts)


@pytest.mark.parametrize("given", ["adata", "sdata"])
def test_morans_i_over_signals_equals_its_formula(sdata: sd.SpatialData, given: str) -> None:
    obj, options = (sdata, {"table_key": "table"}) if given == "sdata" else (sdata["table"], {})
    genes = sdata["table"].var_names[:4].tolist()
    options |= {"connectivity_key": "ccc_connectivities", "genes": genes, "transformation": False}
    sq.gr.spatial_autocorr(obj, mode="moran", show_progress_bar=False, **options)
    table = sdata["table"]
    weights = table.obsp["ccc_connectivities"].toarray().astype(float)
    for gene in genes:
        z = table[:, [gene]].X.toarray().ravel().astype(float)
        z -= z.mean()
        expected = len(z) / weights.sum() * (z @ weights @ z) / (z @ z)
        assert table.uns["moranI"].loc[gene, "I"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("builder", ["radius", "delaunay", "knn"])
def test_neighbours_in_space_stay_on_their_slide(adata: ad.AnnData, builder: str) -> None:
    options = {"radius": {"radius": 60.0}, "knn": {"n_neighs": 5}}.get(builder, {})
    before = adata.obsm["spatial"].copy()
    getattr(sq.gr, f"spatial_neighbors_{builder}")(adata, library_key="slide", **options)
    graph = adata.obsp["spatial_connectivities"].tocoo()
    slides, xy = adata.obs["slide"].to_numpy(), adata.obsm["spatial"]
    assert (slides[graph.row] == slides[graph.col]).all()
    np.testing.assert_array_equal(xy, before)
    if builder == "radius":
        far = np.linalg.norm(xy[:, None] - xy[None], axis=2)
        near = (far <= 60) & (slides[:, None] == slides[None]) & ~np.eye(len(xy), dtype=bool)
        np.testing.assert_array_equal(graph.toarray() > 0, near)


def test_squidpy_finds_neighbours_through_spatialdata(sdata: sd.SpatialData) -> None:
    pixels = sdata["table"].obsm["spatial"].copy()
    systems = {"slide_1_cells": "slide_1_um", "slide_2_cells": "slide_2_um"}
    sq.gr.spatial_neighbors_radius(sdata, radius=30.0, elements_to_coordinate_systems=systems, table_key="table")
    table = sdata["table"]
    graph = table.obsp["spatial_connectivities"].tocoo()
    assert (np.linalg.norm(pixels[graph.row] - pixels[graph.col], axis=1) <= 30 / MPP + 1e-6).all()
    np.testing.assert_allclose(table.obsm["spatial"], pixels * MPP)  # what docs/tips.md warns of


def test_niches_on_the_table_go_back_under_a_legal_name(sdata: sd.SpatialData) -> None:
    table = sdata["table"].copy()
    sq.gr.spatial_neighbors_radius(table, radius=60.0, library_key="slide")
    sq.gr.calculate_niche(table, flavor="neighborhood", groups="cell_type", n_neighbors=15, resolutions=0.5)
    niches = table.obs["nhood_niche_res=0.5"]
    assert niches.nunique() > 1
    sdata["table"].obs["niche"] = niches
    TableModel.validate(sdata["table"])


@pytest.mark.filterwarnings("ignore:No data for colormapping:UserWarning")  # edges of one colour
def test_signals_are_drawn_on_the_tissue(adata: ad.AnnData) -> None:
    one = adata[adata.obs["slide"] == "slide_1"].copy()
    sq.pl.spatial_scatter(one, shape=None, color="cell_type", connectivity_key="ccc_connectivities", edges_width=0.2)
    assert plt.gcf().axes[0].collections
    plt.close("all")


# --- SpatialData -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "scale"), [("slide_1", 1.0), ("slide_1_um", MPP)])
def test_the_extent_is_that_of_the_circles(
    sdata: sd.SpatialData, tissue: cn.datasets.SyntheticTissue, system: str, scale: float
) -> None:
    cells = tissue.cells[tissue.cells["slide"] == "slide_1"]
    radius = cells["diameter"] / 2 / MPP
    extent = sd.get_extent(sdata["slide_1_cells"], coordinate_system=system)
    for axis in "xy":
        expected = (cells[axis] - radius).min() * scale, (cells[axis] + radius).max() * scale
        assert extent[axis] == pytest.approx(expected, rel=1e-6)


def test_the_slide_image_covers_the_slide(sdata: sd.SpatialData, tissue: cn.datasets.SyntheticTissue) -> None:
    for slide, image in tissue.slides.items():
        extent = sd.get_extent(sdata.images[f"{slide}_wsi"], coordinate_system=slide)
        height, width = image.shape[:2]
        assert extent["x"] == pytest.approx((0, width), rel=0.02)
        assert extent["y"] == pytest.approx((0, height), rel=0.02)


@pytest.mark.filterwarnings("ignore:The table is annotating:UserWarning")  # of the slide that the query drops
def test_a_box_holds_the_cells_whose_centres_it_holds(
    sdata: sd.SpatialData, tissue: cn.datasets.SyntheticTissue
) -> None:
    cells = tissue.cells[tissue.cells["slide"] == "slide_2"]
    low, high = cells[["x", "y"]].quantile(0.3).to_numpy(), cells[["x", "y"]].quantile(0.7).to_numpy()
    found = sd.bounding_box_query(
        sdata, ["x", "y"], min_coordinate=low * MPP, max_coordinate=high * MPP, target_coordinate_system="slide_2_um"
    )
    inside = ((cells[["x", "y"]] >= low) & (cells[["x", "y"]] <= high)).all(axis=1)
    expected = set(cells.loc[inside, "name"])
    assert expected
    assert set(found["table"].obs_names) == expected == set(found["slide_2_cells"].index)
    assert "slide_2_wsi" in found.images
    assert "slide_2_cell_patches" not in found.images
    index = sdata["table"].obs_names.get_indexer(found["table"].obs_names)
    whole = sdata["table"].obsp["ccc_connectivities"][index][:, index]
    assert (found["table"].obsp["ccc_connectivities"] != whole).nnz == 0


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning:spatialdata")  # 0.8 on pandas 3.1
def test_aggregating_by_a_region_counts_its_cells(sdata: sd.SpatialData, tissue: cn.datasets.SyntheticTissue) -> None:
    from shapely import box

    cells = tissue.cells[tissue.cells["slide"] == "slide_1"]
    middle = float(cells["x"].median()) + 0.25
    halves = [box(-1e4, -1e4, middle, 1e4), box(middle, -1e4, 1e4, 1e4)]
    import geopandas

    by = ShapesModel.parse(
        geopandas.GeoDataFrame(geometry=halves, index=["left", "right"]),
        transformations={"slide_1": sd.transformations.Identity()},
    )
    points = geopandas.GeoDataFrame(
        geometry=sdata["slide_1_cells"].geometry.to_list(), index=sdata["slide_1_cells"].index
    )
    assert points.within(halves[0]).sum() == (cells["x"] < middle).sum()
    got = sd.aggregate(
        values_sdata=sdata,
        values="slide_1_cells",
        by=by,
        value_key=sdata["table"].var_names[:3].tolist(),
        agg_func="sum",
        table_name="table",
        target_coordinate_system="slide_1",
    )["table"]
    assert got.obs["instance_id"].tolist() == ["left", "right"]
    total = sdata["table"][sdata["table"].obs["slide"] == "slide_1"].X[:, :3].sum(axis=0)
    counted = np.asarray(got.X.todense() if sp.issparse(got.X) else got.X)
    assert (counted.sum(axis=0) >= np.asarray(total).ravel() * 0.999).all(), "circles across the line count twice"
    apart = cells["x"] + cells["diameter"] / 2 / MPP < middle
    rows = sdata["table"].obs_names.get_indexer(cells.loc[apart, "name"])
    assert (counted[0] >= np.asarray(sdata["table"].X[rows, :3].sum(axis=0)).ravel() * 0.999).all()


# --- spatialdata-plot ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The table is annotating:UserWarning")  # of the slide that is not drawn
@pytest.mark.parametrize("system", ["slide_1", "slide_1_um"])
@pytest.mark.parametrize("image", ["slide_1_wsi", "slide_1_tissue"])
def test_images_and_circles_are_drawn_in_the_frame_of_the_slide(sdata: sd.SpatialData, system: str, image: str) -> None:
    _, ax = plt.subplots()
    (
        sdata.pl.render_images(image)
        .pl.render_shapes("slide_1_cells", color="cell_type", table_name="table")
        .pl.show(coordinate_systems=system, ax=ax)
    )
    extent = sd.get_extent(sdata.subset([image, "slide_1_cells"]), coordinate_system=system)
    assert sorted(ax.get_xlim()) == pytest.approx(extent["x"], rel=0.05, abs=5)
    assert sorted(ax.get_ylim()) == pytest.approx(extent["y"], rel=0.05, abs=5)
    assert ax.images
    assert ax.collections
    assert "cell_type_colors" not in sdata["table"].obs
    plt.close("all")


@pytest.mark.filterwarnings("ignore:The table is annotating:UserWarning")  # of the slide that is not drawn
@pytest.mark.parametrize("key", ["ccc", "ccc_connectivities"])
def test_the_graph_of_signals_is_drawn(sdata: sd.SpatialData, key: str) -> None:
    _, ax = plt.subplots()
    (
        sdata.pl.render_graph("slide_1_cells", connectivity_key=key, table_name="table")
        .pl.render_shapes("slide_1_cells")
        .pl.show(coordinate_systems="slide_1", ax=ax)
    )
    assert len(ax.collections) >= 2
    plt.close("all")
