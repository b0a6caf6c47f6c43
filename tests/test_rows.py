"""The order of the rows: which of the four a file gets, and that everything counts by it."""

from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cellnet_sd as cn
from big_file import NAMES, SENDERS, N, big_file, links, pixels, profiles
from cellnet_sd import natural_order as ordering
from cellnet_sd.errors import LayoutError
from cellnet_sd.natural_order import natural_key, natural_order
from cellnet_sd.rows import row_order
from cellnet_sd.sources.facts import Stated
from truth_checks import quiet, table

SHUFFLED = ("Cell_10", "Cell_9", "Cell_100", "Cell_1")
"""Names in the order the cells are written in; their number is their only expression value."""


def write_cells(path: Path, names: Any = SHUFFLED, *, tracked: bool = False, **root_datasets: list[str]) -> Path:
    """Write a file of cells with one gene, whose value is the number in the cell's name."""
    with h5py.File(path, "w", track_order=tracked) as root:
        root["gene_names"] = ["A"]
        for key, values in root_datasets.items():
            root[key] = values
        for name in names:
            container, _, bare = name.rpartition("/")
            group = root.require_group(container) if container else root
            group.create_group(bare)["expression"] = np.array([float(bare.split("_")[1])], "f4")
    return path


def order_of(path: Path, **options: Any) -> list[str]:
    """Return the names in row order, after checking that expression follows them."""
    adata = table(path, **options)
    numbers = [float(name.rsplit("_", 1)[1]) for name in adata.obs_names]
    assert adata.X.toarray()[:, 0].tolist() == numbers
    with quiet(), cn.open(path, index=False, **options) as f:
        assert f.obs.index.tolist() == adata.obs_names.tolist()
        assert f.expression[:].toarray()[:, 0].tolist() == numbers
    return adata.obs_names.tolist()


# --- more than 9,999 cells -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of 10,500 cells: plain name order puts `Cell_10000` after `Cell_1000`."""
    return big_file(tmp_path_factory)


@pytest.fixture(scope="module")
def big_table(big: Path) -> Any:
    """Return its table."""
    return table(big, index=None)


def test_cells_beyond_9999_count_on_in_natural_order(big: Path, big_table: Any) -> None:
    assert big_table.obs_names.tolist() == NAMES
    assert sorted(NAMES) != NAMES
    np.testing.assert_array_equal(big_table.X.toarray(), profiles(np.arange(N)))
    np.testing.assert_array_equal(big_table.obsm["spatial"][:, 0], 50.0 * np.arange(N))
    assert big_table.obs["caption"].iloc[9_999] == "the cell at row 9999"
    around = np.arange(9_990, 10_010)
    np.testing.assert_array_equal(cn.patches(big, "cell")[around].values, pixels(around))


def test_links_beyond_9999_cells_reach_the_cells_they_name(big_table: Any) -> None:
    total = big_table.obsp["ccc_connectivities"].tocoo()
    np.testing.assert_array_equal(np.column_stack([total.row, total.col, total.data]), links())


def test_links_beyond_9999_cells_are_remapped_on_selection(big: Path) -> None:
    chosen = [NAMES[10_001], NAMES[10_000], NAMES[999]]
    adata = table(big, cells=chosen, index=None)
    assert adata.obs_names.tolist() == chosen
    expected = np.zeros((3, 3))
    expected[1, 0] = 10_001  # row 10,000 signals to row 10,001
    np.testing.assert_array_equal(adata.obsp["ccc_connectivities"].toarray(), expected)


def test_plain_name_order_is_taken_when_asked_for_and_its_links_are_out_of_reach(big: Path) -> None:
    with quiet(), cn.open(big, cell_order="name") as f:
        assert f.obs.index.tolist() == sorted(NAMES)
        assert len(f.ccc.data) == len(SENDERS)
    said = str(cn.info(big, cell_order="name"))
    assert "only" in said
    assert "within 200 µm" in said
    assert "cell_order='natural'" in said
    assert "100.0% of" in str(cn.info(big))


def test_reading_in_an_order_that_puts_links_out_of_reach_warns(big: Path) -> None:
    with quiet() as caught:
        cn.read_anndata(big, cell_order="name", expression=False, captions=False)
    assert any("within 200 µm" in str(warning.message) for warning in caught)


# --- which order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tracked", [True, False])
def test_the_order_is_creation_where_tracked_and_natural_elsewhere(tmp_path: Path, tracked: bool) -> None:
    path = write_cells(tmp_path / "a.h5", tracked=tracked)
    expected = list(SHUFFLED) if tracked else ["Cell_1", "Cell_9", "Cell_10", "Cell_100"]
    assert order_of(path) == expected
    assert ("written in" in str(cn.info(path, index=False))) is tracked


