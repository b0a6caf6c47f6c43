"""Several files as one object: every value where it belongs, nothing that was not measured taken for zero unsaid."""

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd

import cellnet_sd as cn
from cellnet_sd.conversion.workspace import Workspace
from cellnet_sd.errors import CellNetWarning, LayoutError, SelectionError
from sound_file import LINKS, full_file
from spell_ccc import write_matrix
from spellings import FileTruth, write
from truth_checks import quiet

PANELS = {"a": ["CD3E", "CD8A", "KRT8"], "b": ["KRT8", "EPCAM", "CD3E"]}


def study(folder: Path, stem: str, names: Sequence[str], **attributes: Sequence[Any]) -> tuple[Path, FileTruth]:
    """Write a file of four cells with every component, and return its truth; `attributes` by row."""
    truth, spelling = full_file()
    truth.genes = PANELS[stem]
    rng = np.random.default_rng(ord(stem))
    for row, (cell, name) in enumerate(zip(truth.cells, names, strict=True)):
        cell.name, cell.caption = name, f"cell {row} of {stem}"
        cell.expression = (rng.integers(0, 9, 3) + np.array([0.5, 0, 0.25])).astype("f4")
        cell.attributes = {**cell.attributes, **{key: values[row] for key, values in attributes.items()}}
        cell.patches["cell"] = cell.stored_patches["cell"] = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    path = folder / f"{stem}.h5"
    write(path, truth, spelling)
    with h5py.File(path, "a") as root:
        root.attrs["mpp"], root.attrs["wsi_scale"] = 0.5, 4.0
    return path, truth


@pytest.fixture
def studies(tmp_path: Path) -> list[tuple[Path, FileTruth]]:
    """Return two studies that share two genes, two names of cells, and the name of a slide."""
    return [
        study(tmp_path, "a", ["Cell_1", "Cell_2", "Cell_3", "Cell_4"], slide=["s", "s", "t", "t"], batch=[1, 2, 3, 4]),
        study(tmp_path, "b", ["Cell_3", "Cell_4", "Cell_5", "Cell_6"], slide=["s"] * 3 + ["u"], donor=["x", "y"] * 2),
    ]


@pytest.fixture
def paths(studies: list[tuple[Path, FileTruth]]) -> list[Path]:
    return [path for path, _ in studies]


def table(paths: Any, **options: Any) -> ad.AnnData:
    with quiet():
        return cn.read_anndata(paths, **options)


def values(studies: list[tuple[Path, FileTruth]], genes: Sequence[str]) -> np.ndarray:
    """Return the expression of all cells, zero where it was not measured."""
    return np.array(
        [
            [dict(zip(truth.genes, cell.expression, strict=True)).get(gene, 0) for gene in genes]
            for _, truth in studies
            for cell in truth.cells
        ],
        dtype="f4",
    )


# --- what goes where -------------------------------------------------------------------------------------------------


def test_genes_are_those_of_any_file_and_what_was_measured_is_said(studies: Any, paths: list[Path]) -> None:
    adata = table(paths)
    assert adata.var_names.tolist() == ["CD3E", "CD8A", "KRT8", "EPCAM"]
    np.testing.assert_array_equal(adata.X.toarray(), values(studies, adata.var_names))
    assert adata.X.has_canonical_format
    measured = adata.varm["measured"]
    assert {name: measured.index[measured[name]].tolist() for name in measured} == {
        "a": ["CD3E", "CD8A", "KRT8"],
        "b": ["CD3E", "KRT8", "EPCAM"],
    }
    assert json.loads(adata.uns["cellnet_sd"]["labels"]) == {"a": str(paths[0]), "b": str(paths[1])}
    assert adata.uns["log1p"] == {"base": None}


def test_it_holds_what_anndata_concat_of_the_single_reads_does(paths: list[Path]) -> None:
    adata, single = table(paths), [table(path) for path in paths]
    for each, key in zip(single, "ab", strict=True):
        each.obs_names = f"{key}_" + each.obs_names
    with quiet():
        expected = ad.concat(single, join="outer", pairwise=True)
    got = adata[:, expected.var_names]
    assert (got.X != expected.X).nnz == 0
    assert set(adata.obsp) == set(expected.obsp)
    for key in expected.obsp:
        assert (adata.obsp[key] != expected.obsp[key]).nnz == 0, key
    for key in expected.obsm:
        np.testing.assert_array_equal(adata.obsm[key], expected.obsm[key])
    for column in set(expected.obs) - {"slide", "region", "cell_id"}:
        assert adata.obs[column].astype(str).tolist() == expected.obs[column].astype(str).tolist() or column == "batch"


