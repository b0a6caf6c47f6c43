"""What `read` refuses, leaves out and says, where other tests do not look."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from anndata import AnnData

import cellnet_sd as cn
from cellnet_sd.errors import CellNetWarning, LayoutError, MalformedCellError, SourceMovedError
from sound_file import full_file
from spellings import write
from truth_checks import quiet

N = 200
ODD = int(np.setdiff1d(np.arange(N), np.linspace(0, N - 1, 64).astype(int))[50])
"""A row that an even sample of 64 cells does not hold."""


def many(path: Path, odd: np.ndarray) -> Path:
    """Write 200 log-normalised cells, one of which holds `odd`."""
    with h5py.File(path, "w", track_order=True) as root:
        root["gene_names"] = ["A", "B"]
        for row in range(N):
            root[f"Cell_{row}/expression"] = odd if row == ODD else np.array([row + 0.5, 0], "f4")
    with quiet(), cn.open(path) as file:
        assert file.expression.shape == (N, 2)
    return path


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Return a sound file of four cells with every component."""
    write(tmp_path / "plain.h5", *full_file())
    return tmp_path / "plain.h5"


# --- a lazy X says what an eager one says ----------------------------------------------------------------------------


def test_counts_among_logarithms_are_refused_when_they_are_met(tmp_path):
    path = many(tmp_path / "mixed.h5", np.array([3, 4], "f4"))
    with quiet():
        adata = cn.read_anndata(path, backed=True)
        part = cn.read_anndata(path, backed=True, cells=np.arange(ODD))
    assert part.X.compute().shape == (ODD, 2)
    with pytest.raises(LayoutError, match=f"Cell_{ODD}.*expression="):
        adata.X.compute()
    with cn.open(path) as file, pytest.raises(LayoutError, match=f"Cell_{ODD}"):
        file.expression[[ODD]]


def test_rounded_values_are_counted_when_they_are_met(tmp_path):
    path = many(tmp_path / "wide.h5", np.array([0.1, 0.3], "f8"))
    with quiet():
        adata = cn.read_anndata(path, backed=True)
    with pytest.warns(CellNetWarning, match="2 expression values were rounded"):
        adata.X.compute(scheduler="synchronous")


def test_a_value_that_is_met_too_late_to_leave_the_cell_out_names_another_way(tmp_path):
    path = many(tmp_path / "nan.h5", np.array([np.nan, 1], "f4"))
    with quiet():
        adata = cn.read_anndata(path, backed=True, on_error="skip")
    with pytest.raises(MalformedCellError, match=f"Cell_{ODD}.*where="):
        adata.X.compute()


# --- malformed patches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.zeros((5, 5, 7), np.uint8), np.zeros((40, 40), np.uint8)[None, None]])
def test_a_patch_that_can_be_no_image_is_found_before_any_is_read(full, bad):
    with h5py.File(full, "a") as root:
        del root["Cell_2/images/cell_patch"]
        root["Cell_2/images/cell_patch"] = bad
    with quiet(), pytest.raises(MalformedCellError, match=r"Cell_2.*cell_patch"):
        cn.read(full)
    with quiet():
        sdata = cn.read(full, on_error="skip")
    assert sdata["table"].obs_names.tolist() == ["Cell_1", "Cell_3", "Cell_4"]
    assert sdata.images["plain_cell_patches"].shape == (3, 3, 6, 7)
    assert np.asarray(sdata.images["plain_cell_patches"].data).any()


# --- nothing in silence ----------------------------------------------------------------------------------------------


def test_what_is_no_part_of_the_layout_is_named(full):
    with h5py.File(full, "a") as root:
        root["notes"] = "free text"
        root.attrs["licence"] = "CC BY"
        root["Cell_1/qc"] = [1, 2]
        root["Cell_2"].attrs["batch"] = 3
    with quiet() as caught:
        cn.read_anndata(full)
    said = " ".join(str(warning.message) for warning in caught if warning.category is CellNetWarning)
    assert all(name in said for name in ("notes", "attribute licence of the root", "qc", "attribute batch"))


def test_what_was_not_read_is_not_written_and_named(full, tmp_path):
    with quiet():
        sdata = cn.read(full, images=False, captions=False, ccc=False)
    with quiet() as caught:
        cn.write(sdata, tmp_path / "less.h5")
    assert any("CCC, caption.txt, images/WSI_patch, images/cell_patch" in str(warning.message) for warning in caught)
    with h5py.File(tmp_path / "less.h5") as root:
        assert sorted(root["Cell_1"]) == ["attributes.json", "expression"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ccc": "pair"}, "ccc='pair'"),
        ({"images": False, "patches": ("tissue",)}, "patches="),
        ({"images": ("slide",)}, "images='slide'"),
        ({"patches": ("wsi",)}, "patches='wsi'"),
        ({"expression": "raw"}, "expression='raw'"),
    ],
)
def test_switches_that_do_not_exist_are_refused(full, options, words):
    with pytest.raises(ValueError, match=words):
        cn.read(full, **options)


