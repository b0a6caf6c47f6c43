"""What is read, and what is not: every open and every read of a file of 10,500 cells with its index built, counted."""

import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import psutil
import pytest
import scipy.sparse as sp
from h5py import h5f

import cellnet_sd as cn
from big_file import N_GENES, NAMES, RARE, SENDERS, N, big_file, pixels, profiles
from cellnet_sd import indexfile, matrix
from cellnet_sd.errors import NotEnoughMemoryError
from cellnet_sd.layout import PATCHES, Component
from cellnet_sd.matrix import BACKED_ROWS
from cellnet_sd.notes import Notes
from cellnet_sd.problems import Problems
from cellnet_sd.sources import opening
from cellnet_sd.sources.hdf5 import Hdf5Source
from counting import counted
from spell_arrays import ImageSpelling
from spellings import plain_file, write
from truth_checks import quiet

IMAGES = tuple(PATCHES.values())


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of 10,500 cells."""
    return big_file(tmp_path_factory)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a file of 6 cells with patches of every level on one slide, and its index."""
    truth, spelling = plain_file(6, attributes=[{"Position_in_WSI": f"({row}, 1)"} for row in range(6)])
    rng = np.random.default_rng(0)
    wsi = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    for level in PATCHES:
        spelling.images[level] = ImageSpelling()
        for cell in truth.cells:
            stored = wsi if level == "wsi" else rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            cell.stored_patches[level] = stored
    write(tmp_path / "plain.h5", truth, spelling)
    cn.index(tmp_path / "plain.h5")
    return tmp_path / "plain.h5"


# --- rows and components ---------------------------------------------------------------------------------------------


def test_opening_an_indexed_file_opens_nothing(big: Path) -> None:
    with counted() as reads, cn.open(big) as f:
        assert len(f) == N
        assert len(f.obs) == N
        assert f.var_names.tolist() == [f"G{gene}" for gene in range(N_GENES)]
        assert f.captions.iloc[3] == "the cell at row 3"
        assert f.patches("cell").shape == (N, 4, 4, 3)
        assert repr(f.patches("cell"))
        assert repr(f)
        cn.info(big)
    assert reads.nothing, reads


@pytest.mark.parametrize("verb", [cn.read, cn.read_anndata])
def test_where_reads_the_expression_of_its_cells_and_no_image(big: Path, verb: Any) -> None:
    with counted() as reads, quiet():
        found = verb(big, where="cell_type == 'rare'")
    adata = found if verb is cn.read_anndata else found["table"]
    assert adata.obs_names.tolist() == [NAMES[row] for row in RARE]
    np.testing.assert_array_equal(adata.X.toarray(), profiles(RARE))
    assert reads.rows(Component.EXPRESSION) == RARE.tolist()
    assert reads.datasets_of(Component.EXPRESSION) == [NAMES[row] for row in RARE]
    for level in IMAGES:
        assert reads.rows(level) == []
        assert reads.datasets_of(level) == []
    assert reads.datasets_of(Component.ATTRIBUTES) == []
    assert reads.datasets_of(Component.CAPTION) == []
    assert set(reads.rows(Component.CCC)) <= set(RARE.tolist())
    assert reads.scans == 0


def test_cells_reads_only_those_cells(big: Path) -> None:
    rows = [10_400, 3, 999]
    with counted() as reads:
        adata = cn.read_anndata(big, cells=rows)
    np.testing.assert_array_equal(adata.X.toarray(), profiles(np.array(rows)))
    assert reads.rows(Component.EXPRESSION) == rows
    assert set(reads.rows(Component.CCC)) <= set(rows)


def test_a_component_that_is_switched_off_is_not_read(big: Path) -> None:
    with counted() as reads:
        adata = cn.read_anndata(big, expression=False, captions=False, images=False, ccc=False)
    assert adata.n_obs == N
    assert reads.nothing, reads
    with counted() as reads:
        cn.read_anndata(big, cells=np.array([0, 1]), ccc=False)
    assert set(reads.components) == {Component.EXPRESSION}


def test_rows_of_expression_are_read_one_by_one_in_the_order_asked(big: Path) -> None:
    rows = np.random.default_rng(1).choice(N, 20, replace=False)
    with cn.open(big) as f, counted() as reads:
        got = f.expression[rows]
    np.testing.assert_array_equal(got.toarray(), profiles(rows))
    assert reads.datasets == [f"/{NAMES[row]}/expression" for row in rows]
    assert reads.opened == 1


def test_ccc_reads_no_more_than_ccc(big: Path) -> None:
    with cn.open(big) as f, counted() as reads:
        assert f.ccc.nnz == len(SENDERS)
    assert set(reads.components) == {Component.CCC}
    assert set(reads.datasets_of(Component.CCC)) == {NAMES[row] for row in SENDERS}