def test_slides_and_cells_have_one_namespace(paths: list[Path]) -> None:
    adata = table(paths)
    assert adata.obs["slide"].tolist() == ["a_s", "a_s", "t", "t", "b_s", "b_s", "b_s", "u"]
    names = ["Cell_1", "Cell_2", "t/Cell_3", "t/Cell_4", "b_s/Cell_3", "b_s/Cell_4", "Cell_5", "Cell_6"]
    assert adata.obs_names.tolist() == names
    assert adata.obs["cell_id"].tolist() == names
    assert adata.obs["region"].tolist() == [f"{slide}_cells" for slide in adata.obs["slide"]]
    assert set(adata.uns["spatialdata_attrs"]["region"]) == set(adata.obs["region"])
    assert adata.obs["source_file"].tolist() == [str(path) for path in paths for _ in range(4)]
    assert adata.obs["source_row"].tolist() == [*range(4), *range(4)]


def test_columns_of_one_file_are_missing_in_the_other_and_keep_their_kind(paths: list[Path]) -> None:
    obs = table(paths).obs
    assert str(obs["batch"].dtype) in ("Int64", "float64")
    assert [None if pd.isna(value) else value for value in obs["batch"]] == [1, 2, 3, 4, None, None, None, None]
    assert isinstance(obs["donor"].dtype, pd.CategoricalDtype)
    assert obs["donor"][4:].tolist() == ["x", "y", "x", "y"]
    assert obs["donor"][:4].isna().all()


def test_a_column_of_numbers_here_and_text_there_is_text_and_said(tmp_path: Path) -> None:
    paths = [
        study(tmp_path, "a", "pqrs", grade=[1, 2, 1, 2])[0],
        study(tmp_path, "b", "tuvw", grade=["low", "high", "low", "high"])[0],
    ]
    with quiet() as caught:
        obs = cn.read_anndata(paths).obs
    assert obs["grade"].astype(str).tolist()[4:] == ["low", "high", "low", "high"]
    assert [float(value) for value in obs["grade"][:4]] == [1, 2, 1, 2]
    assert any("grade" in str(each.message) for each in caught)


def test_no_cell_signals_to_a_cell_of_another_file(paths: list[Path]) -> None:
    adata = table(paths)
    expected = np.zeros((8, 8), "f4")
    expected[:4, :4] = expected[4:, 4:] = LINKS
    np.testing.assert_array_equal(adata.obsp["ccc_connectivities"].toarray(), expected)
    assert adata.uns["ccc"]["connectivities_key"] == "ccc_connectivities"


def test_pairs_are_those_of_any_file(tmp_path: Path) -> None:
    rng, paths, links = np.random.default_rng(1), [], {}
    for stem, pairs in {"a": ["CD3E-KRT8", "X"], "b": ["X", "Y"]}.items():
        path, _ = study(tmp_path, stem, [f"{stem}{row}" for row in range(4)])
        links[stem] = dict(zip(pairs, rng.integers(1, 9, (2, 4, 4)).astype("f4"), strict=True))
        with h5py.File(path, "a") as root:
            for row in range(4):
                cell = root[f"{stem}{row}"]
                del cell["CCC"]
                made = write_matrix(cell, "CCC", np.array([links[stem][pair][row] for pair in pairs]), "csr")
                made.attrs["ccc_pairs"] = np.array(pairs, dtype=h5py.string_dtype())
        paths.append(path)
    adata = table(paths, ccc="pairs")
    assert adata.uns["ccc_pairs"].tolist() == ["CD3E-KRT8", "X", "Y"]
    for pair in ("CD3E-KRT8", "X", "Y"):
        got = adata.obsp[f"ccc-{pair}_connectivities"].toarray()
        for at, stem in ((slice(0, 4), "a"), (slice(4, 8), "b")):
            np.testing.assert_array_equal(got[at, at], links[stem].get(pair, np.zeros((4, 4))))


