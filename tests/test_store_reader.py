"""`open_store`: a converted store, reopened lazily, equals what was converted; nothing else is taken for one."""

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import spatialdata as sd
import zarr
from h5py import h5f
from spatialdata.models import TableModel

import cellnet_sd as cn
from cellnet_sd.conversion import tables
from cellnet_sd.conversion.workspace import workspace
from cellnet_sd.errors import ConversionError, LayoutError, RemoteError, SourceMovedError
from counting import store_reads
from truth_checks import quiet

CHUNK = 256
KINDS = {"spatialdata.zarr": {}, "anndata.zarr": {"kind": "anndata"}, "anndata.h5ad": {}}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> cn.datasets.SyntheticTissue:
    """Return the truth about 300 cells on two slides."""
    path = tmp_path_factory.mktemp("stores") / "tissue.h5"
    return cn.datasets.synthetic(path, n_cells=300, n_genes=60, n_slides=2, mpp=1.0, progress=False)


@pytest.fixture(scope="module")
def stores(truth: cn.datasets.SyntheticTissue) -> Iterator[dict[str, Path]]:
    """Return it converted to each kind of store, `X` in many chunks."""
    with pytest.MonkeyPatch.context() as patch, quiet():
        patch.setattr(tables, "VALUE_CHUNK", CHUNK)
        patch.setattr(tables, "VALUE_SHARD", 4 * CHUNK)
        yield {name: cn.convert(truth.path, truth.path.parent / name, **kind) for name, kind in KINDS.items()}


@pytest.fixture
def in_blocks() -> Iterator[None]:
    """Let blocks be as small as they get."""
    before, cn.settings.batch_bytes = cn.settings.batch_bytes, 2**12
    yield
    cn.settings.batch_bytes = before


def table_of(store: sd.SpatialData | ad.AnnData) -> ad.AnnData:
    """Return the table of a store."""
    return store["table"] if isinstance(store, sd.SpatialData) else store


def values(truth: cn.datasets.SyntheticTissue) -> np.ndarray:
    """Return the expression of all cells, by plain h5py."""
    with h5py.File(truth.path) as root:
        return np.stack([root[f"{cell.slide}/{cell.name}/expression"][()] for cell in truth.cells.itertuples()])


# --- what is in it ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("name", KINDS)
def test_the_table_is_that_of_the_file_with_a_lazy_matrix(
    truth: cn.datasets.SyntheticTissue, stores: dict[str, Path], name: str
) -> None:
    got = table_of(cn.open_store(stores[name]))
    with quiet():
        expected = cn.read_anndata(truth.path)
    assert isinstance(got.X, da.Array)
    assert got.X.dtype == np.float32
    assert got.X.chunks == ((64, 64, 64, 64, 44), (60,))
    blocks = [got.X.blocks[i].compute() for i in range(got.X.numblocks[0])]
    assert {type(block) for block in blocks} == {sp.csr_matrix}
    np.testing.assert_array_equal(np.vstack([block.toarray() for block in blocks]), values(truth))
    assert type(got.obs) is pd.DataFrame
    pd.testing.assert_frame_equal(got.obs, expected.obs, check_column_type=False)
    pd.testing.assert_frame_equal(got.var, expected.var)
    for key in expected.obsm:
        np.testing.assert_array_equal(got.obsm[key], expected.obsm[key])
    for key in expected.obsp:
        assert got.obsp[key].format == "csr"
        assert (got.obsp[key] != expected.obsp[key]).nnz == 0
    assert dict(got.uns["cellnet_sd"]) == expected.uns["cellnet_sd"]


