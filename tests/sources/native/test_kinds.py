"""What the structure reader does not read itself is named, and what leads out of the file is marked."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from cellnet_sd.layout import Component
from cellnet_sd.sources.native.codes import Kind, Reason, Storage
from cellnet_sd.sources.native.scan import Batch, NativeScan, scan_structure
from cellnet_sd.sources.native.superblock import UnreadableStructureError
from native_files import Form, created, make
from native_truth import check_file


def _scan(path: Path, libver: str, fill: Callable[[h5py.Group], None]) -> tuple[NativeScan, Batch]:
    with h5py.File(path, "w", libver=libver) as root:
        cell = root.create_group("c")
        cell["attributes.json"] = "{}"
        fill(cell)
    scan = scan_structure(path)
    return scan, scan.read()


def _soft(cell: h5py.Group) -> None:
    cell["expression"] = h5py.SoftLink("/elsewhere")


def _external(cell: h5py.Group) -> None:
    cell["expression"] = h5py.ExternalLink("other.h5", "/x")


def _external_storage(cell: h5py.Group) -> None:
    cell.create_dataset("expression", (8,), "u1", external=[("/tmp/bytes", 0, 8)])


def _virtual(cell: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "i4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(4,))
    cell.create_virtual_dataset("expression", layout)


def _compound(cell: h5py.Group) -> None:
    cell["expression"] = np.zeros(3, [("a", "i4"), ("b", "f4")])


def _complex(cell: h5py.Group) -> None:
    cell["expression"] = np.zeros(3, "c8")


def _enumeration(cell: h5py.Group) -> None:
    cell.create_dataset("expression", (3,), h5py.enum_dtype({"A": 0, "B": 5}, "i1"))


def _reference(cell: h5py.Group) -> None:
    cell.create_dataset("expression", (3,), h5py.ref_dtype)


def _committed(cell: h5py.Group) -> None:
    cell["kind"] = np.dtype("f4")
    cell.create_dataset("expression", (3,), cell["kind"])


def _named_type(cell: h5py.Group) -> None:
    cell["expression"] = np.dtype("f4")


NOT_READ = {
    "soft link": (_soft, Kind.FALLBACK, Reason.SOFT_LINK),
    "external link": (_external, Kind.EXTERNAL, Reason.EXTERNAL_LINK),
    "external storage": (_external_storage, Kind.EXTERNAL, Reason.EXTERNAL_STORAGE),
    "virtual dataset": (_virtual, Kind.EXTERNAL, Reason.VIRTUAL),
    "compound": (_compound, Kind.FALLBACK, Reason.DATATYPE),
    "complex": (_complex, Kind.FALLBACK, Reason.DATATYPE),
    "enumeration": (_enumeration, Kind.FALLBACK, Reason.DATATYPE),
    "references": (_reference, Kind.FALLBACK, Reason.DATATYPE),
    "committed datatype": (_committed, Kind.FALLBACK, Reason.SHARED_MESSAGE),
    "a datatype": (_named_type, Kind.FALLBACK, Reason.COMMITTED_DATATYPE),
}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("case", NOT_READ)
def test_what_is_not_read_has_a_reason(tmp_path: Path, case: str, libver: str) -> None:
    fill, kind, reason = NOT_READ[case]
    _, batch = _scan(tmp_path / "file.h5", libver, fill)
    objects = batch.components[Component.EXPRESSION]
    assert (objects.kind[0], objects.reason[0]) == (kind, reason)
    expected = Counter({reason.name: 1})
    if case == "committed datatype":  # the type itself lies in the cell
        expected["COMMITTED_DATATYPE"] = 1
    assert batch.not_native() == expected
    assert batch.components[Component.ATTRIBUTES].kind[0] == Kind.DATASET


@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
def test_dataspaces_without_elements(tmp_path: Path, libver: str) -> None:
    scan, batch = _scan(
        tmp_path / "file.h5", libver, lambda cell: cell.create_dataset("expression", data=h5py.Empty("f4"))
    )
    objects = batch.components[Component.EXPRESSION]
    assert scan.known.shapes.values[objects.shape[0]] is None
    assert objects.storage[0] == Storage.NONE


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_addresses_of_two_bytes_are_left_to_libhdf5(tmp_path: Path, libver: str) -> None:
    with created(tmp_path / "file.h5", libver, 2, 2) as root:
        root["c/expression"] = np.arange(3)
    with pytest.raises(UnreadableStructureError, match=r"^SUPERBLOCK$"):
        scan_structure(tmp_path / "file.h5")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_links_to_images_out_of_the_file(tmp_path: Path, libver: str) -> None:
    def fill(cell: h5py.Group) -> None:
        cell["images"] = h5py.ExternalLink("other.h5", "/images")

    _, batch = _scan(tmp_path / "file.h5", libver, fill)
    for component in (Component.CELL_PATCH, Component.TISSUE_PATCH, Component.WSI_PATCH):
        assert batch.components[component].kind[0] == Kind.EXTERNAL


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_groups_of_matrices(tmp_path: Path, libver: str) -> None:
    def fill(cell: h5py.Group) -> None:
        for pair in ("A-B", "C-D"):
            cell[f"CCC/{pair}/data"] = np.arange(3)
            cell[f"CCC/{pair}"].attrs["encoding-type"] = "csr_matrix"

    scan, batch = _scan(tmp_path / "file.h5", libver, fill)
    names, members = scan.known.names.values, batch.members
    found = [names[code] for code in members.name.tolist()]
    assert found == [b"A-B", b"C-D", b"data", b"data"]
    assert members.parent.tolist() == [len(Component), len(Component), -1, -2]
    assert members.objects.kind.tolist() == [Kind.GROUP, Kind.GROUP, Kind.DATASET, Kind.DATASET]
    texts = zip(batch.attributes.text.tolist(), batch.attributes.text_size.tolist(), strict=True)
    assert [scan.buf[at : at + size].tobytes() for at, size in texts] == [b"csr_matrix"] * 2
    assert batch.attributes.parent.tolist() == [-1, -2]


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_names_of_any_length(tmp_path: Path, libver: str) -> None:
    path = tmp_path / "file.h5"
    names = ["z", "é" * 40, "a" * 300, "a" * 3000, "Cell_10", "Cell_9"]
    with h5py.File(path, "w", libver=libver) as root:
        for name in names:
            root[f"{name}/expression"] = np.arange(2)
    scan, batch = check_file(path)
    assert len(scan) == len(names)
    assert not batch.not_native()


def test_cells_between_containers_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", track_order=True) as root:
        for name in ("z", "box/b", "box/a", "y"):
            root[f"{name}/expression"] = np.arange(2)
        root["genes"] = [1]
        inner = [name.encode() for name in root["box"]]
    scan = scan_structure(path)
    assert [scan.cells.name(row) for row in range(4)] == [b"z", *inner, b"y"]
    assert [scan.containers[code].path for code in scan.cells.container] == [b"", b"box", b"box", b""]
    assert [(other.name, other.kind, other.position) for other in scan.others] == [(b"genes", Kind.DATASET, 4)]


def test_threads_agree(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    make(path, Form("latest", False, 0, 40, "pieces", {"compression": "gzip"}, "<f4", "vlen", 2, 2, False, 1))
    scan = scan_structure(path)
    whole = scan.read()
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: scan.read(start, start + 8), range(0, 40, 8)))
    for component in Component:
        for column in ("kind", "dtype", "shape", "address", "size", "text"):
            joined = np.concatenate([getattr(part.components[component], column) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole.components[component], column))