# --- backed ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backed(big: Path) -> Any:
    """Return the table with a lazy `X`; made without reading expression."""
    with counted() as reads:
        adata = cn.read_anndata(big, backed=True, ccc=False)
    assert reads.nothing, reads
    return adata


def test_backed_is_a_dask_array_of_csr_with_the_rest_in_memory(backed: Any) -> None:
    assert isinstance(backed.X, da.Array)
    assert sp.issparse(backed.X._meta)
    assert backed.X._meta.format == "csr"
    assert backed.X.dtype == np.float32
    assert backed.X.shape == (N, N_GENES)
    assert type(backed.obs).__module__.startswith("pandas")
    assert type(backed.var).__module__.startswith("pandas")


def test_a_block_of_a_backed_matrix_reads_its_own_rows(backed: Any) -> None:
    with counted() as reads, dask.config.set(scheduler="synchronous"):
        block = backed.X.blocks[1].compute()
    rows = np.arange(BACKED_ROWS, 2 * BACKED_ROWS)
    assert block.format == "csr"
    np.testing.assert_array_equal(block.toarray(), profiles(rows))
    assert reads.rows(Component.EXPRESSION) == rows.tolist()
    assert reads.datasets == [f"/{NAMES[row]}/expression" for row in rows]


def test_a_selection_of_a_backed_matrix_reads_its_own_rows(big: Path) -> None:
    with counted() as reads, dask.config.set(scheduler="synchronous"):
        adata = cn.read_anndata(big, where="cell_type == 'rare'", genes=["G3", "G0"], backed=True, ccc=False)
        assert reads.nothing, reads
        got = adata.X.compute()
    np.testing.assert_array_equal(got.toarray(), profiles(RARE)[:, [3, 0]])
    assert adata.var_names.tolist() == ["G3", "G0"]
    assert reads.rows(Component.EXPRESSION) == RARE.tolist()


def test_subsetting_a_backed_table_reads_nothing_until_computed(backed: Any) -> None:
    with counted() as reads, dask.config.set(scheduler="synchronous"):
        part = backed[RARE, ["G0"]]
        assert reads.nothing, reads
        assert part.to_memory().X.toarray()[:, 0].tolist() == (RARE + 0.5).tolist()
    assert set(RARE.tolist()) <= set(reads.rows(Component.EXPRESSION))


# --- images ----------------------------------------------------------------------------------------------------------


def test_images_off_reads_no_image(small: Path) -> None:
    with counted() as reads, quiet():
        sdata = cn.read(small, images=False)
    assert not sdata.images
    assert set(reads.components) <= {Component.EXPRESSION, Component.CCC}
    assert not [path for path in reads.datasets if "images" in path]


def test_patch_stacks_are_lazy(small: Path) -> None:
    with counted() as reads, quiet():
        sdata = cn.read(small, images=["cell"], patches=("cell", "tissue"), expression=False)
    assert set(sdata.images) == {"plain_cell_patches", "plain_tissue_patches"}
    assert reads.nothing, reads
    with counted() as reads, dask.config.set(scheduler="synchronous"):
        sdata.images["plain_cell_patches"].data[:, 2].compute()
    assert set(reads.components) == {Component.CELL_PATCH}


def test_the_whole_slide_image_is_lazy(small: Path) -> None:
    with counted() as reads, quiet():
        sdata = cn.read(small, images=["wsi"], expression=False)
    assert set(sdata.images) == {"plain_wsi"}
    assert reads.nothing, reads


def test_a_stack_reads_one_chunk_of_64_for_one_plane(big: Path) -> None:
    with quiet(), counted() as reads:
        stack = cn.read(big, expression=False, ccc=False).images["big_cell_patches"]
        assert reads.nothing, reads
    with counted() as reads, dask.config.set(scheduler="synchronous"):
        plane = stack.data[:, 10_001].compute()
    np.testing.assert_array_equal(np.moveaxis(plane, 0, -1), pixels(np.array([10_001]))[0])
    first = 10_001 // 64 * 64
    assert reads.rows(Component.CELL_PATCH) == list(range(first, first + 64))


@pytest.mark.parametrize("given", ["path", "handle", "table", "spatialdata"])
def test_256_random_rows_of_patches_read_exactly_those(big: Path, given: str) -> None:
    rows = np.random.default_rng(2).choice(N, 256, replace=False)
    options = {"expression": False, "ccc": False, "captions": False}
    with quiet(), counted() as reads:
        made = {
            "path": lambda: cn.patches(big, "cell"),
            "handle": lambda: cn.open(big).patches("cell"),
            "table": lambda: cn.patches(cn.read_anndata(big, **options), "cell"),
            "spatialdata": lambda: cn.patches(cn.read(big, **options), "cell"),
        }
        stack = made[given]()
        assert reads.nothing, reads
        values = stack[rows].values
    np.testing.assert_array_equal(values, pixels(rows))
    assert sorted(reads.rows(Component.CELL_PATCH)) == sorted(rows.tolist())
    assert sorted(reads.datasets) == sorted(f"/{NAMES[row]}/images/cell_patch" for row in rows)
    assert reads.opened == 1