def test_the_elements_are_those_that_spatialdata_reads(stores: dict[str, Path]) -> None:
    got, expected = cn.open_store(stores["spatialdata.zarr"]), sd.read_zarr(stores["spatialdata.zarr"])
    assert {name for _, name, _ in got.gen_elements()} == {name for _, name, _ in expected.gen_elements()}
    assert got.coordinate_systems == expected.coordinate_systems
    assert got.attrs == expected.attrs
    assert got.path == expected.path
    TableModel.validate(got["table"])
    assert got["table"].uns["spatialdata_attrs"] == expected["table"].uns["spatialdata_attrs"]
    level = got.images["slide_1_tissue"]["scale0"]["image"]
    assert isinstance(level.data, da.Array)
    np.testing.assert_array_equal(level.values, expected.images["slide_1_tissue"]["scale0"]["image"].values)


def test_a_table_without_expression_has_none(truth: cn.datasets.SyntheticTissue, tmp_path: Path) -> None:
    with quiet():
        out = cn.convert(truth.path, tmp_path / "out.zarr", kind="anndata", expression=False, ccc=False)
    assert cn.open_store(out).X is None
    assert cn.open_store(out).n_obs == 300


# --- lazily ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_blocks")
@pytest.mark.parametrize("name", ["spatialdata.zarr", "anndata.zarr"])
def test_opening_reads_no_value_and_rows_read_only_the_chunks_they_lie_in(
    truth: cn.datasets.SyntheticTissue, stores: dict[str, Path], name: str
) -> None:
    with store_reads() as reads:
        table = table_of(cn.open_store(stores[name]))
    assert reads
    assert not [path for path, _ in reads if "/X/" in path and "/c/" in path]
    with store_reads() as reads:
        table.X[64:128].compute()
    ends = np.concatenate([[0], np.count_nonzero(values(truth), axis=1).cumsum()])
    chunks = range(ends[64] // CHUNK, (ends[128] - 1) // CHUNK + 1)
    assert len(chunks) < ends[-1] / CHUNK / 3
    for array in ("data", "indices"):
        read = [path for path, _ in reads if f"/X/{array}/c/" in path]
        shards = {chunk // 4 for chunk in chunks}
        assert {int(path.rpartition("/")[2]) for path in read} == shards
        assert len(read) <= len(chunks) + len(shards), "each chunk once, and the index of each shard"


def test_the_pointers_of_a_long_table_are_not_all_read_for_a_block(stores: dict[str, Path]) -> None:
    pointers = zarr.open_array(stores["anndata.zarr"] / "X" / "indptr", mode="r")
    assert pointers.chunks == (CHUNK,)
    assert pointers.shards == (4 * CHUNK,)


@pytest.mark.usefixtures("in_blocks")
def test_an_h5ad_is_read_block_by_block(stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read, get = [], h5py.Dataset.__getitem__

    def counting(self: h5py.Dataset, key: Any, *args: Any, **options: Any) -> Any:
        got = get(self, key, *args, **options)
        read.append((self.name, np.size(got)))
        return got

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    before = h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE)
    lazy = cn.open_store(stores["anndata.h5ad"]).X
    assert not [name for name, _ in read if name.startswith("/X/")]
    block = lazy.blocks[1].compute(scheduler="synchronous")
    assert [size for name, size in read if name == "/X/data"] == [block.nnz]
    assert h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE) == before


IN_ANOTHER_PROCESS = """
import pickle, sys
lazy = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps([x.compute(scheduler="synchronous") for x in lazy]))
"""


def test_lazy_parts_are_computed_in_another_process(
    truth: cn.datasets.SyntheticTissue, stores: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(truth.path.parent)
    opened = {name: cn.open_store(name) for name in KINDS}  # by a path that leads nowhere from elsewhere
    image = opened["spatialdata.zarr"].images["slide_2_tissue"]["scale0"]["image"]
    sent = pickle.dumps([*(table_of(store).X for store in opened.values()), image[:, :50, :50]])
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS], input=sent, capture_output=True, check=True, cwd=tmp_path
    )
    *matrices, pixels = pickle.loads(done.stdout)
    for matrix in matrices:
        np.testing.assert_array_equal(matrix.toarray(), values(truth))
    np.testing.assert_array_equal(pixels, image[:, :50, :50])


