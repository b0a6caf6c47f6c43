"""Which cells and genes: `where=`, `cells=`, `slides=`, `genes=`, alone and together, against plain pandas."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import SelectionError
from cellnet_sd.handle import _as_rows
from cellnet_sd.selection import select_genes
from truth_checks import quiet, table

N = 12
TRUTH = pd.DataFrame(
    {
        "slide": ["s1", "s2", "s3"] * 4,
        "cell_type": (["T-cell", "B cell", None] * 4)[:N],
        "nb_genes": list(range(N)),
        "score": [float(row) / 2 if row % 4 else np.nan for row in range(N)],
        "is_tumour": [row % 2 == 0 for row in range(N)],
    },
    index=[f"Cell_{row}" for row in range(N)],
)
GENES = ["CD3E", "CD8A", "HLA-DRA", "CD8A"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of 12 cells on three slides, with gene names twice and identifiers."""
    path = tmp_path_factory.mktemp("selection") / "a.h5"
    with h5py.File(path, "w", track_order=True) as root:
        root["gene_names"], root["gene_ids"] = GENES, [f"ENSG{gene}" for gene in range(4)]
        for row, (name, values) in enumerate(TRUTH.iterrows()):
            cell = root.create_group(str(name))
            cell["expression"] = np.arange(4, dtype="f4") + 10 * row + 0.5
            document = {key: None if pd.isna(value) else value for key, value in values.items()}
            cell["attributes.json"] = json.dumps({**document, "nb genes": row, "nb_genes": row}, default=bool)
    return path


def rows_of(path: Path, **selection: Any) -> list[int]:
    """Return the rows that are read, after checking that names and expression are theirs."""
    adata = table(path, **selection)
    rows: list[int] = adata.obs["source_row"].tolist()
    assert adata.obs_names.tolist() == [f"Cell_{row}" for row in rows]
    assert adata.X[:, 0].toarray().ravel().tolist() == [10 * row + 0.5 for row in rows]
    return rows


# --- where= ----------------------------------------------------------------------------------------------------------

QUERIES = [
    "cell_type == 'T-cell'",
    "cell_type != 'T-cell'",
    "cell_type.isna()",
    "cell_type in ['T-cell', 'B cell'] and nb_genes > 4",
    "nb_genes % 5 == 0 or score >= 4.5",
    "score > 1",
    "not is_tumour",
    "is_tumour and slide == 's2'",
    "score.notna()",
    "3 < nb_genes <= 7",
]


@pytest.mark.parametrize("where", QUERIES)
def test_where_is_a_query_of_pandas(path: Path, where: str) -> None:
    frame = TRUTH.astype({"cell_type": "category", "slide": "category"})
    expected = frame.index.get_indexer(frame.query(where).index).tolist()
    assert expected
    assert rows_of(path, where=where) == expected


