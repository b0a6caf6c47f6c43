"""Single facts of the contract, each on the smallest file that shows it."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import CellNetError, CellNetWarning, SelectionError
from spell_arrays import ExpressionSpelling, GeneSpelling, ImageSpelling, write_matrix
from spell_ccc import CccSpelling, CccTruth
from spellings import FileTruth, plain_file, written
from truth_checks import check_expression, check_patches, check_rows, check_slides, quiet, table


def test_natural_order_puts_cell_999_before_cell_1000() -> None:
    truth, spelling = plain_file(4)
    spelling.tracked, spelling.creation = "no", [2, 0, 3, 1]
    for cell, number in zip(truth.cells, (9, 10, 999, 1000), strict=True):
        cell.name = f"Cell_{number}"
    with written((truth, spelling)) as (path, _):
        check_rows(table(path), truth)
        assert "natural" in str(cn.info(path)).lower()


def test_tracked_creation_order_wins_over_a_stored_order() -> None:
    truth, spelling = plain_file(4)
    with written((truth, spelling)) as (path, _):
        with h5py.File(path, "a") as root:
            root["cell_order"] = np.array([c.name for c in truth.cells[::-1]], dtype=h5py.string_dtype())
        assert table(path).obs_names.tolist() == [cell.name for cell in truth.cells]


def test_a_file_without_gene_names_gets_numbers_and_a_warning() -> None:
    truth, spelling = plain_file()
    truth.genes = None
    with written((truth, spelling)) as (path, _), quiet() as caught:
        adata = cn.read_anndata(path, index=False)
        assert adata.var_names.tolist() == ["gene_0", "gene_1", "gene_2"]
        assert any("gene" in str(warning.message) for warning in caught)


def test_two_gene_lists_that_fit_are_an_error_and_one_that_does_not_fit_is_passed_over() -> None:
    truth, spelling = plain_file()
    spelling.genes = GeneSpelling("beside", "", "lines", "{stem}.genes.txt")
    with written((truth, spelling)) as (path, _):
        other = path.parent / f"{path.stem}.genes.csv"
        other.write_text("A\nB\n")
        assert table(path).var_names.tolist() == truth.genes
        other.write_text("A\nB\nC\n")
        with quiet(), pytest.raises(CellNetError, match="gene_list="):
            cn.read_anndata(path, index=False)
        assert table(path, gene_list=other).var_names.tolist() == ["A", "B", "C"]


def test_a_gene_list_with_a_header_and_two_columns_is_read_by_its_header() -> None:
    truth, spelling = plain_file()
    truth.genes = None
    with written((truth, spelling)) as (path, _):
        genes = path.parent / "genes.csv"
        genes.write_text("gene_id,gene_name\nE0,A\nE1,B\nE2,C\n")
        assert table(path).var_names.tolist() == ["A", "B", "C"]


@pytest.mark.parametrize("given_as", ["lognorm", "counts"])
def test_the_caller_may_say_what_the_expression_is(given_as: str) -> None:
    with written(plain_file()) as (path, _):
        assert ("log1p" in table(path, expression=given_as).uns) == (given_as == "lognorm")


def test_counts_in_some_cells_and_logarithms_in_others_are_an_error() -> None:
    truth, spelling = plain_file()
    truth.cells[2].expression = np.array([1, 2, 3], "f4")
    with written((truth, spelling)) as (path, _), quiet(), pytest.raises(CellNetError, match="expression="):
        cn.read_anndata(path, index=False)


@pytest.mark.parametrize("dtype", ["i8", "f8"])
def test_values_that_float32_cannot_hold_are_reported(dtype: str) -> None:
    truth, spelling = plain_file()
    spelling.expression = [ExpressionSpelling(dtype=dtype)] * 4
    odd = 2**24 + 1 if dtype == "i8" else 0.1
    for cell in truth.cells:
        cell.expression = np.array([odd, 0, 3], dtype)
    with written((truth, spelling)) as (path, _), quiet() as caught:
        adata = cn.read_anndata(path, index=False)
        np.testing.assert_array_equal(adata.X.toarray(), truth.expression)
        said = [str(warning.message) for warning in caught] + [str(adata.uns["cellnet_sd"])]
        assert any("float32" in text for text in said)


@pytest.mark.parametrize("compression", ["Blosc", "Zstd", "LZ4", "Bitshuffle"])
def test_expression_and_patches_behind_a_plugin_filter(compression: str) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    truth, spelling = plain_file()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with written((truth, spelling)) as (path, _):
        with h5py.File(path, "a") as root:
            for cell in truth.cells:
                del root[cell.path]["expression"]
                options = {"data": cell.expression, "chunks": (2,), **getattr(hdf5plugin, compression)()}
                root[cell.path].create_dataset("expression", **options)
                options |= {"data": pixels, "chunks": (8, 4, 3)}
                root[cell.path].create_dataset("images/cell_patch", **options)
        check_expression(table(path), truth)
        with quiet():
            stack = cn.patches(path, "cell")
            assert (stack.values == pixels).all()


def test_patches_of_unequal_size_are_padded_and_said_so() -> None:
    truth, spelling = plain_file()
    spelling.images["cell"] = ImageSpelling()
    rng = np.random.default_rng(0)
    for cell, side in zip(truth.cells, (8, 6, 8, 5), strict=True):
        pixels = rng.integers(1, 256, (side, side + 1, 3), dtype=np.uint8)
        cell.patches["cell"] = cell.stored_patches["cell"] = pixels
    with written((truth, spelling)) as (path, _), quiet() as caught:
        check_patches(cn.patches(path, "cell"), truth, "cell")
        said = " ".join([*(str(warning.message) for warning in caught), str(cn.info(path))])
        assert "pad" in said.lower()


def test_patches_are_read_for_the_rows_asked_in_their_order() -> None:
    truth, spelling = plain_file()
    spelling.images["cell"] = ImageSpelling()
    for row, cell in enumerate(truth.cells):
        cell.patches["cell"] = cell.stored_patches["cell"] = np.full((5, 6, 3), row, np.uint8)
    with written((truth, spelling)) as (path, _), quiet(), cn.open(path, index=False) as f:
        got = f.patches("cell")[[2, 0, 3]]
        assert got.dims == ("cell", "y", "x", "c")
        assert got.shape == (3, 5, 6, 3)
        assert got.values[:, 0, 0, 0].tolist() == [2, 0, 3]


def test_one_image_among_cells_without_any_makes_one_slide() -> None:
    truth, spelling = plain_file()
    spelling.images["wsi"] = ImageSpelling()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    for cell in truth.cells[:2]:
        cell.patches["wsi"] = cell.stored_patches["wsi"] = pixels
    with written((truth, spelling)) as (path, _):
        check_slides(table(path), truth)


def test_images_that_differ_split_what_the_attribute_merged_and_it_is_said() -> None:
    attributes = [{"slide": name} for name in ("a", "a", "b", "b")]
    truth, spelling = plain_file(attributes=attributes, slide=[0, 1, 2, 2])
    truth.slide_names = None
    spelling.images["wsi"] = ImageSpelling()
    rng = np.random.default_rng(0)
    whole = [rng.integers(0, 256, (6, 7, 3), dtype=np.uint8) for _ in range(3)]
    for cell in truth.cells:
        cell.patches["wsi"] = cell.stored_patches["wsi"] = whole[cell.slide]
    with written((truth, spelling)) as (path, _), quiet() as caught:
        adata = cn.read_anndata(path, index=False)
        check_slides(adata, truth)
        assert any("slide" in str(warning.message).lower() for warning in caught)


def test_slide_names_become_legal_and_their_originals_are_kept() -> None:
    attributes = [{"slide": name} for name in ("a b", "a:b", "c/d", "C/D")]
    truth, spelling = plain_file(attributes=attributes, slide=[0, 1, 2, 3])
    truth.slide_names = None
    with written((truth, spelling)) as (path, _):
        adata = table(path)
        check_slides(adata, truth)
        names = adata.obs["slide"].tolist()
        assert all(c.isalnum() or c in "_-." for name in names for c in name)
        assert len({name.lower() for name in names}) == 4
        assert "a:b" in json.dumps({k: str(v) for k, v in adata.uns["cellnet_sd"].items()}) + str(adata.obs.to_dict())


def test_slide_names_survive_writing_under_another_name() -> None:
    truth, spelling = plain_file(slide=[0, 0, 1, 1])
    truth.slide_names = ["plain_1", "plain_2"]
    spelling.images["wsi"] = ImageSpelling()
    rng = np.random.default_rng(0)
    whole = [rng.integers(0, 256, (6, 7, 3), dtype=np.uint8) for _ in range(2)]
    for cell in truth.cells:
        cell.patches["wsi"] = cell.stored_patches["wsi"] = whole[cell.slide]
    with written((truth, spelling)) as (path, _), quiet():
        cn.write(cn.read(path, index=False), path.with_name("other.h5"))
        check_slides(table(path.with_name("other.h5")), truth)


def test_integers_beyond_float64_stay_exact() -> None:
    values = [2**53 + 1, -(2**60) - 1, 5, 2**53 - 1]
    truth, spelling = plain_file(attributes=[{"tissue": "Lung", "barcode": value} for value in values])
    with written((truth, spelling)) as (path, _):
        assert [int(value) for value in table(path).obs["barcode"]] == values
        truth.cells[2].attributes.pop("barcode")
        with h5py.File(path, "a") as root:
            del root["Cell_3/attributes.json"]
            root["Cell_3/attributes.json"] = '{"tissue": "Lung"}'
        column = table(path).obs["barcode"]
        assert [None if pd.isna(value) else int(value) for value in column] == [values[0], values[1], None, values[3]]


def test_original_attribute_strings_come_back_on_writing() -> None:
    stored = [
        {"tissue": "Lung", "cell_diameter": "9.0 µm", "Position_in_WSI": "(1, 2)"},
        {"tissue": None, "cell_diameter": "9000 nm", "Position_in_WSI": [1, 2.5]},
        {"cell_diameter": 9, "Position_in_WSI": {"x": 3, "y": 4}, "dataset title": "a: b"},
        {"cell_diameter": None, "tissue": "Lung", "Position_in_WSI": "3, 4", "nested": {"a": [1, None]}},
    ]
    truth, spelling = plain_file(attributes=stored)
    with written((truth, spelling)) as (path, _), quiet():
        cn.write(cn.read(path, index=False), path.with_name("out.h5"))
        with h5py.File(path.with_name("out.h5")) as root:
            got = [json.loads(root[cell.path]["attributes.json"].asstr()[()]) for cell in truth.cells]
        assert got == stored


# --- CCC -------------------------------------------------------------------------------------------------------------


def add_ccc(path: Path, truth: FileTruth, matrices: Any, **attrs: Any) -> None:
    """Store one CCC matrix per cell, CSR."""
    with h5py.File(path, "a") as root:
        for cell, matrix in zip(truth.cells, matrices, strict=True):
            made = write_matrix(root[cell.path], "CCC", matrix, "csr")
            for key, value in attrs.items():
                made.attrs[key] = np.array(value, dtype=h5py.string_dtype())


def test_ccc_with_two_axes_of_the_number_of_cells_is_an_error_that_names_the_way_out() -> None:
    matrices = [np.eye(4, dtype="f4")] * 4
    truth, spelling = plain_file(len(matrices))
    with written((truth, spelling)) as (path, _):
        add_ccc(path, truth, matrices)
        with quiet(), pytest.raises(CellNetError, match="ccc_layout="):
            cn.read_anndata(path, index=False)


def test_ccc_with_as_many_pair_names_as_cells_is_an_error() -> None:
    matrices = [np.arange(4, dtype="f4")[None]] * 4
    truth, spelling = plain_file(len(matrices))
    with written((truth, spelling)) as (path, _):
        add_ccc(path, truth, matrices, ccc_pairs=["a", "b", "c", "d"])
        with quiet(), pytest.raises(CellNetError, match="ccc_layout="):
            cn.read_anndata(path, index=False)


def test_links_of_a_whole_file_are_read_where_one_slide_has_a_single_cell() -> None:
    links = np.random.default_rng(1).integers(0, 3, (5, 5)).astype("f4")
    matrices = [row[None] for row in links]
    truth, spelling = plain_file(5, attributes=[{"slide": name} for name in "aabaa"])
    with written((truth, spelling)) as (path, _):
        add_ccc(path, truth, matrices)
        np.testing.assert_array_equal(table(path).obsp["ccc_connectivities"].toarray(), links)


def test_links_are_remapped_on_selection_and_lost_ones_are_counted() -> None:
    links = np.random.default_rng(2).integers(0, 3, (6, 6)).astype("f4")
    matrices = [row[None] for row in links]
    truth, spelling = plain_file(len(matrices))
    with written((truth, spelling)) as (path, _):
        add_ccc(path, truth, matrices)
        rows = [1, 2, 5]
        adata = table(path, cells=np.array(rows))
        np.testing.assert_array_equal(adata.obsp["ccc_connectivities"].toarray(), links[np.ix_(rows, rows)])
        lost = np.count_nonzero(links[rows]) - np.count_nonzero(links[np.ix_(rows, rows)])
        assert str(lost) in str(adata.uns["cellnet_sd"])


def test_pairs_of_known_genes_also_carry_the_names_of_commot() -> None:
    rng = np.random.default_rng(3)
    links = (rng.integers(0, 8, (2, 5, 5)) / 4).astype("f4")
    matrices = [links[:, row] for row in range(5)]
    truth, spelling = plain_file(len(matrices))
    truth.genes = ["HLA-DRA", "CD4", "VEGFA"]
    with written((truth, spelling)) as (path, _):
        add_ccc(path, truth, matrices, ccc_pairs=["HLA-DRA-CD4", "VEGFA-CD4"])
        adata = table(path, ccc="pairs")
        for links_of, key in zip(links, ("HLA-DRA-CD4", "VEGFA-CD4"), strict=True):
            np.testing.assert_array_equal(adata.obsp[f"ccc-{key}_connectivities"].toarray(), links_of)
            np.testing.assert_array_equal(adata.obsp[f"commot-cellnet-{key}"].toarray(), links_of)
        np.testing.assert_array_equal(adata.obsp["commot-cellnet-total-total"].toarray(), links.sum(0))
        sent = adata.obsm["commot-cellnet-sum-sender"]
        np.testing.assert_allclose(sent["s-HLA-DRA-CD4"], links[0].sum(axis=1))
        np.testing.assert_allclose(adata.obsm["commot-cellnet-sum-receiver"]["r-VEGFA-CD4"], links[1].sum(axis=0))
        assert "commot-cellnet-info" in adata.uns


# --- selection -------------------------------------------------------------------------------------------------------

SELECTIONS: list[tuple[dict[str, Any], list[int]]] = [
    ({"where": "tissue == 'Lung'"}, [0, 2]),
    ({"cells": ["Cell_4", "Cell_2"]}, [3, 1]),
    ({"cells": np.array([True, False, False, True])}, [0, 3]),
    ({"cells": np.array([2, 0])}, [2, 0]),
    ({"slides": ["b"]}, [2, 3]),
    ({"slides": ["b"], "where": "tissue == 'Lung'"}, [2]),
]


@pytest.mark.parametrize(("selection", "rows"), SELECTIONS)
def test_a_selection_has_the_rows_it_names(selection: dict[str, Any], rows: list[int]) -> None:
    tissues = zip("aabb", ("Lung", "Breast", "Lung", "Skin"), strict=True)
    truth, spelling = plain_file(attributes=[{"slide": s, "tissue": t} for s, t in tissues], slide=[0, 0, 1, 1])
    with written((truth, spelling)) as (path, _):
        adata = table(path, **selection)
        assert adata.obs["source_row"].tolist() in (rows, sorted(rows))
        got = adata.obs["source_row"].to_numpy()
        np.testing.assert_array_equal(adata.X.toarray(), truth.expression[got])
        assert set(adata.uns["spatialdata_attrs"]["region"]) == set(adata.obs["region"])


@pytest.mark.parametrize(
    ("selection", "unknown"),
    [
        ({"genes": ["G0", "NOPE"]}, "NOPE"),
        ({"cells": ["Cell_1", "Cell_77"]}, "Cell_77"),
        ({"slides": ["nowhere"]}, "nowhere"),
        ({"where": "no_such_column == 1"}, "no_such_column"),
        ({"cells": np.array([99])}, "99"),
    ],
)
def test_a_selection_of_something_unknown_names_it(selection: dict[str, Any], unknown: str) -> None:
    with written(plain_file()) as (path, _), quiet(), pytest.raises(SelectionError, match=unknown):
        cn.read_anndata(path, index=False, **selection)


def test_info_says_in_plain_words_what_was_taken() -> None:
    truth, spelling = plain_file()
    spelling.ccc = CccSpelling()
    links = np.eye(4, k=1, dtype="f4")[None]
    truth.ccc = CccTruth(links=links, present=np.ones(4, bool))
    with written((truth, spelling)) as (path, _), quiet():
        said = str(cn.info(path))
        assert "4" in said
        assert "order" in said.lower()
        assert "gene_names" in said
        assert "CCC" in said or "ccc" in said


def test_reading_without_gene_names_warns_as_cellnet_warning() -> None:
    truth, spelling = plain_file()
    truth.genes = None
    with written((truth, spelling)) as (path, _), quiet() as caught:
        cn.read_anndata(path, index=False)
    assert CellNetWarning in {warning.category for warning in caught}
