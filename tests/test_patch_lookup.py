"""`cn.patches`: each cell's own patch, after whatever became of the object, and of the file it came from."""

from pathlib import Path
from typing import Any

import anndata as ad
import annsel as an
import h5py
import numpy as np
import pytest
import spatialdata as sd
from spatialdata import bounding_box_query, filter_by_table_query, match_sdata_to_table

import cellnet_sd as cn
from cellnet_sd.errors import CellNetWarning, LayoutError, SourceMovedError
from truth_checks import quiet

N = 12
"""Cells per file; their slides alternate, and cell 5 has no patch."""


def write_cells(path: Path, *, first: int = 0, prefix: str = "Cell", side: int = 4) -> Path:
    """Write cells whose patches hold their number, which counts from `first`."""
    with h5py.File(path, "w", track_order=True) as root:
        root["gene_names"], root.attrs["mpp"] = ["A", "B"], 1.0
        for row in range(N):
            cell = root.create_group(f"{prefix}_{row}")
            cell["expression"] = np.array([first + row + 0.5, 0], "f4")
            cell["attributes.json"] = (
                f'{{"slide": "s{row % 2}", "Position_in_WSI": "({10 * row}, 5)", "cell_diameter": "4 µm"}}'
            )
            if row != 5:
                cell["images/cell_patch"] = np.full((side, side, 3), first + row, np.uint8)
                cell["images/tissue_patch"] = np.full((9, 9, 3), 100 + first + row, np.uint8)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of 12 cells on two slides."""
    return write_cells(tmp_path / "a.h5")


@pytest.fixture
def adata(path: Path) -> ad.AnnData:
    """Return its table."""
    with quiet():
        return cn.read_anndata(path)


@pytest.fixture
def sdata(path: Path) -> sd.SpatialData:
    """Return it all, with stacks of both kinds."""
    with quiet():
        return cn.read(path, patches=("cell", "tissue"))


def check(obj: Any, level: str = "cell", **options: Any) -> None:
    """Compare the patches of an object with its own expression, which holds the number of each cell."""
    table = obj["table"] if isinstance(obj, sd.SpatialData) else obj
    with quiet():
        stack = cn.patches(obj, level, **options)
        values = stack.values
    assert stack["cell"].values.tolist() == table.obs_names.tolist()
    assert stack.dims == ("cell", "y", "x", "c")
    numbers = table.to_memory().X.toarray()[:, 0] - 0.5
    lacking = np.array([str(name).split("_")[1].split("-")[0] == "5" for name in table.obs["cell_id"]])
    expected = np.where(lacking, 255, numbers + (100 if level == "tissue" else 0))
    np.testing.assert_array_equal(values[:, 0, 0, 0], expected)
    assert (values == values[:, :1, :1, :1]).all()


# --- whatever becomes of the table -----------------------------------------------------------------------------------

SHUFFLED = np.random.default_rng(0).permutation(N)
CHANGES = {
    "as read": lambda table: table,
    "subset": lambda table: table[3:8],
    "subset and copied": lambda table: table[table.obs["slide"] == "s1"].copy(),
    "reordered": lambda table: table[SHUFFLED],
    "reordered and copied": lambda table: table[SHUFFLED].copy(),
    "one cell": lambda table: table[[7]],
    "subset by gene": lambda table: table[:, ["A"]].copy(),
    "twice subset": lambda table: table[::-2][1:4].copy(),
    "put together again": lambda table: ad.concat([table[6:], table[:6]], uns_merge="same"),
    "without provenance": lambda table: ad.concat([table[6:], table[:6]]),
}


@pytest.mark.parametrize("level", ["cell", "tissue"])
@pytest.mark.parametrize("change", CHANGES)
def test_patches_follow_their_cells(adata: ad.AnnData, change: str, level: str) -> None:
    check(CHANGES[change](adata), level)


def test_patches_follow_their_cells_through_a_selection_on_reading(path: Path) -> None:
    with quiet():
        check(cn.read_anndata(path, cells=["Cell_9", "Cell_2", "Cell_5"]))
        check(cn.read_anndata(path, slides=["s1"], where="cell_diameter > 1", backed=True, images=False))
        check(cn.read(path, cells=[11, 0, 3]))


def test_patches_follow_their_cells_in_another_order_of_the_rows(path: Path) -> None:
    with quiet():
        table = cn.read_anndata(path, cell_order="name")
    assert table.obs_names.tolist() == sorted(f"Cell_{row}" for row in range(N))
    check(table)
    check(table[::-1].copy())


def test_patches_follow_their_cells_through_h5ad(adata: ad.AnnData, tmp_path: Path) -> None:
    adata[SHUFFLED].copy().write_h5ad(tmp_path / "a.h5ad")
    check(ad.read_h5ad(tmp_path / "a.h5ad"))


# --- of several files ------------------------------------------------------------------------------------------------


@pytest.fixture
def two(adata: ad.AnnData, tmp_path: Path) -> list[ad.AnnData]:
    """Return the tables of two files whose cells have the same names."""
    with quiet():
        return [adata, cn.read_anndata(write_cells(tmp_path / "b.h5", first=50))]


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
@pytest.mark.parametrize("unique", ["-", "_", None])
def test_patches_of_two_files_in_one_table(two: list[ad.AnnData], unique: str | None) -> None:
    merged = ad.concat(two, label="file", index_unique=unique)
    merged.obs_names_make_unique()
    check(merged)
    check(merged[np.random.default_rng(1).permutation(2 * N)[:15]])


def test_patches_of_two_files_of_different_sizes_are_padded(adata: ad.AnnData, tmp_path: Path) -> None:
    with quiet():
        other = cn.read_anndata(write_cells(tmp_path / "b.h5", first=50, side=6))
    both = ad.concat([adata, other], index_unique="-")
    said = r"cell patches are 4 by 4 px in .*a\.h5, 6 by 6 px in .*b\.h5: padded all round with white to 6 by 6 px"
    with pytest.warns(CellNetWarning, match=said) as caught:
        stack = cn.patches(both)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with quiet() as caught:
        values = stack.values
        cn.patches(both, "tissue")  # all of one size
        cn.write(both, tmp_path / "both.h5")  # each in its own size
    assert not any("padded" in str(each.message) for each in caught)
    assert stack.shape == (2 * N, 6, 6, 3)
    assert values[N + 3].min() == values[N + 3].max() == 53
    assert (values[3] == 3).all(axis=-1).sum() == 16


# --- SpatialData -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The table is annotating:UserWarning")  # of an element that a query drops
@pytest.mark.parametrize("level", ["cell", "tissue"])
def test_patches_survive_the_queries_of_spatialdata(sdata: sd.SpatialData, level: str) -> None:
    box = bounding_box_query(
        sdata, ["x", "y"], min_coordinate=[15, 0], max_coordinate=[85, 10], target_coordinate_system="s0"
    )
    assert box["table"].obs_names.tolist() == ["Cell_2", "Cell_4", "Cell_6", "Cell_8"]
    check(box, level)
    by_table = filter_by_table_query(sdata, "table", obs_expr=an.col("slide") == "s1")
    assert len(by_table["table"]) == N // 2
    assert not by_table.images
    check(by_table, level)
    matched = match_sdata_to_table(sdata, "table", table=sdata["table"][[8, 3, 5]].copy())
    assert set(matched["table"].obs_names) == {"Cell_8", "Cell_3", "Cell_5"}
    check(matched, level)
    check(sdata.subset(["table"]), level)


@pytest.mark.parametrize("level", ["cell", "tissue"])
def test_patches_come_from_the_store_when_the_source_is_gone(sdata: sd.SpatialData, path: Path, level: str) -> None:
    sdata.write(path.with_name("a.zarr"))
    stored = sd.read_zarr(path.with_name("a.zarr"))
    check(stored, level)
    path.unlink()
    path.with_name("a.h5.cnindex").unlink()
    check(stored, level)
    stored.tables["table"] = stored["table"][SHUFFLED[:7]].copy()
    check(stored, level)
    with pytest.raises(SourceMovedError, match=r"a\.h5"):
        cn.patches(stored["table"], level)
    with pytest.raises(SourceMovedError, match=r"a\.h5"):
        cn.patches(stored, "wsi")


def test_an_element_of_a_store_is_read_without_dask_until_it_is_changed(
    sdata: sd.SpatialData, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdata.write(path.with_name("a.zarr"))
    stored = sd.read_zarr(path.with_name("a.zarr"))
    path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr("dask.array.Array.__array__", lambda *_, **__: pytest.fail("dask was asked"))
        check(stored)
    for name in [name for name in stored.images if name.endswith("cell_patches")]:
        stored.images[name].data = 255 - stored.images[name].data
    with quiet():
        assert cn.patches(stored)[[8, 3]].values[:, 0, 0, 0].tolist() == [255 - 8, 255 - 3]


def test_a_table_of_another_name_is_found_by_it(sdata: sd.SpatialData) -> None:
    sdata.tables["chosen"] = sdata["table"][[4, 3]].copy()
    with quiet():
        assert cn.patches(sdata, table="chosen").values[:, 0, 0, 0].tolist() == [4, 3]


# --- a source that moved, or is another ------------------------------------------------------------------------------


def test_a_moved_source_is_an_error_that_names_it_and_source_points_to_it(adata: ad.AnnData, path: Path) -> None:
    moved = path.rename(path.with_name("moved.h5"))
    with pytest.raises(SourceMovedError, match="source=") as caught:
        cn.patches(adata)
    assert str(path) in str(caught.value)
    check(adata, source=moved)
    check(adata[[5, 2]], source=str(moved))
    with pytest.raises(SourceMovedError, match=r"nowhere\.h5"):
        cn.patches(adata, source=path.with_name("nowhere.h5"))


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(("lost", "words"), [(False, "contents differ"), (True, "other cells")])
def test_a_source_whose_rows_are_other_cells_is_refused(  # `lost`: the provenance, as when tables are concatenated
    adata: ad.AnnData, path: Path, given: bool, lost: bool, words: str
) -> None:
    other = write_cells(path.with_name("other.h5"), prefix="Zelle")
    if not given:
        other.replace(path)
    if lost:
        del adata.uns["cellnet_sd"]
    with pytest.raises(SourceMovedError, match=words):
        cn.patches(adata, source=other if given else None)


def test_a_source_that_is_shorter_is_refused(adata: ad.AnnData, path: Path) -> None:
    del adata.uns["cellnet_sd"]
    with h5py.File(path, "a") as root:
        del root[f"Cell_{N - 1}"]
    with quiet():
        assert cn.patches(adata[:3]).shape[0] == 3
    with pytest.raises(SourceMovedError, match="other cells"):
        cn.patches(adata)


def test_names_that_begin_alike_are_not_the_same_cell(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", track_order=True) as root:
        for name in ("Cell_1", "Cell_1-1"):
            root[f"{name}/expression"] = np.array([0.5], "f4")
            root[f"{name}/images/cell_patch"] = np.zeros((2, 2, 3), "u1")
    with quiet():
        table = cn.read_anndata(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a", track_order=True) as root:
        root.move("Cell_1-1", "x")
        root.move("Cell_1", "Cell_2")
        root.move("x", "Cell_1")
    with pytest.raises(SourceMovedError):
        cn.patches(table)


# --- what there is none of -------------------------------------------------------------------------------------------


def test_cells_without_a_patch_are_white_and_counted(adata: ad.AnnData) -> None:
    stack = cn.patches(adata)
    with pytest.warns(CellNetWarning, match="1 cells have no"):
        assert (stack[5].values == 255).all()
    assert adata.obs["cell_patch"].tolist() == [0, 0, 1, 1, 2, -1, 3, 2, 4, 3, 5, 4]


def test_what_cannot_be_found_is_an_error_that_says_why(adata: ad.AnnData, path: Path) -> None:
    with pytest.raises(ValueError, match="'cell', 'tissue', 'wsi'"):
        cn.patches(path, "organ")
    with pytest.raises(LayoutError, match="no wsi patches"):
        cn.patches(path, "wsi")
    with pytest.raises(LayoutError, match="no wsi patches"):
        cn.patches(adata, "wsi")
    del adata.obs["source_row"]
    with pytest.raises(LayoutError, match="source_row"):
        cn.patches(adata)
    with pytest.raises(FileNotFoundError):
        cn.patches(path.with_name("nowhere.h5"))


@pytest.mark.parametrize("from_slide", [True, False])
def test_a_table_that_is_not_there_is_named(sdata: sd.SpatialData, from_slide: bool) -> None:
    sdata["mine"] = sdata.tables.pop("table")
    with pytest.raises(LayoutError, match=r"no table 'table' of cells \(tables: 'mine'\)\. Pass table="):
        cn.patches(sdata, "cell", from_slide=from_slide)