# --- which file, which order -----------------------------------------------------------------------------------------


def test_another_file_with_the_same_names_is_not_taken_for_the_source(full, tmp_path):
    with quiet():
        adata, sdata = cn.read_anndata(full), cn.read(full)
        sdata.write(tmp_path / "kept.zarr")
        before = cn.patches(sdata, "cell").values
    with h5py.File(full, "a") as root:
        root["Cell_1/images/cell_patch"][...] = 0
    with quiet(), pytest.raises(SourceMovedError, match="contents differ"):
        cn.patches(adata, "cell")
    with quiet(), pytest.raises(SourceMovedError, match="contents differ"):
        cn.patches(adata, "cell", source=full)
    import spatialdata

    with quiet():
        kept = spatialdata.read_zarr(tmp_path / "kept.zarr")
        np.testing.assert_array_equal(cn.patches(kept, "cell").values, before)


def test_patches_are_found_after_concatenation_whatever_the_order_of_rows(full):
    with quiet():
        table = cn.read_anndata(full, cell_order="name")
        joined = ad.concat([table[2:].copy(), table[:2].copy()])
        expected = cn.patches(table, "cell").values[[2, 3, 0, 1]]
        np.testing.assert_array_equal(cn.patches(joined, "cell").values, expected)


def test_stacks_in_another_order_are_other_dask_arrays(tmp_path):
    path = tmp_path / "order.h5"
    with h5py.File(path, "w", track_order=True) as root:
        root["gene_names"] = ["A"]
        for number in (10, 9, 1):
            root[f"Cell_{number}/expression"] = np.array([number + 0.5], "f4")
            root[f"Cell_{number}/images/cell_patch"] = np.full((4, 4, 3), number, np.uint8)
    import dask

    with quiet():
        stacks = [
            cn.read(path, cell_order=order).images["order_cell_patches"].data for order in ("creation", "natural")
        ]
        tracked, natural = dask.compute(*stacks)
    assert tracked[0, :, 0, 0].tolist() == [10, 9, 1]
    assert natural[0, :, 0, 0].tolist() == [1, 9, 10]


def test_slides_called_like_another_slides_coordinate_system_are_renamed(tmp_path):
    path = tmp_path / "clash.h5"
    with h5py.File(path, "w", track_order=True) as root:
        root["gene_names"], root.attrs["mpp"] = ["A"], 0.5
        for slide in ("a", "a_um", "a_patches"):
            cell = root.create_group(f"{slide}/Cell_1")
            cell["expression"] = np.array([0.5], "f4")
            cell["attributes.json"] = '{"Position_in_WSI": "(5, 5)", "cell_diameter": 4}'
            cell["images/cell_patch"] = np.zeros((4, 4, 3), np.uint8)
    with quiet():
        sdata = cn.read(path)
    assert sdata["table"].obs["slide"].tolist() == ["a", "a_um_slide", "a_patches_slide"]
    assert "a_um_slide_cells" not in sdata.filter_by_coordinate_system("a_um")
    assert not sdata.filter_by_coordinate_system("a_patches").shapes


def test_an_object_that_is_no_cellnet_is_written_too(tmp_path):
    fresh = AnnData(np.eye(2, dtype="f4"))
    cn.write(fresh, tmp_path / "fresh.h5")
    with quiet():
        np.testing.assert_array_equal(cn.read_anndata(tmp_path / "fresh.h5").X.toarray(), np.eye(2))


def test_layers_are_not_written_and_a_warning_names_them(tmp_path):
    fresh = AnnData(np.eye(2, dtype="f4"), layers={"counts": np.eye(2), "scaled": np.eye(2)})
    with quiet() as caught:
        cn.write(fresh, tmp_path / "fresh.h5")
        np.testing.assert_array_equal(cn.read_anndata(tmp_path / "fresh.h5").X.toarray(), np.eye(2))
    assert sum("layers are not written: counts, scaled." in str(warning.message) for warning in caught) == 1


def test_a_path_is_no_object_to_write(full, tmp_path):
    with pytest.raises(TypeError, match="read it first"):
        cn.write(full, tmp_path / "out.h5")


def test_an_unknown_gene_is_an_error_that_names_the_file(full):
    with quiet(), pytest.raises(cn.errors.SelectionError, match=r"plain\.h5 .*NOPE"):
        cn.read_anndata(full, genes=["NOPE"])


def test_values_rounded_in_every_batch_are_told_of_once(tmp_path):
    wide = AnnData(np.full((600, 1), 0.1))
    with quiet() as caught:
        cn.write(wide, tmp_path / "wide.h5")
    assert sum(str(warning.message).count("were rounded") for warning in caught) == 1