# --- the index -------------------------------------------------------------------------------------------------------


def test_captions_are_not_loaded_until_asked_for(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    read_table, columns = pq.read_table, []

    def noting(*args: Any, **kwargs: Any) -> Any:
        columns.append(kwargs["columns"])
        return read_table(*args, **kwargs)

    monkeypatch.setattr(pq, "read_table", noting)
    with cn.open(big) as f:
        assert len(f.obs) == N
        f.expression[:3]
        cn.read_anndata(big, where="cell_type == 'rare'", captions=False)
        assert not [asked for asked in columns if "caption" in asked]
        assert f.captions.iloc[9_999] == "the cell at row 9999"
        assert ["caption"] in columns


# --- dask tasks cross processes --------------------------------------------------------------------------------------


def lazies(path: Path) -> dict[str, da.Array]:
    """Return the dask arrays of an object that is read."""
    with quiet():
        sdata = cn.read(path, cells=np.arange(9_990, 10_010), backed=True, ccc=False)
    return {"X": sdata["table"].X, "patches": sdata.images["big_cell_patches"].data}


def open_files() -> int:
    """Return how many HDF5 files this process holds open, by libhdf5's own count."""
    return h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE)


def test_the_count_of_open_files_counts(tmp_path: Path) -> None:
    before = open_files()
    with h5py.File(tmp_path / "a.h5", "w"):
        assert open_files() == before + 1
    assert open_files() == before


@pytest.mark.parametrize("which", ["X", "patches"])
def test_a_task_graph_holds_no_file_open_and_is_small(big: Path, which: str) -> None:
    before = open_files()
    array = lazies(big)[which]
    assert open_files() == before
    assert array.compute(scheduler="synchronous").shape == array.shape
    assert open_files() == before
    written = pickle.dumps(dict(array.__dask_graph__()))  # h5py objects refuse to be pickled
    assert len(written) < 20_000, "the index travels with the tasks"


IN_ANOTHER_PROCESS = """
import pickle, sys
import numpy as np
X, patches = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps((X.compute(scheduler="synchronous"), patches[[1, 0]].values)))
"""


def test_lazy_objects_are_computed_in_another_process(big: Path) -> None:
    rows = np.arange(9_990, 10_010)
    adata = cn.read_anndata(big, cells=rows, backed=True, ccc=False)
    sent = pickle.dumps((adata.X, cn.patches(adata)))
    done = subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS], input=sent, capture_output=True, check=True)
    matrix, patches = pickle.loads(done.stdout)
    np.testing.assert_array_equal(matrix.toarray(), profiles(rows))
    np.testing.assert_array_equal(patches, pixels(rows[[1, 0]]))


def test_a_source_read_without_an_index_leaves_none_behind_in_another_process(small: Path) -> None:
    beside = indexfile.index_paths(small)[0]
    beside.unlink()
    adata = cn.read_anndata(small, backed=True, index=False)
    opening.reopen.cache_clear()
    again = pickle.loads(pickle.dumps(adata.X))
    assert again.compute(scheduler="synchronous").shape == adata.shape
    assert not beside.exists()


