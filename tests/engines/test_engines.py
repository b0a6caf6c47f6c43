"""Which engine reads a file, on how many threads, and what is said of it."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import CellNetError, LayoutError, MalformedCellError
from cellnet_sd.layout import Component
from cellnet_sd.sources import hdf5_fetch
from counting import counted
from native_files import Form, make
from small_files import written
from truth_checks import quiet


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("engine", ["auto", "native", "h5py"])
def test_every_verb_takes_engine_and_threads(tmp_path: Path, engine: Any, n_threads: int) -> None:
    path = written(tmp_path / "cells.h5")
    how = {"engine": engine, "n_threads": n_threads}
    with quiet():
        assert cn.index(path, **how).is_file()
        with cn.open(path, **how) as f:
            np.testing.assert_array_equal(f.expression[[3, 1, 3]].toarray()[:, 0], [3.5, 1.5, 3.5])
            assert f.patches("cell")[7].values.max() == 7
            assert f.captions.iloc[2] == "cell 2"
        assert cn.read_anndata(path, **how).X.sum() == sum(row + 0.5 + row % 3 for row in range(20))
        sdata = cn.read(path, backed=True, **how)
        assert sdata["table"].X.compute().shape == (20, 3)
        assert cn.patches(path, "cell", **how).shape == (20, 4, 4, 3)
        assert cn.patches(sdata, "cell", **how)[19].values.min() == 19
        assert cn.info(path, **how).n_cells == 20
        assert not cn.validate(path, **how).has_defects
        assert cn.convert(path, tmp_path / "out.h5ad", **how).is_file()


@pytest.mark.parametrize("name", ["engine", "n_threads"])
@pytest.mark.parametrize("verb", [cn.open, cn.index, cn.info, cn.validate, cn.read, cn.read_anndata, cn.patches])
def test_other_values_are_refused_by_name(tmp_path: Path, verb: Any, name: str) -> None:
    path = written(tmp_path / "cells.h5", 1)
    with pytest.raises(ValueError, match=rf"{name}='libhdf5' is not"):
        verb(path, **{name: "libhdf5"})


def test_the_native_engine_opens_nothing_through_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "cells.h5")

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(args)

    monkeypatch.setattr(h5py, "File", refuse)
    with quiet(), cn.open(path) as f:
        assert f.expression[:].nnz == 33
        assert f.patches("cell").values.sum() == 48 * sum(range(20))


def test_settings_choose_for_the_session(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.h5")
    with cn.settings.override(engine="h5py", n_threads=1), counted() as reads, cn.open(path, index=False) as f:
        assert f.expression[:].nnz == 33
    assert set(reads.datasets_of(Component.EXPRESSION)) == {f"Cell_{row}" for row in range(20)}
    assert reads.opened >= 3  # the scan, its samples and the profiles, each by h5py


def test_an_index_of_h5py_is_built_again_for_the_native_engine(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.h5")
    cn.index(path, engine="h5py")
    assert "Indexed by   h5py" in str(cn.info(path, engine="h5py"))
    assert "Indexed by   the native engine: all 80 objects" in str(cn.info(path))
    with counted() as reads:
        cn.index(path, engine="h5py")  # which a native index serves too
    assert reads.scans == 0


def test_what_goes_through_h5py_is_said_and_refused_by_the_native_engine(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.h5", 4)
    with h5py.File(path, "a") as root:
        root["kind"] = np.dtype("f4")
        del root["Cell_2/expression"]
        root["Cell_2"].create_dataset("expression", (3,), root["kind"])[:] = [7.5, 0, 0]
    with quiet():
        assert "1 of 16 objects go through h5py (shared message: 1)" in str(cn.info(path))
        with cn.open(path) as f:
            assert f.expression[:].toarray()[2].tolist() == [7.5, 0, 0]
        with cn.open(path, engine="native") as f, pytest.raises(CellNetError, match=r"Cell_2.*only h5py reads"):
            _ = f.expression[:]


@pytest.mark.parametrize("compression", ["lzf", 32015])
def test_filters_of_other_makers_are_decoded_by_libhdf5(tmp_path: Path, compression: Any) -> None:
    import hdf5plugin

    path = written(tmp_path / "cells.h5", 3)
    options = {"compression": compression} if compression == "lzf" else dict(hdf5plugin.Zstd())
    with h5py.File(path, "a") as root:
        del root["Cell_1/expression"]
        root["Cell_1"].create_dataset("expression", data=np.array([1.5, 2, 4], "f4"), chunks=(3,), **options)
    with quiet(), cn.open(path) as f:
        assert f.expression[:].toarray()[1].tolist() == [1.5, 2, 4]
        assert "filters 32" in str(cn.info(path))


def test_a_file_that_only_libhdf5_opens_is_read_through_it(tmp_path: Path) -> None:
    path = tmp_path / "cells.h5"
    make(path, Form("earliest", False, 0, 3, "contiguous", {}, "<f4", "vlen", 0, 1, False, 0, width=8))
    data = bytearray(path.read_bytes())
    data[8] = 9  # a superblock of a version that is yet to come
    path.write_bytes(data)
    with pytest.raises(LayoutError, match="Pass engine='auto'"):
        cn.open(path, engine="native")
    with pytest.raises(CellNetError):  # this libhdf5 does not know it either
        cn.open(path)


def test_values_are_fetched_in_the_order_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.h5", 300)
    rows = np.random.default_rng(0).permutation(np.r_[0:300, 0:50])
    with cn.open(path, n_threads=3) as f:
        np.testing.assert_array_equal(f.expression[rows].toarray()[:, 0], rows + 0.5)
        np.testing.assert_array_equal(f.patches("cell")[rows].values[:, 0, 0, 0], rows % 256)


@pytest.mark.parametrize("spelling", ["dataset", "attribute"])
@pytest.mark.parametrize("engine", ["auto", "native", "h5py"])
def test_half_a_surrogate_pair_makes_its_cell_malformed(tmp_path: Path, engine: Any, spelling: str) -> None:
    path = written(tmp_path / "cells.h5")
    with h5py.File(path, "r+") as root:
        bad = root["Cell_7"]
        del bad["attributes.json"]
        (bad if spelling == "dataset" else bad.attrs)["attributes.json"] = r'{"cell_type": "t1", "x": ["\ud800"]}'
    with quiet():
        assert cn.open(path, engine=engine).obs["cell_type"].isna().sum() == 1
        found = cn.validate(path, engine=engine).to_frame()
        assert found.loc[found.severity == "error", "examples"].tolist() == [("Cell_7",)]
        with pytest.raises(MalformedCellError, match=r"Cell_7.*attributes\.json.*surrogate"):
            cn.read_anndata(path, engine=engine)
        for on_error in ("skip", "warn"):
            left = cn.read_anndata(path, engine=engine, on_error=on_error).obs_names
            assert len(left) == 19
            assert "Cell_7" not in left


def test_the_reference_engine_knows_nothing_of_the_native_one() -> None:
    source = Path(hdf5_fetch.__file__).read_text()
    assert "native" not in source
