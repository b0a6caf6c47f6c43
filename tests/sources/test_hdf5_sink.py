"""The canonical spelling, read back by plain h5py."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from cellnet_sd.errors import LayoutError, OutputExistsError
from cellnet_sd.sources.hdf5_sink import Hdf5Sink, Records

GENES = ["CD3E", "EPCAM", "µ-opioid", "GENE0001"]


def some_records(n=20, containers=None, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"Cell_{i}" for i in range(n)]
    return Records(
        names=names,
        containers=containers or [""] * n,
        expression=sparse.random(n, len(GENES), 0.5, "csr", dtype=np.float64, random_state=seed),
        attributes=[f'{{"cell_diameter": "{i}.0 µm"}}' for i in range(n)],
        captions=[f"A cell, the {i}th; naïve." for i in range(n)],
        cell_patches=rng.integers(0, 255, (n, 6, 5, 3), dtype=np.uint8),
        tissue_patches=[rng.integers(0, 255, (9, 8, 3), dtype=np.uint8) for _ in range(n)],
        wsi=["a" if i < n // 2 else "b" for i in range(n)],
        ccc=[sparse.random(3, n, 0.2, "csr", dtype=np.float32, random_state=i) for i in range(n)],
    )


WSI = {"a": np.arange(60, dtype=np.uint8).reshape(4, 5, 3), "b": np.ones((2, 3, 3), np.uint8)}


def read_csr(group):
    arrays = (group["data"][()], group["indices"][()], group["indptr"][()])
    return sparse.csr_matrix(arrays, shape=group.attrs["shape"])


@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
@pytest.mark.parametrize("compression", ["gzip", None])
def test_every_value_reads_back(tmp_path, compression, libver):
    records, path = some_records(), tmp_path / "a.h5"
    extra = {"gene_ids": ["g"] * 4, "feature_types": ["Gene Expression"] * 4, "pair_names": ["A-B", "C-D", "E-F"]}
    storage = {"compression": compression, "libver": libver, "root_attrs": {"mpp": 0.5}}
    with Hdf5Sink(path, gene_names=GENES, wsi_images=WSI, **extra, **storage) as sink:
        sink.append(records)
    with h5py.File(path) as file:
        assert file.attrs["mpp"] == 0.5
        assert file["gene_names"].asstr()[()].tolist() == GENES
        assert file["gene_ids"].asstr()[()].tolist() == extra["gene_ids"]
        assert file["feature_types"].asstr()[()].tolist() == extra["feature_types"]
        assert file["ccc_pairs"].asstr()[()].tolist() == extra["pair_names"]
        for row, name in enumerate(records.names):
            cell = file[name]
            expression = records.expression[[row]].toarray()[0].astype(np.float32)
            np.testing.assert_array_equal(cell["expression"][()], expression)
            assert cell["expression"].dtype == np.float32
            np.testing.assert_array_equal(cell["images/cell_patch"][()], records.cell_patches[row])
            np.testing.assert_array_equal(cell["images/tissue_patch"][()], records.tissue_patches[row])
            np.testing.assert_array_equal(cell["images/WSI_patch"][()], WSI[records.wsi[row]])
            assert cell["attributes.json"].asstr()[()] == records.attributes[row]
            assert cell["caption.txt"].asstr()[()] == records.captions[row]
            np.testing.assert_array_equal(read_csr(cell["CCC"]).toarray(), records.ccc[row].toarray())


def test_storage_is_canonical(tmp_path):
    with Hdf5Sink(tmp_path / "a.h5", gene_names=GENES, wsi_images=WSI) as sink:
        sink.append(some_records())
    with h5py.File(tmp_path / "a.h5") as file:
        cell = file["Cell_3"]
        for key in ("expression", "images/cell_patch", "images/tissue_patch", "images/WSI_patch"):
            assert cell[key].chunks == cell[key].shape, key
            assert (cell[key].compression, cell[key].compression_opts) == ("gzip", 1), key
        for key in ("CCC/data", "CCC/indices", "CCC/indptr"):
            assert cell[key].chunks is None
        assert [cell[f"CCC/{key}"].dtype for key in ("data", "indices", "indptr")] == [np.float32, np.int32, np.int32]
        assert dict(cell["CCC"].attrs)["encoding-type"] == "csr_matrix"
        assert dict(cell["CCC"].attrs)["encoding-version"] == "0.1.0"
        for key in ("attributes.json", "caption.txt"):
            assert cell[key].shape == ()
            assert h5py.check_string_dtype(cell[key].dtype) == ("utf-8", None)
        assert file["Cell_0/images/WSI_patch"] == file["Cell_9/images/WSI_patch"]
        assert file["Cell_0/images/WSI_patch"] != file["Cell_10/images/WSI_patch"]


def test_anndata_reads_the_matrix(tmp_path):
    from anndata.io import read_elem

    records = some_records()
    with Hdf5Sink(tmp_path / "a.h5", gene_names=GENES, wsi_images=WSI) as sink:
        sink.append(records)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(read_elem(file["Cell_7/CCC"]).toarray(), records.ccc[7].toarray())


def test_order_is_tracked_everywhere(tmp_path):
    names = ["Cell_9", "Cell_10", "b", "Cell_1", "A"]
    records = Records(names, ["z", "z", "z/y", "a", ""], attributes=["{}"] * 5, captions=["c"] * 5)
    with Hdf5Sink(tmp_path / "a.h5", gene_names=None, container_attrs={"z": {"mpp": 2.0}, "z/y": {"k": 1}}) as sink:
        sink.append(records)
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["z", "a", "A"]
        assert list(file["z"]) == ["Cell_9", "Cell_10", "y"]
        assert list(file["z/Cell_9"]) == ["attributes.json", "caption.txt"]
        assert file["z"].attrs["mpp"] == 2.0
        assert file["z/y"].attrs["k"] == 1


def test_absent_components_leave_nothing(tmp_path):
    records = Records(
        ["a", "b"],
        ["", ""],
        attributes=["{}", None],
        captions=[None, "text"],
        cell_patches=[None, np.zeros((2, 2), np.float32)],
        ccc=[None, sparse.csr_array((1, 2), dtype=np.float32)],
    )
    with Hdf5Sink(tmp_path / "a.h5", gene_names=None) as sink:
        sink.append(records)
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["a", "b"]
        assert list(file["a"]) == ["attributes.json"]
        assert list(file["b"]) == ["images", "caption.txt", "CCC"]
        assert file["b/images/cell_patch"].dtype == np.float32
        assert file["b/CCC/indptr"][()].tolist() == [0, 0]


@pytest.mark.parametrize("compression", ["gzip", None])
def test_empty_arrays_are_valid(tmp_path, compression):
    records = Records(
        ["a"],
        [""],
        expression=sparse.csr_matrix((1, 0), dtype=np.float32),
        cell_patches=np.zeros((1, 0, 4, 3), np.uint8),
        ccc=[sparse.csr_matrix((2, 5), dtype=np.float32)],
    )
    with Hdf5Sink(tmp_path / "a.h5", gene_names=[], compression=compression) as sink:
        sink.append(records)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["gene_names"].shape == (0,)
        assert file["a/expression"][()].shape == (0,)
        assert file["a/images/cell_patch"][()].shape == (0, 4, 3)
        assert read_csr(file["a/CCC"]).shape == (2, 5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    image=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32, np.float64, np.bool_, ">u2"]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
        elements=st.integers(0, 1),
    ),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    compression=st.sampled_from(["gzip", None]),
)
def test_any_image_and_text_reads_back(tmp_path, image, text, compression):
    with Hdf5Sink(tmp_path / "a.h5", gene_names=None, compression=compression, overwrite=True) as sink:
        sink.append(Records(["a"], [""], captions=[text], cell_patches=[image[::-1]]))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["a/caption.txt"].asstr()[()] == text
        stored = file["a/images/cell_patch"]
        np.testing.assert_array_equal(stored[()], image[::-1])
        assert stored.dtype == image.dtype


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_signals_that_float32_cannot_hold_keep_their_type(tmp_path, dtype):
    matrix = sparse.csr_matrix(np.array([[0, 2**24 + 1]], dtype=dtype))
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    with Hdf5Sink(tmp_path / "a.h5", gene_names=None) as sink:
        sink.append(Records(["a"], [""], ccc=[matrix]))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["a/CCC/data"][()].tolist() == [2**24 + 1]
        assert file["a/CCC/data"].dtype == dtype
        assert file["a/CCC/indices"].dtype == np.int32


def test_batches_and_repeated_entries_add_up(tmp_path):
    twice = sparse.csr_matrix((np.array([1.0, 2.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    with Hdf5Sink(tmp_path / "a.h5", gene_names=["A", "B"]) as sink:
        sink.append(Records(["a"], ["s"], expression=twice))
        sink.append(Records(["b"], ["s"], expression=twice))
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["s"]) == ["a", "b"]
        assert file["s/b/expression"][()].tolist() == [0, 3]


def only_file_in(folder):
    return [path.name for path in folder.iterdir()]


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="overwrite=True"), Hdf5Sink(path, gene_names=None):
        pass
    assert path.read_bytes() == b"precious"
    assert only_file_in(tmp_path) == ["a.h5"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(OutputExistsError), Hdf5Sink(path, gene_names=None):
        path.write_bytes(b"precious")
    assert path.read_bytes() == b"precious"
    assert only_file_in(tmp_path) == ["a.h5"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"old")
    sink = Hdf5Sink(path, gene_names=None, overwrite=True)
    with pytest.raises(LayoutError), sink:
        sink.append(Records(["a", "a"], ["", ""], captions=["c", "c"]))
    assert path.read_bytes() == b"old"
    assert only_file_in(tmp_path) == ["a.h5"]


def test_the_file_appears_only_when_done(tmp_path):
    path = tmp_path / "a.h5"
    with Hdf5Sink(path, gene_names=None) as sink:
        sink.append(Records(["a"], [""], captions=["c"]))
        assert not path.exists()
    assert only_file_in(tmp_path) == ["a.h5"]


ONE_GENE = sparse.csr_matrix((1, 1), dtype=np.float32)
REFUSED = {
    "taken name": (Records(["a", "a"], ["", ""], captions=["c", "c"]), "cell 'a' cannot be written.*exists"),
    "slash": (Records(["a/b"], [""], captions=["c"]), "no legal name"),
    "empty name": (Records([""], [""], captions=["c"]), "no legal name"),
    "leading slash": (Records(["a"], ["/s"], captions=["c"]), "no legal name"),
    "NUL": (Records(["a"], ["s"], captions=["c\0d"]), "cell 's/a' cannot be written"),
    "unknown slide": (Records(["a"], [""], wsi=["x"]), "wsi='x' is not one of wsi_images"),
    "not CSR": (Records(["a"], [""], ccc=[ONE_GENE.tocsc()]), "must be a scipy CSR"),
    "objects": (Records(["a"], [""], cell_patches=[np.array([None])]), "no numeric type"),
    "lengths": (Records(["a"], [""], captions=["c", "d"]), "captions has 2 entries for 1 cells"),
    "containers": (Records(["a"], [], captions=["c"]), "containers has 0 entries"),
    "genes": (Records(["a"], [""], expression=ONE_GENE), "expression has 1 columns, but there are 2 gene names"),
    "order": (Records(["a", "b", "c"], ["s", "t", "s"], captions=["c"] * 3), "'s' comes up again"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_is_refused(tmp_path, case):
    records, message = REFUSED[case]
    with pytest.raises(LayoutError, match=message), Hdf5Sink(tmp_path / "a.h5", gene_names=["A", "B"]) as sink:
        sink.append(records)
    assert only_file_in(tmp_path) == []


def test_unknown_compression_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lzf"):
        Hdf5Sink(tmp_path / "a.h5", gene_names=None, compression="lzf")


def test_equal_content_gives_equal_files(tmp_path):
    for name in ("a.h5", "b.h5"):
        with Hdf5Sink(tmp_path / name, gene_names=GENES, wsi_images=WSI) as sink:
            sink.append(some_records())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    folder = tmp_path / "no" / "such"
    with (
        pytest.raises(FileNotFoundError, match="No such folder") as caught,
        Hdf5Sink(folder / "a.h5", gene_names=GENES),
    ):
        pass
    assert caught.value.filename == str(folder)


_ON_A_SMALL_DISK = """
import resource, sys
from pathlib import Path
from test_hdf5_sink import GENES, WSI, Hdf5Sink, some_records

path = Path(sys.argv[1])
for limit in (*range(2**12, 2**16, 2**12), resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        with Hdf5Sink(path, gene_names=GENES, wsi_images=WSI) as sink:
            sink.append(some_records(200))
    except OSError as error:
        print(error.errno, error.filename, [each.name for each in path.parent.iterdir()])
"""


@pytest.mark.thorough
def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path):
    """In a process of its own, as libhdf5 crashes where it cannot write; how much a file may hold stands for a disk."""
    path = tmp_path / "out" / "full.h5"
    path.parent.mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    command = [sys.executable, "-W", "ignore", "-c", _ON_A_SMALL_DISK, str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.splitlines()) == {f"{errno.EFBIG} {path} []"}
    with h5py.File(path) as file:
        assert file["Cell_199/caption.txt"][()] == "A cell, the 199th; naïve.".encode()


def test_what_hdf5_refuses_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), Hdf5Sink(tmp_path / "a.h5", gene_names=GENES, libver="v1"):
        pass
    assert not list(tmp_path.iterdir())