def test_each_cell_keeps_its_own_patch(studies: Any, paths: list[Path]) -> None:
    with quiet():
        sdata = cn.read(paths)
        truth = np.array([cell.patches["cell"] for _, each in studies for cell in each.cells])
        np.testing.assert_array_equal(cn.patches(sdata, "cell").values, truth)
        some = sdata["table"][[6, 1]]
        np.testing.assert_array_equal(cn.patches(some, "cell").values, truth[[6, 1]])
        stack = np.moveaxis(sdata.images["b_s_cell_patches"].values, 0, -1)
    np.testing.assert_array_equal(stack[sdata["table"].obs["cell_patch"].iloc[4:7]], truth[4:7])
    assert {"a_s_wsi", "t_wsi", "b_s_wsi", "u_wsi"} <= set(sdata.images)
    assert sdata.shapes["b_s_cells"].index.tolist() == ["b_s/Cell_3", "b_s/Cell_4", "Cell_5"]


def test_what_is_written_back_is_what_was_read(studies: Any, paths: list[Path], tmp_path: Path) -> None:
    with quiet():
        cn.write(cn.read(paths), tmp_path / "all.h5")
        back = cn.read_anndata(tmp_path / "all.h5")
    np.testing.assert_array_equal(
        back[:, ["CD3E", "CD8A", "KRT8", "EPCAM"]].X.toarray()[np.argsort(back.obs["caption"], kind="stable")],
        values(studies, ["CD3E", "CD8A", "KRT8", "EPCAM"])[np.argsort(table(paths).obs["caption"], kind="stable")],
    )


# --- one, none, and what does not go together ------------------------------------------------------------------------


def test_a_list_of_one_is_that_file(paths: list[Path]) -> None:
    got, expected = table(paths[:1]), table(paths[0])
    pd.testing.assert_frame_equal(got.obs, expected.obs)
    pd.testing.assert_frame_equal(got.var, expected.var)
    assert (got.X != expected.X).nnz == 0
    assert got.uns["cellnet_sd"] == expected.uns["cellnet_sd"]
    assert "measured" not in got.varm


@pytest.mark.parametrize("number", [0, 2])
def test_no_file_and_a_file_twice_are_refused(paths: list[Path], number: int) -> None:
    with pytest.raises(ValueError, match="no file" if number == 0 else rf"^{re.escape(str(paths[0]))} is named twice"):
        cn.read_anndata(paths[:1] * number)


def test_counts_and_logarithms_do_not_go_into_one_matrix(studies: Any, paths: list[Path]) -> None:
    with h5py.File(paths[1], "r+") as root:
        for cell in studies[1][1].cells:
            root[f"{cell.name}/expression"][...] = [3, 0, 2]
    with pytest.raises(LayoutError, match=r"a\.h5 holds lognorm.*b\.h5 holds counts.*expression="):
        table(paths)
    assert table(paths, expression="lognorm").n_obs == 8
    assert table(paths, expression=False).n_obs == 8


def test_a_file_that_does_not_name_its_genes_is_refused(paths: list[Path]) -> None:
    with h5py.File(paths[1], "r+") as root:
        del root["gene_names"]
    with pytest.raises(LayoutError, match=r"b\.h5 names its genes nowhere.*gene_list="):
        table(paths)


# --- selection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "rows"),
    [
        ({"cells": ["Cell_6", "Cell_1"]}, [0, 7]),
        ({"cells": ["Cell_4"]}, [3, 5]),
        ({"cells": ["b_s/Cell_4"]}, [5]),
        ({"slides": ["t", "u"]}, [2, 3, 7]),
        ({"slides": ["s"]}, [0, 1, 4, 5, 6]),
        ({"slides": ["b_s"]}, [4, 5, 6]),
        ({"where": "tissue == 'Lung' and slide != 'a_s'"}, [2, 3, 4, 5, 6, 7]),
    ],
)
def test_a_selection_is_of_each_file(studies: Any, paths: list[Path], selection: Any, rows: list[int]) -> None:
    adata = table(paths, **selection)
    whole = table(paths)
    assert adata.obs["source_row"].tolist() == whole.obs["source_row"].iloc[rows].tolist()
    assert adata.obs["source_file"].tolist() == whole.obs["source_file"].iloc[rows].tolist()
    np.testing.assert_array_equal(adata.X.toarray(), values(studies, adata.var_names)[rows])