def test_where_is_about_the_columns_of_obs(path: Path) -> None:
    with cn.open(path, index=False) as f:
        assert rows_of(path, where="nb_genes == 3") == np.flatnonzero(f.obs["nb_genes"] == 3).tolist()
        assert "nb_genes_2" in f.obs
    assert rows_of(path, where="nb_genes_2 < 2") == [0, 1]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("cel_type == 'T-cell'", "cell_type"),
        ("nb_genes +", "cannot be evaluated"),
        ("nb_genes", "yes or no"),
        ("nb_genes.sum()", "yes or no"),
        ("", "cannot be evaluated"),
        ("cell_type > 3", "cannot be evaluated"),
        ("nb_genes > 99", "no cell satisfies"),
        ("@x > 3", "cannot be evaluated"),
        ("nb_genes.nonsense()", "cannot be evaluated"),
        ("cell_type = 'T-cell'", "Compare with =="),
        ("cell_type == 'T", "cannot be evaluated"),
        ("[1, 2]", "Compare with =="),
    ],
)
def test_a_query_that_says_nothing_of_the_cells_is_an_error_that_says_why(path: Path, where: str, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        cn.read_anndata(path, where=where, index=False)


@pytest.mark.parametrize(
    ("where", "asked", "meant"),
    [
        ("cel_type == 'T-cell'", "cel_type", "cell_type"),
        ("`cell type` == 'T-cell'", "cell type", "cell_type"),
        ("NB_GENES > 3", "NB_GENES", "nb_genes"),
    ],
)
def test_an_unknown_column_is_named_with_the_one_that_was_meant(path: Path, where: str, asked: str, meant: str) -> None:
    with pytest.raises(SelectionError) as caught:
        cn.read_anndata(path, where=where, index=False)
    assert f"no column '{asked}'" in str(caught.value)
    assert f"Did you mean '{meant}'" in str(caught.value)
    assert "'score'" in str(caught.value), "the columns are listed"
    assert "BACKTICK" not in str(caught.value)


def test_a_query_reaches_nothing_outside_the_table(path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for where in (f"__import__('pathlib').Path('{trace}').touch()", f"@pd.io.common.os.mkdir('{trace}')"):
        with pytest.raises(SelectionError):
            cn.read_anndata(path, where=where, index=False)
    assert not trace.exists()


# --- cells= ----------------------------------------------------------------------------------------------------------

CELLS = [
    (["Cell_7", "Cell_2"], [7, 2]),
    (pd.Index(["Cell_7", "Cell_2"]), [7, 2]),
    (pd.Series(["Cell_7", "Cell_2"]), [7, 2]),
    (np.array(["Cell_7", "Cell_2"]), [7, 2]),
    ([7, 2], [7, 2]),
    (np.array([11, 0], dtype=np.uint8), [11, 0]),
    ([-1, 0], [11, 0]),
    (range(3), [0, 1, 2]),
    (slice(3), [0, 1, 2]),
    (slice(None, None, -5), [11, 6, 1]),
    ("Cell_7", [7]),
    (3, [3]),
    (np.int32(-1), [11]),
    (TRUTH["is_tumour"].to_numpy(), [0, 2, 4, 6, 8, 10]),
    (TRUTH["is_tumour"].tolist(), [0, 2, 4, 6, 8, 10]),
]


@pytest.mark.parametrize(("cells", "rows"), CELLS)
def test_cells_are_names_rows_or_a_mask_and_keep_their_order(path: Path, cells: Any, rows: list[int]) -> None:
    assert rows_of(path, cells=cells) == rows


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["Cell_1", "Cell_99"], "Cell_99"),
        ([0, 12], "row 12"),
        ([-13], "row -13"),
        ([1, 1], "twice"),
        (["Cell_1", "Cell_1"], "twice"),
        ([-1, 11], "twice"),
        (np.ones(5, dtype=bool), "a mask of 5"),
        ([], "no cell"),
        (np.zeros(N, dtype=bool), "no cell"),
        ([1.5], "float64"),
        (np.array([1, 2], "f4"), "float32"),
        (1.5, "float64"),
        ("Cell_99", "no cell 'Cell_99'"),
    ],
)
def test_cells_that_are_not_there_are_an_error_that_names_them(path: Path, cells: Any, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        cn.read_anndata(path, cells=cells, index=False)


def test_names_that_clash_are_asked_for_with_their_slide(tmp_path: Path) -> None:
    path = tmp_path / "twins.h5"
    with h5py.File(path, "w", track_order=True) as root:
        root["gene_names"] = ["A"]
        for row, name in enumerate(("s1/Cell_1", "s1/Cell_2", "s2/Cell_1", "s2/Cell_3")):
            root.require_group(name)["expression"] = np.array([row + 0.5], "f4")
    adata = table(path, cells=["s2/Cell_1", "Cell_3", "s1/Cell_1"])
    assert adata.obs["source_row"].tolist() == [2, 3, 0]
    with pytest.raises(SelectionError, match="several"):
        cn.read_anndata(path, cells=["Cell_1"], index=False)
    alone = table(path, slides=["s2"])
    assert alone.obs_names.tolist() == ["Cell_1", "Cell_3"], "names are bare where they are unique in the object"
    assert alone.obs["cell_id"].tolist() == alone.obs_names.tolist()


# --- slides=, and all together ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slides", "rows"), [(["s2"], [1, 4, 7, 10]), ("s2", [1, 4, 7, 10]), (["s3", "s1"], None)])
def test_slides_keep_the_order_of_the_file(path: Path, slides: Any, rows: list[int] | None) -> None:
    assert rows_of(path, slides=slides) == (rows or [0, 2, 3, 5, 6, 8, 9, 11])


def test_a_slide_that_is_not_there_is_an_error_that_lists_those_that_are(path: Path) -> None:
    with pytest.raises(SelectionError, match="s9") as caught:
        cn.read_anndata(path, slides=["s1", "s9"], index=False)
    assert "'s1', 's2', 's3'" in str(caught.value)


def test_all_conditions_hold_together_and_cells_settles_the_order(path: Path) -> None:
    given = {"cells": [10, 7, 4, 3, 1], "slides": ["s2"], "where": "nb_genes > 2"}
    assert rows_of(path, **given) == [10, 7, 4]
    with pytest.raises(SelectionError, match="no cell satisfies"):
        cn.read_anndata(path, cells=[0], slides=["s2"], index=False)


def test_categories_of_what_is_left_out_are_left_out(path: Path) -> None:
    obs = table(path, slides=["s1"]).obs
    assert obs["cell_type"].cat.categories.tolist() == ["T-cell"]
    assert obs["region"].cat.categories.tolist() == ["s1_cells"]


# --- genes= ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("genes", "columns"),
    [
        (["HLA-DRA", "CD3E"], [2, 0]),
        (["CD8A", "CD8A-1"], [1, 3]),
        (["ENSG3", "CD3E"], [3, 0]),
        ("CD3E", [0]),
        (pd.Index(["CD3E"]), [0]),
        ([], []),
    ],
)
@pytest.mark.parametrize("backed", [True, False])
def test_genes_come_in_the_order_asked(path: Path, genes: Any, columns: list[int], backed: bool) -> None:
    adata = table(path, genes=genes, backed=backed)
    assert adata.var["gene_ids"].tolist() == [f"ENSG{column}" for column in columns]
    matrix = adata.X.compute() if backed else adata.X
    expected = np.arange(4)[columns] + 10 * np.arange(N)[:, None] + 0.5
    np.testing.assert_array_equal(matrix.toarray(), expected.astype("f4").reshape(N, len(columns)))


