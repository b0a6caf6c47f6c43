"""Keep the tables of docs/lazy.md true: run every call they list on a dask X."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import dask.array as da
import matplotlib.pyplot as plt
import numba
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import squidpy as sq

PAGE = Path(__file__).parent.parent / "docs" / "lazy.md"
CELLS, GENES, CHUNK = 120, 60, 30
FAILURES = (TypeError, ValueError, IndexError, NotImplementedError, numba.TypingError, ModuleNotFoundError)
"""How a call says, mostly unintended, that it cannot work with a dask X."""

# What the calls themselves warn of, in memory as on dask. Not what this test is about.
pytestmark = [
    pytest.mark.upstream,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:zero-centering a sparse array:UserWarning"),
    pytest.mark.filterwarnings("ignore:No data for colormapping:UserWarning"),
    pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning"),
]


class Row(NamedTuple):
    """One line of a table: the call, what becomes of it, how often it reads X, and what helps."""

    call: str
    outcome: str
    passes: str
    instead: str


def table_rows(text: str) -> Iterator[Row]:
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == len(Row._fields) and cells[1] in {"runs", "fails"}:
            yield Row(cells[0].strip("`"), cells[1], cells[2], cells[3].strip("`"))


ROWS = list(table_rows(PAGE.read_text(encoding="utf-8")))


@cache
def in_memory() -> ad.AnnData:
    """Two domains with their own genes and cell types, on a grid; PCA, neighbours and a layout done."""
    rng = np.random.default_rng(0)
    domain = np.repeat([0, 1], CELLS // 2)
    rate = 1 + 2 * (np.arange(GENES)[None, :] % 3 == domain[:, None])
    counts = rng.poisson(rate)
    shares = counts / counts.sum(axis=1, keepdims=True)
    adata = ad.AnnData(sp.csr_matrix(np.log1p(100 * shares).astype(np.float32)))
    adata.obs_names = [f"Cell_{i:04d}" for i in range(CELLS)]
    adata.var_names = [f"G{i}" for i in range(GENES)]
    adata.obs["cell_type"] = pd.Categorical(np.where(rng.random(CELLS) < 0.8, domain, 1 - domain).astype(str))
    adata.obs["slide"] = pd.Categorical(np.where(np.arange(CELLS) % 2, "a", "b"))
    adata.obsm["spatial"] = 50.0 * np.c_[np.arange(CELLS) // 10, np.arange(CELLS) % 10]
    adata.uns["log1p"] = {"base": None}
    sc.pp.pca(adata, n_comps=10)
    sc.pp.neighbors(adata, n_neighbors=8, method="gauss")  # method="umap" compiles for seconds
    adata.obsm["X_umap"] = adata.obsm["X_pca"][:, :2].copy()
    sq.gr.spatial_neighbors_grid(adata, n_neighs=4)
    return adata


class Counted:
    """A dask CSR `X` that counts how many of its chunks were read."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        self.reads = 0

        def read(block_info: dict[Any, Any]) -> sp.csr_matrix:
            (first, last), _ = block_info[None]["array-location"]
            self.reads += 1
            return matrix[first:last]

        rows = (CHUNK,) * (CELLS // CHUNK)
        meta = sp.csr_matrix((0, 0), dtype=matrix.dtype)
        self.array = da.map_blocks(read, chunks=(rows, (GENES,)), dtype=matrix.dtype, meta=meta)
        self.reads = 0

    @property
    def passes(self) -> float:
        return self.reads * CHUNK / CELLS


def run(call: str, adata: ad.AnnData) -> Any:
    """Run `call` on `adata` as a reader of the page would."""
    names = {"ad": ad, "adata": adata, "genes": ["G0", "G1", "G2"], "np": np, "sc": sc, "sq": sq}
    try:
        return eval(call, names)
    finally:
        plt.close("all")


def dense(value: Any) -> Any:
    value = value.compute() if isinstance(value, da.Array) else value
    return value.toarray() if sp.issparse(value) else value


def assert_same(lazy: ad.AnnData, memory: ad.AnnData) -> None:
    """Compare what both hold, except embeddings, whose axes have no sign."""
    pd.testing.assert_frame_equal(lazy.obs, memory.obs, check_exact=False, rtol=1e-4, check_dtype=False)
    pd.testing.assert_frame_equal(lazy.var, memory.var, check_exact=False, rtol=1e-4, check_dtype=False)
    assert set(lazy.layers) == set(memory.layers)
    for ours, theirs in [(lazy.X, memory.X), *((lazy.layers[key], memory.layers[key]) for key in memory.layers)]:
        if theirs is not None:
            np.testing.assert_allclose(dense(ours), dense(theirs), rtol=1e-4, atol=1e-5)


def test_page_has_tables() -> None:
    assert len(ROWS) > 40
    assert len({row.call for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if row.outcome == "runs"], ids=lambda row: row.call)
def test_runs(row: Row) -> None:
    memory, lazy = in_memory().copy(), in_memory().copy()
    counted = Counted(lazy.X)
    lazy.X = counted.array

    result = run(row.call, lazy)
    passes = counted.passes
    expected = run(row.call, memory)

    assert isinstance(lazy.X, da.Array)
    assert_same(lazy, memory)
    if isinstance(expected, ad.AnnData):
        assert_same(result, expected)
    assert f"{passes:g}" == row.passes


@pytest.mark.thorough
@pytest.mark.parametrize("row", [row for row in ROWS if row.outcome == "fails"], ids=lambda row: row.call)
def test_fails_until_in_memory(row: Row) -> None:
    lazy = in_memory().copy()
    lazy.X = Counted(lazy.X).array

    with pytest.raises(FAILURES):
        run(row.call, lazy)

    run(row.call, run(row.instead, lazy))


def test_pca_scores_stay_lazy_until_computed() -> None:
    adata = in_memory().copy()
    counted = Counted(adata.X)
    adata.X = counted.array

    sc.pp.pca(adata, n_comps=10)
    assert isinstance(adata.obsm["X_pca"], da.Array)
    with pytest.raises(TypeError):
        sc.pl.pca(adata, show=False)

    adata.obsm["X_pca"] = adata.obsm["X_pca"].compute()
    counted.reads = 0
    sc.pp.neighbors(adata)
    run("sc.pl.pca(adata, show=False)", adata)
    assert counted.passes == 0
    np.testing.assert_allclose(np.abs(adata.obsm["X_pca"]), np.abs(in_memory().obsm["X_pca"]), rtol=1e-2, atol=1e-3)


def test_the_cure_reads_once() -> None:
    adata = in_memory().copy()
    counted = Counted(adata.X)
    adata.X = counted.array
    assert isinstance(adata[:, ["G0", "G1"]].to_memory().X, sp.csr_matrix)
    assert counted.passes == 1