def test_genes_are_returned_in_the_order_asked_whichever_file_has_them(studies: Any, paths: list[Path]) -> None:
    adata = table(paths, genes=["EPCAM", "CD3E"])
    assert adata.var_names.tolist() == ["EPCAM", "CD3E"]
    np.testing.assert_array_equal(adata.X.toarray(), values(studies, ["EPCAM", "CD3E"]))
    assert adata.varm["measured"].to_numpy().tolist() == [[False, True], [True, True]]


def test_a_column_of_one_file_selects_there_and_the_other_is_named(paths: list[Path]) -> None:
    with quiet() as caught:
        adata = cn.read_anndata(paths, where="batch > 2")
    assert adata.obs["source_row"].tolist() == [2, 3]
    said = " ".join(str(each.message) for each in caught if issubclass(each.category, CellNetWarning))
    assert "b.h5" in said
    assert "'batch'" in said


@pytest.mark.parametrize(
    ("selection", "unknown"),
    [
        ({"genes": ["CD3E", "NOPE"]}, "NOPE"),
        ({"cells": ["Cell_1", "Cell_77"]}, "Cell_77"),
        ({"slides": ["nowhere"]}, "nowhere"),
        ({"where": "no_such_column == 1"}, "no_such_column"),
        ({"where": "tissue == 'Moon'"}, "Moon"),
        ({"cells": [0, 1]}, "by name"),
    ],
)
def test_what_is_in_no_file_is_named(paths: list[Path], selection: Any, unknown: str) -> None:
    with quiet(), pytest.raises(SelectionError, match=unknown):
        cn.read_anndata(paths, **selection)


# --- lazily, and converted -------------------------------------------------------------------------------------------


def test_a_lazy_matrix_of_several_files_has_the_same_values(studies: Any, paths: list[Path]) -> None:
    lazy = table(paths, backed=True)
    assert lazy.X.chunks == ((4, 4), (4,))
    np.testing.assert_array_equal(lazy.X.compute().toarray(), values(studies, lazy.var_names))
    np.testing.assert_array_equal(
        lazy[[5, 2], ["EPCAM"]].to_memory().X.toarray()[:, 0], values(studies, ["EPCAM"])[[5, 2], 0]
    )


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_a_conversion_of_several_files_is_what_is_read_although_it_is_interrupted(
    paths: list[Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    do, done = Workspace._do, []

    def interrupted(self: Any, job: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.name)
        do(self, job)

    with monkeypatch.context() as patch, quiet():
        patch.setattr(Workspace, "_do", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cn.convert(paths, tmp_path / name, n_threads=1)
    assert done[0].startswith("expression-")
    with quiet():
        out = cn.convert(paths, tmp_path / name)
        expected = cn.read(paths)
        got = ad.read_h5ad(out) if name == "out.h5ad" else sd.read_zarr(out)["table"]
    assert (got.X != expected["table"].X).nnz == 0
    pd.testing.assert_frame_equal(got.obs, expected["table"].obs, check_column_type=False)
    pd.testing.assert_frame_equal(got.varm["measured"], expected["table"].varm["measured"])
    assert (got.obsp["ccc_connectivities"] != expected["table"].obsp["ccc_connectivities"]).nnz == 0
    if name == "out.zarr":
        store = sd.read_zarr(out)
        assert set(store.images) == set(expected.images)
        assert set(store.coordinate_systems) == set(expected.coordinate_systems)
        for each in ("b_s_cell_patches", "u_wsi"):
            np.testing.assert_array_equal(store.images[each].values, expected.images[each].values)


def test_the_command_line_takes_several_files(paths: list[Path], tmp_path: Path) -> None:
    from click.testing import CliRunner

    from cellnet_sd.cli import main

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = CliRunner().invoke(main, ["convert", *map(str, paths), str(tmp_path / "out.h5ad")])
    assert found.exit_code == 0, found.output
    assert ad.read_h5ad(tmp_path / "out.h5ad").n_obs == 8
