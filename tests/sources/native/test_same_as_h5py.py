"""The structure reader finds what h5py's low-level calls find, in every form of storage, and leaves nothing to h5py."""

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from native_files import LIBVERS, Form, created, forms, make
from native_truth import check_file

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
pytestmark = pytest.mark.usefixtures("small_pieces")


@settings(max_examples=60, **SETTINGS)
@given(form=forms)
def test_every_form_is_read_as_h5py_reads_it(form: Form) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.h5"
        make(path, form)
        scan, batch = check_file(path)
        assert len(scan) == form.n_cells
        assert not batch.not_native()
        assert not scan.others


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("track_order", [True, False])
@pytest.mark.parametrize("width", [1, 2, 8, 9, 600, 10_500])
def test_wide_groups(tmp_path: Path, libver: str, track_order: bool, width: int) -> None:
    path = tmp_path / "wide.h5"
    rng = np.random.default_rng(width)
    with h5py.File(path, "w", libver=libver, track_order=track_order) as root:
        cell = root.create_group("first")
        cell["expression"] = np.arange(4)
        for number in rng.permutation(width).tolist():
            root[f"Cell_{number}" + "x" * (number % 30)] = cell
    scan, batch = check_file(path)
    assert len(scan) == width + 1
    assert not batch.not_native()
    assert np.unique(scan.cells.header).size == 1


@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("track_order", [True, False])
@pytest.mark.parametrize("widths", [(4, 4), (8, 4), (4, 8)])
def test_narrow_addresses(tmp_path: Path, libver: str, track_order: bool, widths: tuple[int, int]) -> None:
    """Addresses and lengths of four bytes: groups, attributes and chunks, in their dense forms too."""
    path = tmp_path / "narrow.h5"
    with created(path, libver, *widths, track_order=track_order) as root:
        cell = root.create_group("c", track_order=track_order)
        cell.create_dataset("expression", data=np.arange(12), chunks=(2,), maxshape=(99,), compression="gzip")
        cell.create_dataset("images/cell_patch", data=np.zeros((4, 4, 3), "u1"), chunks=(2, 2, 3))
        if widths[1] == 8:  # libhdf5 does not read back axes without a limit that are stored in less
            cell.create_dataset("extra", data=np.arange(12), chunks=(2,), maxshape=(None,))
            cell.create_dataset("more", data=np.ones((4, 4)), chunks=(2, 2), maxshape=(None, None))
        cell["caption.txt"] = "of variable length"
        for number in range(12):
            cell.attrs[f"note_{number}"] = number
            cell[f"CCC/{number}"] = number
    _, batch = check_file(path)
    assert not batch.not_native()


@pytest.mark.thorough
@pytest.mark.parametrize("libver", LIBVERS)
@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("limits", [(None,), (None, 40), (40, None), (None, None), (9000, 40), "fixed"])
@pytest.mark.parametrize("holes", [True, False])
def test_many_chunks(tmp_path: Path, libver: str, filtered: bool, limits: object, holes: bool) -> None:
    """Indices of thousands of chunks: inner nodes, secondary blocks and pages."""
    path = tmp_path / "many.h5"
    shape = (4200,) if limits == (None,) else (1100, 8) if limits != (40, None) else (8, 1100)
    options = {"maxshape": limits} if limits != "fixed" else {}
    chunks = (2,) if len(shape) == 1 else (1, 4) if shape[0] > 8 else (4, 1)
    with h5py.File(path, "w", libver=libver) as root:
        cell = root.create_group("c")
        data = cell.create_dataset(
            "expression", shape, "i4", chunks=chunks, compression="gzip" if filtered else None, fillvalue=5, **options
        )
        if holes:
            data[..., : shape[-1] // 3] = 1
            data[shape[0] // 2 :] = 2
        else:
            data[...] = np.arange(data.size).reshape(shape)
    _, batch = check_file(path)
    assert not batch.not_native()


@pytest.mark.parametrize("name", ["lung_xenium.h5", "her2st_two_slides.h5"])
def test_real_files(data_dir: Path, name: str) -> None:
    _, batch = check_file(data_dir / name)
    assert not batch.not_native()