@pytest.mark.parametrize("key", ["cell_order", "cell_names", "cell_ids", "obs_names", "barcodes"])
def test_a_stored_order_at_the_root_is_taken(tmp_path: Path, key: str) -> None:
    stored = ["Cell_100", "Cell_1", "Cell_9", "Cell_10"]
    assert order_of(write_cells(tmp_path / "a.h5", **{key: stored})) == stored


def test_a_stored_order_of_whole_paths_is_taken(tmp_path: Path) -> None:
    paths = ["b/Cell_2", "a/Cell_1", "b/Cell_4", "a/Cell_3"]
    path = write_cells(tmp_path / "a.h5", sorted(paths), cell_order=paths)
    assert order_of(path) == [each.split("/")[1] for each in paths]


def test_a_stored_order_in_every_container_is_taken(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.h5", ["s2/Cell_1", "s2/Cell_2", "s10/Cell_3", "s10/Cell_4"])
    with h5py.File(path, "a") as root:
        root["s2/cell_order"], root["s10/cell_order"] = ["Cell_2", "Cell_1"], ["Cell_4", "Cell_3"]
    assert order_of(path) == ["Cell_2", "Cell_1", "Cell_4", "Cell_3"]


def test_a_stored_order_in_only_one_container_is_not_taken(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.h5", ["s2/Cell_1", "s2/Cell_2", "s10/Cell_3", "s10/Cell_4"])
    with h5py.File(path, "a") as root:
        root["s2/cell_order"] = ["Cell_2", "Cell_1"]
    assert order_of(path) == ["Cell_1", "Cell_2", "Cell_3", "Cell_4"]


@pytest.mark.parametrize("stored", [["Cell_1"], ["Cell_1", "Cell_9", "Cell_10", "X"], ["Cell_1"] * 4])
def test_a_list_of_other_names_is_no_order(tmp_path: Path, stored: list[str]) -> None:
    assert order_of(write_cells(tmp_path / "a.h5", barcodes=stored)) == ["Cell_1", "Cell_9", "Cell_10", "Cell_100"]


def test_containers_are_in_natural_order_and_rows_are_not_regrouped_by_slide(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.h5", ["s10/Cell_1", "s9/Cell_3", "s9/Cell_2"])
    with h5py.File(path, "a") as root:
        for name, slide in {"s9/Cell_2": "x", "s9/Cell_3": "y", "s10/Cell_1": "x"}.items():
            root[name]["attributes.json"] = f'{{"slide": "{slide}"}}'
    assert order_of(path) == ["Cell_2", "Cell_3", "Cell_1"]
    assert table(path).obs["slide"].tolist() == ["x", "y", "x"]


# --- cell_order= -----------------------------------------------------------------------------------------------------

STORED = ["Cell_9", "Cell_1", "Cell_100", "Cell_10"]
ORDERS = {
    "creation": list(SHUFFLED),
    "stored": STORED,
    "natural": ["Cell_1", "Cell_9", "Cell_10", "Cell_100"],
    "name": ["Cell_1", "Cell_10", "Cell_100", "Cell_9"],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("index", [True, False])
def test_cell_order_overrides(tmp_path: Path, order: str, index: bool) -> None:
    path = write_cells(tmp_path / "a.h5", tracked=True, cell_order=STORED)
    if index:
        cn.index(path)
    assert order_of(path, cell_order=order) == ORDERS[order]


def test_an_order_that_there_is_none_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cell_order='alphabetical' is not one of"):
        cn.read_anndata(write_cells(tmp_path / "a.h5"), cell_order="alphabetical", index=False)


@pytest.mark.parametrize("order", ["creation", "stored"])
def test_an_order_that_the_file_does_not_hold_is_an_error_that_names_the_way_out(tmp_path: Path, order: str) -> None:
    path = write_cells(tmp_path / "a.h5")
    with pytest.raises(LayoutError, match="cell_order="):
        cn.read_anndata(path, cell_order=order, index=False)


def test_everything_about_a_cell_moves_with_it(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.h5", tracked=True)
    with h5py.File(path, "a") as root:
        for at, name in enumerate(SHUFFLED):
            root[name]["attributes.json"] = f'{{"tissue": "t{name}", "odd": {["1", "1.0", "null", "2"][at]}}}'
            root[name]["caption.txt"] = f"about {name}"
            root[name]["images/cell_patch"] = np.full((2, 2, 3), at, "u1")
        del root["Cell_9/caption.txt"]
    adata = table(path, cell_order="natural")
    assert adata.obs["tissue"].tolist() == [f"t{name}" for name in adata.obs_names]
    assert adata.obs["caption"].isna().tolist() == [False, True, False, False]
    assert adata.obs["caption"].iloc[3] == "about Cell_100"
    patches = cn.patches(adata).values[:, 0, 0, 0]
    assert patches.tolist() == [SHUFFLED.index(name) for name in adata.obs_names]
    with quiet():
        cn.write(adata, tmp_path / "out.h5")
    with h5py.File(path) as before, h5py.File(tmp_path / "out.h5") as after:
        for name in SHUFFLED:
            assert after[name]["attributes.json"][()] == before[name]["attributes.json"][()]


# --- the function itself ---------------------------------------------------------------------------------------------


def test_no_run_of_digits_is_too_long_for_natural_order(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["9" * 5_000, "1" + "0" * 5_000, "x2", "x10", "x010"]
    rows, order = row_order(Path("x"), names[::-1], [""] * 5, {"": Stated(tracked=False)}, "natural")
    assert order == "natural"
    assert [names[::-1][row][:4] for row in rows] == ["9999", "1000", "x2", "x010", "x10"]
    assert all(a != b for a, b in pairwise(rows))
    zeros = ["0" * 256, "0" * 255, "a" + "0" * 255 + "1", "a" + "0" * 256 + "1"]
    expected = sorted(range(4), key=lambda at: natural_key(zeros[at]))
    monkeypatch.setattr(ordering, "_FEW", 0)
    assert natural_order(pa.array(zeros, pa.large_string())).tolist() == expected


def test_tracking_of_some_containers_only_is_no_tracked_order() -> None:
    stated = {"a": Stated(tracked=True), "b": Stated(tracked=False)}
    rows, order = row_order(Path("x"), ["2", "1", "4", "3"], ["a", "a", "b", "b"], stated)
    assert order == "natural"
    assert rows.tolist() == [1, 0, 3, 2]


class Walked(str):
    """A container or a name that counts how often two of its kind are compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Walked.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_what_the_walk_has_sorted_is_not_sorted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def sorted_again(name: str) -> Any:
        raise AssertionError(name)

    monkeypatch.setattr("cellnet_sd.rows.natural_order", sorted_again)
    stated = {"": Stated(tracked=False), "b": Stated(tracked=False)}
    rows, order = row_order(Path("x"), ["A_1", "A_2", "B_9", "B_10", "Z"], ["", "", "b", "b", ""], stated)
    assert order == "natural"
    assert rows.tolist() == [0, 1, 4, 2, 3]  # cells of a group stand together, groups as they were met
    assert row_order(Path("x"), [], [], {})[0].dtype == np.int64


@pytest.mark.parametrize("listed", [False, True])
def test_cells_of_many_containers_are_grouped_at_once(listed: bool) -> None:
    n = 600
    containers = [Walked(f"c{at % n}") for at in range(2 * n)]  # equal, yet not the same objects
    names = [f"n{at // n}" for at in range(2 * n)]
    values = {"cell_names": ["n1", "n0"]} if listed else {}
    stated = {str(container): Stated(tracked=False, values=dict(values)) for container in containers}
    Walked.compared = 0
    rows, order = row_order(Path("x"), names, containers, stated)
    assert Walked.compared < 20 * n
    pairs = [(at + n, at) if listed else (at, at + n) for at in range(n)]
    assert (order, rows.tolist()) == ("stored" if listed else "natural", [row for pair in pairs for row in pair])


_NAMES = st.lists(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "Cell_", "é", "z-", "Ż", "\0"]),
        st.sampled_from(["0", "00", "7", "07", "70", "700", "9" * 18, "9" * 19]) | st.integers(0, 2000).map(str),
        st.sampled_from([""] * 20 + ["x"]),
    ),
    unique=True,
)


_LIKE = {"a": "a_z:", "é": "éŻ", "0": "0189", "?": "z0\0"}
_ALIGNED = st.text([*_LIKE], min_size=1, max_size=12).flatmap(
    lambda form: st.lists(st.tuples(*(st.sampled_from(_LIKE[kind]) for kind in form)).map("".join), unique=True)
)


@given(_NAMES | _ALIGNED | st.tuples(_NAMES, _ALIGNED).map(lambda both: [*both[0], *both[1]]), st.integers(0, 3))
@pytest.mark.parametrize("few", [0, 2, 64])
def test_names_are_put_in_order_at_once_as_one_by_one(few: int, names: list[str], start: int) -> None:
    expected = sorted(range(len(names[start:])), key=lambda at: natural_key(names[start:][at]))
    with mock.patch.object(ordering, "_FEW", few):
        assert natural_order(pa.array(names, pa.large_string())[start:]).tolist() == expected
        assert natural_order(pa.array(names, pa.string())[start:]).tolist() == expected
