"""CCC that is decoded all at once is what one cell at a time gives, and what is wrong with a cell is said alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy import sparse

import cellnet_sd as cn
from cellnet_sd.communication import read_links
from cellnet_sd.components.ccc import CCCLinks
from cellnet_sd.errors import MalformedCellError
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problems
from cellnet_sd.sources.access import Engine
from cellnet_sd.sources.hdf5 import Hdf5Source
from cellnet_sd.sources.opening import open_source

N, P = 40, 3


def _matrix(row: int, n_rows: int, n_columns: int) -> sparse.csr_matrix:
    return sparse.random(n_rows, n_columns, density=0.15, format="csr", dtype=np.float32, random_state=row)


def _write(path: Path, n_rows: int = P, *, slides: bool = False, dtype: Any = np.float32, shape: bool = True) -> Path:
    with h5py.File(path, "w") as root:
        root["gene_names"] = ["A", "B"]
        root.attrs["pairs"] = [f"L{i}-R{i}" for i in range(n_rows)]
        for row in range(N):
            cell = root.create_group(f"slide_{row % 2}/Cell_{row:03d}" if slides else f"Cell_{row:03d}")
            cell["expression"] = np.array([row, 1.5], np.float32)
            matrix = _matrix(row, n_rows, N // 2 if slides else N)
            group = cell.create_group("CCC")
            group.attrs["encoding-type"] = "csr_matrix"
            if shape:
                group.attrs["shape"] = matrix.shape
            group["data"], group["indices"], group["indptr"] = matrix.data.astype(dtype), matrix.indices, matrix.indptr
    return path


def _links(path: Path, engine: Engine) -> CCCLinks:
    source = open_source(path, engine=engine, index=False)
    problems = Problems(path.name, str, "raise")
    links = read_links(source, np.arange(N), problems)
    assert links is not None
    return links


def _ordered(links: CCCLinks) -> list[Any]:
    order = np.lexsort((links.pair, links.receiver, links.sender))
    return [links.sender[order], links.receiver[order], links.pair[order], links.value[order]]


@pytest.mark.parametrize("kind", ["pairs", "one row", "by slide", "float64", "counts", "without a shape"])
def test_both_ways_give_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {
        "one row": {"n_rows": 1},
        "by slide": {"slides": True},
        "float64": {"dtype": np.float64},
        "counts": {"dtype": np.int64},
        "without a shape": {"shape": False},
    }.get(kind, {})
    path = _write(tmp_path / "file.h5", **options)
    slowly = _links(path, "h5py")
    alone: list[int] = []
    monkeypatch.setattr(Hdf5Source, "fetch", _counting(Hdf5Source.fetch, alone))
    at_once = _links(path, "native")
    if kind != "without a shape":  # whose cells, in detection alone, do not tell how many there are
        assert len(alone) <= N  # the sample of detection
    for own, other in zip(_ordered(at_once), _ordered(slowly), strict=True):
        np.testing.assert_array_equal(own, other)
        assert own.dtype == other.dtype
    assert (at_once.pairs, at_once.n_inexact) == (slowly.pairs, slowly.n_inexact)
    np.testing.assert_array_equal(np.sort(at_once.rows), np.arange(N))
    total = sum(_matrix(row, options.get("n_rows", P), N // 2 if options.get("slides") else N).nnz for row in range(N))
    assert len(at_once.value) == total > 0


def _counting(fetch: Callable[..., Any], alone: list[int]) -> Callable[..., Any]:
    def counting(self: Hdf5Source, component: Component, rows: Any) -> Any:
        if component is Component.CCC:
            alone.extend(rows)
        return fetch(self, component, rows)

    return counting


def _unsorted(group: h5py.Group) -> None:
    indptr = group["indptr"][()]
    row = int(np.argmax(np.diff(indptr)))
    part = slice(indptr[row], indptr[row + 1])
    for name in ("data", "indices"):
        group[name][part] = group[name][part][::-1]


def test_a_row_out_of_order_is_read_all_the_same(tmp_path: Path) -> None:
    path = _write(tmp_path / "file.h5")
    whole = _ordered(_links(path, "native"))
    with h5py.File(path, "r+") as root:
        _unsorted(root["Cell_005/CCC"])
    for own, other in zip(_ordered(_links(path, "native")), whole, strict=True):
        np.testing.assert_array_equal(own, other)


def _set(name: str, change: Callable[[Any], Any]) -> Callable[[h5py.Group], None]:
    def damage(group: h5py.Group) -> None:
        value = change(group[name][()])
        del group[name]
        group[name] = value

    return damage


def _at(place: int, value: Any) -> Callable[[Any], Any]:
    def change(items: Any) -> Any:
        items[place] = value
        return items

    return change


DAMAGES: dict[str, Callable[[h5py.Group], None]] = {
    "a column too far": _set("indices", _at(-1, N)),
    "a negative column": _set("indices", _at(0, -1)),
    "a column twice": _set("indices", np.zeros_like),
    "not finite": _set("data", _at(0, np.nan)),
    "too few values": _set("data", lambda items: items[:-1]),
    "too few rows": _set("indptr", lambda items: items[[0, -1]]),
    "rows that go back": _set("indptr", _at(1, 10_000)),
    "rows that begin late": _set("indptr", _at(0, 1)),
    "another shape": lambda group: group.attrs.modify("shape", (P, N + 1)),
    "an unknown format": lambda group: group.attrs.modify("encoding-type", "coo"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_is_said_as_by_the_other_engine(damage: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "file.h5")
    with h5py.File(path, "r+") as root:
        DAMAGES[damage](root["Cell_005/CCC"])
    said = []
    for engine in ("native", "h5py"):
        with pytest.raises(MalformedCellError) as caught:
            cn.read_anndata(path, engine=engine, index=False, ccc_layout="pairs_by_cells")
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "Cell_005" in said[0]