def test_a_file_that_changed_is_not_read_by_old_lazy_objects(small: Path) -> None:
    adata = cn.read_anndata(small, backed=True)
    with h5py.File(small, "a") as root:
        root["Cell_1/expression"][...] = 7.5
    with pytest.raises(cn.errors.SourceMovedError, match="has changed"):
        adata.X.compute(scheduler="synchronous")


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_matrix_that_cannot_fit_is_refused_before_it_is_read(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    little = psutil.virtual_memory()._replace(available=300_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with counted() as reads, pytest.raises(NotEnoughMemoryError) as caught:
        cn.read_anndata(big)
    for way_out in ("backed=True", "where=", "genes="):
        assert way_out in str(caught.value)
    assert str(big) in str(caught.value)
    assert reads.rows(Component.EXPRESSION) == []
    assert cn.read_anndata(big, where="cell_type == 'rare'").n_obs == len(RARE)
    assert cn.read_anndata(big, backed=True).n_obs == N
    assert cn.read_anndata(big, genes=["G1"]).n_vars == 1


def test_parts_and_what_they_are_stacked_to_must_both_fit(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = N * N_GENES * 8
    for available, fits in ((2 * result - 1, False), (2 * result, True)):
        memory = psutil.virtual_memory()._replace(available=available)
        monkeypatch.setattr(psutil, "virtual_memory", lambda memory=memory: memory)
        if fits:
            assert cn.read_anndata(big, ccc=False).n_obs == N
        else:
            with pytest.raises(NotEnoughMemoryError):
                cn.read_anndata(big, ccc=False)


@pytest.mark.parametrize(("n_cells", "bytes_per_value"), [(2**28 - 1, 8), (2**28, 12)])
def test_more_values_than_int32_counts_take_int64_indices(
    monkeypatch: pytest.MonkeyPatch, n_cells: int, bytes_per_value: int
) -> None:
    findings = SimpleNamespace(n_genes=8, nnz_per_cell=8.0, expression=None)
    source = SimpleNamespace(path="x", index=SimpleNamespace(findings=findings))
    memory = psutil.virtual_memory()._replace(available=2 * 8 * n_cells * bytes_per_value - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    rows = np.broadcast_to(np.int64(0), n_cells)
    with pytest.raises(NotEnoughMemoryError, match=f"{2 * 8 * n_cells * bytes_per_value / 2**30:.1f} GiB and"):
        matrix.read_matrix(source, rows, matrix.GeneColumns(8), Problems("x", str), Notes("x"))  # type: ignore[arg-type]


def test_a_matrix_of_sound_cells_is_not_copied(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def noting(*args: Any) -> Any:
        made.append(matrix.read_matrix(*args))
        return made[-1]

    monkeypatch.setattr("cellnet_sd.table.read_matrix", noting)
    assert np.shares_memory(cn.read_anndata(big, ccc=False).X.data, made[0].data)


# --- many slides -----------------------------------------------------------------------------------------------------


def write_slides(path: Path, spelling: ImageSpelling) -> Path:
    """Write 70 slides of two cells, of which the first has a patch, and both the WSI image of the slide."""
    with h5py.File(path, "w") as root:
        for slide in range(70):
            image = np.full((4, 4, 3), slide, np.uint8)
            for cell in (f"S{slide:02}/Cell_1", f"S{slide:02}/Cell_2"):
                root[f"{cell}/expression"] = np.array([1.5, slide], "f4")
                spelling.write(root[cell], "images/WSI_patch", spelling.store(image, 0)[0])
            root[f"S{slide:02}/Cell_1/images/cell_patch"] = image
    return path


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return write_slides(tmp_path / "slides.h5", ImageSpelling())


def rows_of_images_fetched(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return which rows' WSI images were fetched, each time, to index a file."""
    fetch, asked = Hdf5Source.fetch, []

    def noting(self: Hdf5Source, component: Component, rows: Any) -> Any:
        if component is Component.WSI_PATCH:
            asked.append([int(row) for row in rows])
        return fetch(self, component, rows)

    monkeypatch.setattr(Hdf5Source, "fetch", noting)
    with quiet():
        cn.index(path, n_threads=3)
    return asked


def test_whole_slide_images_that_are_arrays_are_not_fetched_for_their_size(
    slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rows_of_images_fetched(slides, monkeypatch) == []
    assert cn.open(slides)._source.index.findings.frames["wsi"].shape == (4, 4, 3)


def test_encoded_whole_slide_images_are_looked_at_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_slides(tmp_path / "slides.h5", ImageSpelling("encoded"))
    asked = rows_of_images_fetched(path, monkeypatch)
    assert set(map(len, asked)) == {1}
    sample = [row for some in asked[:64] for row in some]
    assert len(sample) == len({row // 2 for row in sample}) == 64
    assert {row // 2 for row in sample} >= {0, 69}
    assert max(np.diff(sample)) <= 4  # no more than one slide is passed over


def test_cells_of_many_slides_keep_to_their_own(slides: Path) -> None:
    rows = np.random.default_rng(0).permutation(140)[:100]
    with quiet():
        sdata = cn.read(slides, cells=rows, images=["cell"], index=False)
    table = sdata["table"]
    named = [name.rpartition("/") for name in table.obs_names]
    assert [int(name.rpartition("_")[2]) - 1 for _, _, name in named] == (rows % 2).tolist()
    assert table.obs["cell_patch"].tolist() == [0 if row % 2 == 0 else -1 for row in rows]
    with_patch = {row // 2 for row in rows.tolist() if row % 2 == 0}
    assert set(sdata.images) == {f"S{slide:02}_cell_patches" for slide in with_patch}
    for slide in with_patch:
        assert np.unique(sdata.images[f"S{slide:02}_cell_patches"].values).tolist() == [slide]