# --- changed in place ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")  # of Parquet files, and that metadata are gathered
@pytest.mark.parametrize("name", KINDS)
def test_a_column_is_added_in_place_as_the_docs_say(
    truth: cn.datasets.SyntheticTissue, stores: dict[str, Path], tmp_path: Path, name: str
) -> None:
    copy = shutil.copy if stores[name].is_file() else shutil.copytree
    path = Path(copy(stores[name], tmp_path / name))
    table = table_of(cn.open_store(path))
    table.obs["niche"], table.obsm["X_pca"] = np.arange(300) % 7, np.ones((300, 2))
    opened = h5py.File(path, "r+") if path.is_file() else None
    inside = "tables/table" if name == "spatialdata.zarr" else None
    group = opened or zarr.open_group(path, path=inside, mode="r+", use_consolidated=False)
    ad.io.write_elem(group, "obs", table.obs)
    ad.io.write_elem(group["obsm"], "X_pca", table.obsm["X_pca"])
    if opened:
        opened.close()
    else:
        zarr.consolidate_metadata(path)
    for each in (table, table_of(cn.open_store(path))):
        np.testing.assert_array_equal(each.X.compute().toarray(), values(truth))
        assert each.obs["niche"].tolist() == [n % 7 for n in range(300)]
        assert (each.obsm["X_pca"] == 1).all()


@pytest.mark.parametrize("name", KINDS)
def test_blocks_of_a_store_that_became_another_are_an_error(
    truth: cn.datasets.SyntheticTissue, stores: dict[str, Path], tmp_path: Path, name: str
) -> None:
    copy = shutil.copy if stores[name].is_file() else shutil.copytree
    path = Path(copy(stores[name], tmp_path / name))
    lazy = table_of(cn.open_store(path)).X
    with quiet():
        cn.convert(truth.path, path, overwrite=True, genes=cn.open(truth.path).var_names[:50].tolist(), **KINDS[name])
    with pytest.raises(SourceMovedError, match="written anew after it was opened"):
        lazy.compute()


def test_an_object_that_is_written_over_its_own_store_is_an_error(stores: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copytree(stores["anndata.zarr"], tmp_path / "own.zarr")
    table = cn.open_store(path)
    with pytest.raises(SourceMovedError, match=r"own\.zarr: its X was removed .*write to another path"):
        table.write_zarr(path)


# --- what is no such store -------------------------------------------------------------------------------------------


def test_nothing_there_is_pythons_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zarr"):
        cn.open_store(tmp_path / "nowhere.zarr")


def test_a_store_behind_a_url_is_said_to_be_one() -> None:
    with pytest.raises(RemoteError, match=r"s3://bucket/out\.zarr is a URL"):
        cn.open_store("s3://bucket/out.zarr")


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_an_unfinished_conversion_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    with workspace(tmp_path / name, {}), pytest.raises(ConversionError, match="has not finished"):
        cn.open_store(tmp_path / name)


def _others(folder: Path, source: Path) -> dict[str, Path]:
    """Return what may be taken for a store: a folder, text, a Cell-NET file, and stores of other origin."""
    table = ad.AnnData(np.ones((2, 2), np.float32))
    (folder / "folder").mkdir()
    (folder / "text.h5ad").write_text("no table")
    table.write_h5ad(folder / "other.h5ad")
    table.write_zarr(folder / "other.zarr")
    sd.SpatialData(tables={"table": table}).write(folder / "other_spatial.zarr")
    zarr.create_array(folder / "array.zarr", shape=(2,), dtype="i4")
    zarr.create_group(folder / "group.zarr")
    return {"source": source} | {path.stem: path for path in folder.iterdir()}


def test_anything_else_is_a_layout_error_that_names_it(truth: cn.datasets.SyntheticTissue, tmp_path: Path) -> None:
    others = _others(tmp_path, truth.path)
    assert len(others) == 7
    for path in others.values():
        with pytest.raises(LayoutError, match="not an output of cellnet_sd") as caught:
            cn.open_store(path)
        assert str(path) in str(caught.value)
