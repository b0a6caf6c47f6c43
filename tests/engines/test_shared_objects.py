"""Files whose cells share one object of very many parts: what is done for each cell is bounded by the file's bytes."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import CellNetError, CorruptFileError, MalformedCellError, TooManyKeysError
from cellnet_sd.layout import Component
from cellnet_sd.sources import guarded
from cellnet_sd.sources.allowance import MAX_INFLATION
from cellnet_sd.sources.guarded_time import OrderTime
from hostile_files import write_sound
from hostile_mutants import MEMORY, SECONDS

pytestmark = pytest.mark.thorough

N_MEMBERS = 20_000
N_ATTRIBUTES = 3_000
NAMED = "its cells name more members and attributes in all than the file holds"


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have everything imported, compiled and started that takes its time when it is first used."""
    path = tmp_path_factory.mktemp("warm") / "plain.h5"
    write_sound(path)
    _ = cn.open(path, index=False).ccc
    guarded.in_child("walk", path, [])


def _processor_time() -> float:
    """Return how many seconds this process and those it has started were at work."""
    own = psutil.Process()
    return sum(sum(each.cpu_times()[:4]) for each in (own, *own.children(recursive=True)))


def _in_bounds(path: Path, ask: Callable[[], object], declared: int = 0) -> None:
    """Fail if what is asked takes more time, or memory, than a small file may."""
    began, began_here = _processor_time(), time.process_time()
    ask()
    assert time.process_time() - began_here < SECONDS
    assert _processor_time() - began < 2 * SECONDS  # with the guarded child's
    tracemalloc.start()  # which takes time itself
    try:
        ask()
        assert tracemalloc.get_traced_memory()[1] < MEMORY + 2 * path.stat().st_size + declared
    finally:
        tracemalloc.stop()


def _is_refused(
    path: Path, error: type[CellNetError], said: str, ask: Callable[[Any], object] = len, declared: int = 0
) -> None:
    """Fail unless it is refused, within bounds, to open a file or to ask it something."""

    def asked() -> None:
        with pytest.raises(error, match=rf"{path.stem}\.h5: {said}"):
            ask(cn.open(path, index=False))

    _in_bounds(path, asked, declared)


# --- members ---------------------------------------------------------------------------------------------------------


def _shared_group(root: h5py.File, tie: Callable[[h5py.Group], object], n_cells: int) -> None:
    pool = root.create_group("pool")
    pool["value"] = np.arange(3, dtype="f4")
    group = pool.create_group("group")
    for number in range(N_MEMBERS):
        group[f"member_{number}"] = pool["value"]
    for row in range(n_cells):
        cell = root.create_group(f"Cell_{row}")
        cell["expression"], cell["CCC"] = pool["value"], tie(group)


def _one_cell(root: h5py.File, n_cells: int) -> None:
    cell = root.create_group("Cell_0")
    cell["expression"] = np.arange(3, dtype="f4")
    for number in range(N_MEMBERS):
        cell[f"member_{number}"] = cell["expression"]
    for row in range(1, n_cells):
        root[f"Cell_{row}"] = cell


@pytest.mark.parametrize(("libver", "is_soft"), [("earliest", False), ("latest", True)])
def test_a_group_of_very_many_members_is_not_gone_through_for_each_cell(
    tmp_path: Path, libver: str, *, is_soft: bool
) -> None:
    path = tmp_path / "group.h5"
    with h5py.File(path, "w", libver=libver) as root:
        _shared_group(root, (lambda group: h5py.SoftLink(group.name)) if is_soft else lambda group: group, 2_000)
    _is_refused(path, CorruptFileError, NAMED)


def test_a_cell_of_very_many_members_is_not_gone_through_for_each_link(tmp_path: Path) -> None:
    path = tmp_path / "cell.h5"
    with h5py.File(path, "w", libver="earliest") as root:
        _one_cell(root, 5_000)
    _is_refused(path, CorruptFileError, NAMED)


# --- texts and attributes --------------------------------------------------------------------------------------------


def test_a_text_that_only_libhdf5_finds_is_not_as_many_copies_of_it(tmp_path: Path) -> None:
    path, n = tmp_path / "texts.h5", 2**20
    with h5py.File(path, "w", libver="latest") as root:
        text = np.full(n, ord("x"), "u1")
        root.create_dataset("pool/caption", data=text, chunks=(n,), compression="gzip")
        for row in range(1_000):
            root[f"Cell_{row}/expression"] = np.arange(3, dtype="f4")
            root[f"Cell_{row}/caption.txt"] = h5py.SoftLink("/pool/caption")
    _is_refused(path, CorruptFileError, "the texts of its cells are more in all")


def _of_many_attributes(path: Path, n_cells: int) -> None:
    with h5py.File(path, "w", libver="latest") as root:
        cell = root.create_group("Cell_0")
        cell["expression"] = np.arange(3, dtype="f4")
        for number in range(N_ATTRIBUTES):
            cell.attrs[f"a{number}"] = number
        for row in range(1, n_cells):
            root[f"Cell_{row}"] = cell


def test_very_many_attributes_that_cells_share_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "attributes.h5"
    _of_many_attributes(path, 5_000)
    _is_refused(path, TooManyKeysError, ".* are too many for a table")


@pytest.mark.parametrize("engine", ["auto", "h5py"])
def test_a_cell_of_very_many_attributes_is_read(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "attributes.h5"
    _of_many_attributes(path, 1)
    began = time.process_time()
    obs = cn.open(path, index=False, engine=engine).obs
    assert time.process_time() - began < SECONDS
    assert obs.loc["Cell_0", f"a{N_ATTRIBUTES - 1}"] == N_ATTRIBUTES - 1


# --- entries ---------------------------------------------------------------------------------------------------------


def test_a_matrix_that_cells_share_is_refused_before_it_is_decoded_for_each(tmp_path: Path) -> None:
    path, n = tmp_path / "matrix.h5", 1_000
    with h5py.File(path, "w", libver="latest") as root:
        lists = {"data": np.ones(n * n), "indices": np.tile(np.arange(n), n), "indptr": np.arange(n + 1) * n}
        for name, values in lists.items():
            root.create_dataset(f"pool/{name}", data=values, chunks=values.shape, compression="gzip")
        for row in range(n):
            root[f"Cell_{row}/expression"] = np.arange(3, dtype="f4")
            root[f"Cell_{row}/CCC"] = root["pool"]
    declared = MAX_INFLATION * path.stat().st_size
    _is_refused(path, MalformedCellError, "cell 'Cell_.*with those of other cells", lambda file: file.ccc, declared)


# --- time ------------------------------------------------------------------------------------------------------------


def test_what_orders_take_too_long_is_held_against_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plain.h5"
    write_sound(path)
    for _ in range(2):
        OrderTime.of(path, 1).note(2, 0)
    monkeypatch.setattr(guarded, "_server", lambda process: pytest.fail("it is asked again"))
    with pytest.raises(CorruptFileError, match=r"plain\.h5: .* did not come to an end"):
        guarded.fetch_guarded(path, Component.EXPRESSION, [("", "Cell_1")])


def test_orders_that_take_no_longer_than_they_may_owe_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plain.h5"
    write_sound(path)
    for _ in range(1_000):
        given = OrderTime.of(path, 10)
        given.note(0.1 + given.allowed, 1)
    assert OrderTime.of(path, 10).owed < 1e-6
