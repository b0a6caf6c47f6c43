"""The real files: every value equals what a plain h5py loop reads, and what is written is what was read."""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import cellnet_sd as cn
from spellings import LEVELS
from truth_checks import assert_same_datasets, quiet

HER2ST_SLIDES = ["her2st_two_slides_1", "her2st_two_slides_2"]


@dataclass
class Plain:
    """What a plain h5py loop reads."""

    names: list[str] = field(default_factory=list)
    expression: list[NDArray[Any]] = field(default_factory=list)
    attributes: list[dict[str, Any]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    links: list[NDArray[Any]] = field(default_factory=list)

    @property
    def positions(self) -> NDArray[np.float64]:
        """Positions in the slide, px."""
        return np.array([[float(n) for n in a["Position_in_WSI"].strip("()").split(",")] for a in self.attributes])

    def attribute(self, name: str) -> list[Any]:
        """Return one attribute of every cell."""
        return [attributes[name] for attributes in self.attributes]


def plain(path: Path, container: str) -> Plain:
    """Read everything but the images with plain h5py, in name order."""
    found = Plain()
    with h5py.File(path) as root:
        for name, cell in root[container].items():
            ccc = cell["CCC"]
            links = np.zeros(ccc.attrs["shape"], "f4")
            for row, (start, stop) in enumerate(zip(ccc["indptr"][:-1], ccc["indptr"][1:], strict=True)):
                links[row, ccc["indices"][start:stop]] = ccc["data"][start:stop]
            found.names.append(name)
            found.expression.append(cell["expression"][()])
            found.attributes.append(json.loads(cell["attributes.json"].asstr()[()]))
            found.captions.append(cell["caption.txt"].asstr()[()])
            found.links.append(links)
    return found


def check_against(adata: Any, expected: Plain) -> None:
    """Compare a table with what the loop read."""
    assert adata.obs_names.tolist() == expected.names
    np.testing.assert_array_equal(adata.X.toarray(), np.stack(expected.expression))
    assert adata.X.dtype == np.float32
    assert adata.uns["log1p"] == {"base": None}
    assert adata.obs["caption"].tolist() == expected.captions
    for name in ("source", "tissue", "cell_type", "cell_disease_state", "tissue_disease_state", "st_technology"):
        assert isinstance(adata.obs[name].dtype, pd.CategoricalDtype)
        assert adata.obs[name].tolist() == expected.attribute(name)
    np.testing.assert_array_equal(adata.obsm["spatial"], expected.positions)
    in_tissue = [[float(n) for n in text.strip("()").split(",")] for text in expected.attribute("Position_in_tissue")]
    np.testing.assert_array_equal(adata.obsm["spatial_tissue"], in_tissue)
    diameters = [float(text.removesuffix(" µm")) for text in expected.attribute("cell_diameter")]
    np.testing.assert_array_equal(adata.obs["cell_diameter"], diameters)
    total = np.stack([links.sum(axis=0) for links in expected.links])
    np.testing.assert_allclose(adata.obsp["ccc_connectivities"].toarray(), total, rtol=1e-6)


def check_patches(path: Path, container: str, names: list[str]) -> None:
    """Compare every patch of every level with what the loop reads."""
    with h5py.File(path) as root:
        for level, key in LEVELS.items():
            stack = cn.patches(path, level)
            assert stack.sizes["cell"] == len(names)
            for start in range(0, len(names), 64):
                values = stack[start : start + 64].values
                for got, name in zip(values, names[start : start + 64], strict=True):
                    stored = root[container][name]["images"][key][()]
                    assert got.dtype == np.uint8
                    np.testing.assert_array_equal(got[: stored.shape[0], : stored.shape[1]], stored)


def link_lengths(adata: Any, mpp: float) -> NDArray[np.float64]:
    """Return the length of every link, µm."""
    links = adata.obsp["ccc_connectivities"].tocoo()
    apart = adata.obsm["spatial"][links.row] - adata.obsm["spatial"][links.col]
    return np.hypot(*apart.T) * mpp


def placed_scale(image: Any, system: str) -> NDArray[np.float64]:
    """Return the scale that places an image in a coordinate system."""
    from spatialdata.transformations import get_transformation

    matrix = get_transformation(image, system).to_affine_matrix(("x", "y"), ("x", "y"))
    return np.diag(matrix)[:2]


# --- two breast tumour sections --------------------------------------------------------------------------------------


def test_her2st_table_equals_a_plain_loop(her2st: Path) -> None:
    with quiet():
        adata = cn.read_anndata(her2st)
    check_against(adata, plain(her2st, "/"))


def test_her2st_genes_come_from_the_list_beside_it(her2st: Path) -> None:
    rows = gzip.decompress(her2st.with_suffix(".genes.tsv.gz").read_bytes()).decode().splitlines()
    ids, names, types = zip(*(row.split("\t") for row in rows), strict=True)
    with quiet():
        adata = cn.read_anndata(her2st)
    assert adata.n_vars == 36601
    assert adata.var["gene_ids"].tolist() == list(ids)
    assert adata.var["feature_types"].tolist() == list(types)
    assert adata.var_names.is_unique
    once = ~pd.Series(names).duplicated(keep=False).to_numpy()
    assert (adata.var_names[once] == np.array(names)[once]).all()


def test_her2st_has_two_slides_without_any_slide_attribute(her2st: Path) -> None:
    with quiet():
        adata = cn.read_anndata(her2st)
    assert adata.obs["slide"].value_counts().to_dict() == dict.fromkeys(HER2ST_SLIDES, 110)
    with h5py.File(her2st) as root:
        images = [root[name]["images/WSI_patch"][()].tobytes() for name in adata.obs_names]
    assert len(set(zip(images, adata.obs["slide"], strict=True))) == len(set(images)) == 2


def test_her2st_links_join_cells_within_reach(her2st: Path) -> None:
    with quiet():
        adata = cn.read_anndata(her2st)
    links = adata.obsp["ccc_connectivities"]
    assert links.shape == (220, 220)
    assert links.nnz > 0
    assert link_lengths(adata, 200 / 274).max() <= 215
    slides = adata.obs["slide"].to_numpy()
    rows, columns = links.nonzero()
    assert (slides[rows] == slides[columns]).all()


def test_her2st_patches_equal_a_plain_loop(her2st: Path) -> None:
    with quiet():
        check_patches(her2st, "/", plain(her2st, "/").names)


def test_her2st_elements_and_coordinate_systems(her2st: Path) -> None:
    with quiet():
        sdata = cn.read(her2st, patches=("cell",))
    systems = {f"{slide}{suffix}" for slide in HER2ST_SLIDES for suffix in ("", "_um", "_patches")}
    assert set(sdata.coordinate_systems) == systems
    for slide in HER2ST_SLIDES:
        assert {f"{slide}_wsi", f"{slide}_cell_patches"} <= set(sdata.images)
        circles = sdata.shapes[f"{slide}_cells"]
        assert len(circles) == 110
        np.testing.assert_allclose(circles["radius"], 50 / (200 / 274), rtol=1e-3)
        np.testing.assert_allclose(placed_scale(sdata.images[f"{slide}_wsi"], slide), 96)
    assert list(sdata.tables) == ["table"]


def test_her2st_is_written_as_it_was_read(her2st: Path, tmp_path: Path) -> None:
    with quiet():
        sdata = cn.read(her2st, ccc="pairs", patches=("cell", "tissue"))
        cn.write(sdata, tmp_path / her2st.name)
        again = cn.read_anndata(tmp_path / her2st.name)
    assert_same_datasets(her2st, tmp_path / her2st.name)
    check_against(again, plain(her2st, "/"))
    assert again.obs["slide"].tolist() == sdata["table"].obs["slide"].tolist()
    assert again.var_names.tolist() == sdata["table"].var_names.tolist()


# --- lung cells ------------------------------------------------------------------------------------------------------


def test_lung_table_equals_a_plain_loop(lung: Path) -> None:
    with quiet():
        adata = cn.read_anndata(lung)
    expected = plain(lung, "NCBI858")
    check_against(adata, expected)
    with h5py.File(lung) as root:
        assert adata.var_names.tolist() == root["gene_names"].asstr()[()].tolist()
    assert adata.n_vars == 338
    assert adata.obs["slide"].unique().tolist() == ["NCBI858"]


def test_lung_keeps_its_extra_attributes_under_legal_names(lung: Path) -> None:
    with quiet():
        adata = cn.read_anndata(lung)
    expected = plain(lung, "NCBI858")
    assert pd.api.types.is_integer_dtype(adata.obs["nb_genes"])
    assert adata.obs["nb_genes"].tolist() == expected.attribute("nb_genes")
    assert adata.obs["study_link"].tolist() == expected.attribute("study_link")
    title = [column for column in adata.obs if adata.obs[column].tolist() == expected.attribute("dataset title")]
    assert len(title) == 1
    assert all(c.isalnum() or c in "_-." for c in title[0])


def test_lung_links_join_cells_within_reach_and_come_in_seven_pairs(lung: Path) -> None:
    with quiet():
        adata = cn.read_anndata(lung, ccc="pairs")
    assert link_lengths(adata, 2.125).max() <= 200
    with h5py.File(lung) as root:
        pairs = root["NCBI858"].attrs["ccc_pairs"].tolist()
    assert list(adata.uns["ccc_pairs"]) == pairs
    expected = np.stack(plain(lung, "NCBI858").links, axis=1)
    assert len(pairs) == len(expected) == 7
    for pair, links in zip(pairs, expected, strict=True):
        np.testing.assert_array_equal(adata.obsp[f"ccc-{pair}_connectivities"].toarray(), links)


def test_lung_patches_equal_a_plain_loop(lung: Path) -> None:
    with quiet():
        check_patches(lung, "NCBI858", plain(lung, "NCBI858").names)


def test_lung_elements_and_coordinate_systems(lung: Path) -> None:
    with quiet():
        sdata = cn.read(lung, patches=("cell",))
    assert set(sdata.coordinate_systems) == {"NCBI858", "NCBI858_um", "NCBI858_patches"}
    assert {"NCBI858_wsi", "NCBI858_cell_patches"} <= set(sdata.images)
    circles = sdata.shapes["NCBI858_cells"]
    np.testing.assert_allclose(circles["radius"], 4.5 / 2.125)
    np.testing.assert_array_equal([[p.x, p.y] for p in circles.geometry], plain(lung, "NCBI858").positions)
    np.testing.assert_allclose(placed_scale(circles, "NCBI858_um"), 2.125)
    np.testing.assert_allclose(placed_scale(sdata.images["NCBI858_wsi"], "NCBI858"), 16)
    assert "2.125" in str(sdata.attrs["cellnet_sd"])


def test_lung_is_written_as_it_was_read(lung: Path, tmp_path: Path) -> None:
    with quiet():
        sdata = cn.read(lung, ccc="pairs", patches=("cell", "tissue"))
        cn.write(sdata, tmp_path / lung.name)
        again = cn.read_anndata(tmp_path / lung.name, ccc="pairs")
    assert_same_datasets(lung, tmp_path / lung.name)
    check_against(again, plain(lung, "NCBI858"))
    assert list(again.uns["ccc_pairs"]) == list(sdata["table"].uns["ccc_pairs"])


# --- both ------------------------------------------------------------------------------------------------------------


def test_both_are_written_as_they_were_read(her2st: Path, lung: Path, tmp_path: Path) -> None:
    with quiet():
        sdata = cn.read([her2st, lung], expression=False, ccc=False)
        again = cn.read(cn.write(sdata, tmp_path / "both.h5"), expression=False, ccc=False)
    assert set(again.coordinate_systems) == set(sdata.coordinate_systems)
    assert set(again.images) == set(sdata.images)
    for what in ("mpp", "wsi_scale", "patch_sizes"):
        assert again.attrs["cellnet_sd"][what] == sdata.attrs["cellnet_sd"][what]
    for name, circles in sdata.shapes.items():
        np.testing.assert_allclose(again.shapes[name]["radius"], circles["radius"])
    for slide in [*HER2ST_SLIDES, "NCBI858"]:
        system = f"{slide}_wsi"
        np.testing.assert_array_equal(
            placed_scale(again.images[system], slide), placed_scale(sdata.images[system], slide)
        )


# --- SpatialData's own store -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "images"), [("lung", True), ("her2st", ("wsi", "cell"))])
def test_a_zarr_store_gives_the_same_object_back(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, images: Any
) -> None:
    import spatialdata as sd
    from spatialdata.testing import assert_spatial_data_objects_are_identical

    with quiet():
        sdata = cn.read(request.getfixturevalue(name), images=images, patches=("cell",), ccc="pairs")
        sdata.write(tmp_path / "out.zarr")
        again = sd.read_zarr(tmp_path / "out.zarr")
    assert_spatial_data_objects_are_identical(sdata, again)


@pytest.mark.parametrize("name", ["lung", "her2st"])
def test_what_is_converted_is_what_is_read(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    import anndata as ad
    import spatialdata as sd
    from anndata.tests.helpers import assert_equal
    from spatialdata.testing import assert_spatial_data_objects_are_identical

    path = request.getfixturevalue(name)
    with quiet():
        sdata, table = cn.read(path, ccc="pairs"), cn.read_anndata(path, ccc="pairs")
        out = cn.convert(path, tmp_path / "out.zarr", ccc="pairs")
        h5ad = cn.convert(path, tmp_path / "out.h5ad", ccc="pairs")
        of_table = cn.convert(path, tmp_path / "table.zarr", kind="anndata", ccc="pairs")
    assert_spatial_data_objects_are_identical(sd.read_zarr(out), sdata)
    reopened = cn.open_store(out)
    assert_equal(_as_values(reopened["table"]), _as_values(sdata["table"]), exact=True)
    del reopened.tables["table"]
    assert_spatial_data_objects_are_identical(reopened, sdata.subset(list(sdata.images) + list(sdata.shapes)))
    for got in (ad.read_h5ad(h5ad), ad.read_zarr(of_table), *map(cn.open_store, (h5ad, of_table))):
        assert_equal(_as_values(got), _as_values(table), exact=True)


def _as_values(table: Any) -> Any:
    """Return a table in memory, COMMOT's list of pairs as a dict: anndata gives its dtype back as another."""
    table = table.to_memory()
    if (info := table.uns.get("commot-cellnet-info")) is not None:
        info["df_ligrec"] = {name: column.tolist() for name, column in info["df_ligrec"].items()}
    return table
