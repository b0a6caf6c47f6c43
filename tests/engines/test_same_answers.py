"""The native engine and h5py give the same answers, in every form of storage, and nothing falls back in silence."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import cellnet_sd as cn
from cellnet_sd.layout import Component
from cellnet_sd.sources.facts import Facts
from cellnet_sd.sources.native import columns, passes, scan
from engine_truth import assert_same_facts, assert_same_values, both
from native_files import Form, forms, make

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
pytestmark = pytest.mark.usefixtures("small_pieces")
NOT_DECODED = {6: "scale-offset", 32000: "lzf"}
"""Filters whose bytes the native engine locates, and leaves to libhdf5 to decode: nothing else is."""
_FOREIGN = {"lzf", "scaleoffset"}


@settings(max_examples=60, **SETTINGS)
@given(form=forms)
def test_every_form_gives_the_same_facts_and_values(form: Form) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.h5"
        make(path, form)
        expected, found = both(path)
        assert_same_facts(expected, found)
        assert assert_same_values(path, found) == _n_not_decoded(path, found)
        assert all(reason.startswith("filters ") for reason in found.scan.through_h5py)
        assert _FOREIGN & {form.filters.get("compression"), *form.filters} or found.scan.through_h5py == {}


def _n_not_decoded(path: Path, facts: Facts) -> int:
    """Return how many components have a filter, by h5py, that is left to libhdf5: no other may be left."""
    with h5py.File(path) as root:
        cells = [root[f"{where}/{name}"] for where, name in zip(facts.containers, facts.names, strict=True)]
        return sum(_is_foreign(cell[component]) for cell in cells for component in Component if component in cell)


def _is_foreign(node: h5py.Dataset | h5py.Group) -> bool:
    if isinstance(node, h5py.Group):
        return any(_is_foreign(member) for member in node.values())
    plist = node.id.get_create_plist()
    return any(plist.get_filter(i)[0] in NOT_DECODED for i in range(plist.get_nfilters()))


@pytest.mark.parametrize("n_cells", [24, 1_100])
def test_datasets_that_cells_share_out_of_step_with_the_pieces(tmp_path: Path, n_cells: int) -> None:
    """Slides interleaved: the rows of what cells share are copied, within a piece and not from one before it."""
    path = tmp_path / "shared.h5"
    with h5py.File(path, "w", track_order=True) as root:
        for row in range(n_cells):
            cell = root.create_group(f"Cell_{row}")
            cell["expression"] = np.full(3, row, "f4")
            number = 0 if row < 5 else row // 7 % 2
            if row in (0, 7):
                cell["images/WSI_patch"] = np.full((4, 4, 3), number, "u1")
            else:
                cell["images/WSI_patch"] = root[f"Cell_{7 * number}/images/WSI_patch"]
    expected, found = both(path)
    assert_same_facts(expected, found)
    assert assert_same_values(path, found) == 0


def _two_that_meet(root: h5py.File, shape: tuple[int, ...], chunks: tuple[int, ...]) -> list[h5py.Dataset]:
    """Return two datasets whose headers are as many bytes apart as a table of 512 entries of 8 bytes is long."""
    met: dict[int, h5py.Dataset] = {}
    while True:
        made = root.create_dataset(f"pool/{len(met)}", shape, "u1", chunks=chunks, compression="gzip")
        address = h5py.h5o.get_info(made.id).addr % 4096
        if address in met:
            return [met[address], made]
        met[address] = made


def test_datasets_that_cells_share_in_turn_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_SPARE_ROWS", 1_000)
    monkeypatch.setattr(passes, "_BYTES_PER_ROW", 2**40)
    for module in (scan, columns):
        monkeypatch.setattr(module, "AT_ONCE", 100)
    path = tmp_path / "shared.h5"
    with h5py.File(path, "w", libver="latest") as root:
        images = _two_that_meet(root, (64, 64, 3), (8, 8, 3))
        for number, image in enumerate(images):
            image[...] = number
        for row in range(200):
            root[f"Cell_{row:03d}/expression"] = np.full(3, row, "f4")
            root[f"Cell_{row:03d}/images/WSI_patch"] = images[row % 2]
        del root["pool"]
    expected, found = both(path)
    assert_same_facts(expected, found)
    assert (found.defects, found.scan.through_h5py, found.scan.damaged) == ([], {}, False)
    assert found.wsi.tolist() == [0, 1] * 100


def _cells_of_many_chunks(path: Path, greedy: set[int], n_cells: int = 30) -> None:
    with h5py.File(path, "w", libver="latest") as root:
        for row in range(n_cells):
            many = {"chunks": (1,), "maxshape": (None,)} if row in greedy else {}
            root.create_dataset(f"Cell_{row:02d}/expression", data=np.arange(3_000) + row, dtype="f4", **many)
            root[f"Cell_{row:02d}/caption.txt"] = f"cell {row}"


def test_a_cell_that_takes_too_many_steps_is_alone_to_blame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "budget", lambda size: 2_000)
    _cells_of_many_chunks(tmp_path / "file.h5", {3, 4})
    found = both(tmp_path / "file.h5")[1]
    assert {defect.row for defect in found.defects} == {3, 4}
    assert all("budget" in defect.reason for defect in found.defects)
    assert (found.scan.through_h5py, found.scan.damaged) == ({}, True)


@pytest.mark.parametrize(("steps", "rows"), [(2_000, 10**6), (10**6, 2_500)])
def test_what_a_pass_has_no_budget_for_is_left_to_h5py(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, rows: int
) -> None:
    """Sound cells are never called damaged since others took what there was."""
    monkeypatch.setattr(passes, "budget", lambda size: steps)
    monkeypatch.setattr(passes, "_SPARE_ROWS", rows)
    monkeypatch.setattr(passes, "_BYTES_PER_ROW", 2**40)
    greedy = set(range(0, 20, 2))
    _cells_of_many_chunks(tmp_path / "file.h5", greedy)
    expected, found = both(tmp_path / "file.h5")
    to_blame = {defect.row for defect in found.defects}
    assert to_blame <= greedy
    assert len(to_blame) == (2 if steps < rows else 0)
    assert set(found.scan.through_h5py) == {"shared budget"}
    others = sorted(set(range(30)) - to_blame)
    assert found.captions[others].tolist() == expected.captions[others].tolist()
    with cn.open(tmp_path / "file.h5", index=False) as f:
        expression = f.expression[others].toarray()
    np.testing.assert_array_equal(expression, np.arange(3_000) + np.array(others)[:, None])


def test_a_cell_that_fills_all_rows_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_SPARE_ROWS", 100)
    monkeypatch.setattr(passes, "_BYTES_PER_ROW", 2**40)
    with h5py.File(tmp_path / "file.h5", "w", libver="latest") as root:
        for row in range(20):
            root[f"Cell_{row:02d}/expression"] = np.full(3, row, "f4")
            root[f"Cell_{row:02d}/note"] = row
        for number in range(100):
            root["Cell_07"].attrs[f"a{number}"] = number
            root[f"Cell_07/CCC/{number}"] = np.zeros(3)
    expected, found = both(tmp_path / "file.h5")
    assert found.scan.through_h5py == {"shared budget": 7}
    assert found.documents.columns.keys() == expected.documents.columns.keys()
    assert repr(found.documents.columns["a7"].as_python()) == repr(expected.documents.columns["a7"].as_python())
    assert found.defects == expected.defects == []
    assert assert_same_values(tmp_path / "file.h5", found) == 7


COMPOUND = np.array((1, 2.5), [("a", "i4"), ("b", "f4")])


@pytest.mark.parametrize("value", [np.longdouble(1.25), np.ones(2, np.longdouble), 1 + 2j, COMPOUND], ids=repr)
def test_an_attribute_of_a_type_that_is_not_read_is_of_its_cell_alone(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w", track_order=True) as root:
        for row in range(5):
            cell = root.create_group(f"Cell_{row}")
            cell["expression"] = np.full(3, row, "f4")
            cell.attrs["note"] = row
        root["Cell_1"].attrs["odd"] = value
        for row, name in ((2, "attributes.json"), (3, "caption")):  # read, whatever stands beside them
            root[f"Cell_{row}"].attrs[name] = '{"note": 7}'
            root[f"Cell_{row}"].attrs["odd"] = value
        root["Cell_3/attributes.json"] = "{}"
        root["Cell_4"].attrs["caption"] = value
    expected, found = both(path)
    assert_same_facts(expected, found)
    defects = [(problem.row, problem.component) for problem in sorted(expected.defects)]
    assert defects == [(1, "attributes.json"), (4, "caption.txt")]
    assert expected.documents.columns["note"].as_python() == [0, None, 7, None, 4]
    assert expected.captions[3] == '{"note": 7}'


@pytest.mark.parametrize("name", ["lung_xenium.h5", "her2st_two_slides.h5"])
def test_real_files_give_the_same(data_dir: Path, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    shutil.copyfile(data_dir / name, path)
    expected, found = both(path)
    assert_same_facts(expected, found)
    assert assert_same_values(path, found) == 0
    assert found.scan.through_h5py == {}