@pytest.mark.parametrize(
    ("genes", "says"), [(["CD4"], "CD4"), (["CD3E", "CD3E"], "twice"), (["CD3E", "ENSG0"], "twice")]
)
def test_genes_that_are_not_there_are_an_error_that_names_them(path: Path, genes: list[str], says: str) -> None:
    with quiet(), pytest.raises(SelectionError, match=says):
        cn.read_anndata(path, genes=genes, index=False)


@pytest.mark.parametrize(("gene", "meant"), [("CD3", "CD3E"), ("cd8a", "CD8A"), ("HLA_DRA", "HLA-DRA")])
def test_an_unknown_gene_is_named_with_the_file_and_what_was_meant(gene: str, meant: str) -> None:
    with pytest.raises(SelectionError, match=rf"a\.h5 has no gene '{gene}'.*Did you mean '{meant}'"):
        select_genes(pd.Index(GENES[:3]), [gene], None, file="a.h5")


# --- rows of an open file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[], np.empty(0, np.int64), np.zeros(N, dtype=bool), slice(0, 0)])
def test_no_rows_of_expression_are_an_empty_matrix(path: Path, rows: Any) -> None:
    with quiet(), cn.open(path, index=False) as f:
        matrix = f.expression[rows]
    assert (matrix.shape, matrix.format, matrix.dtype) == ((0, len(GENES)), "csr", np.float32)


@pytest.mark.parametrize("rows", [np.s_[:3, :5], np.s_[0, 1], np.s_[[0, 1], [2, 3]], [[0, 1]], np.nonzero([True])])
def test_genes_are_not_chosen_along_with_rows(path: Path, rows: Any) -> None:
    with quiet(), cn.open(path, index=False) as f, pytest.raises(SelectionError, match=r"\.h5: rows alone"):
        f.expression[rows]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint64])
def test_rows_may_be_of_integers_that_do_not_hold_the_number_of_cells(dtype: type[np.integer]) -> None:
    rows = _as_rows(SimpleNamespace(index=range(300)), np.array([5], dtype))
    assert (rows.tolist(), rows.dtype) == ([5], np.int64)


@pytest.mark.parametrize("rows", [1.5, [1.5], np.ones(3)])
def test_rows_of_expression_by_fractions_are_an_error_that_names_their_type(path: Path, rows: Any) -> None:
    with quiet(), cn.open(path, index=False) as f, pytest.raises(SelectionError, match="float64"):
        f.expression[rows]
