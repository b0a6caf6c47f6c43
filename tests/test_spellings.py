"""What is read is what is stored, on every spelling of the contract; and a file written is the file read."""

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import HealthCheck, Phase, given, settings

import cellnet_sd as cn
from spell_places import natural_key
from spellings import LEVELS, SLIDE_KEYS, FileTruth, Spelling, canonical_files, cell_files, written
from truth_checks import (
    assert_same_datasets,
    check_attributes,
    check_captions,
    check_ccc,
    check_expression,
    check_genes,
    check_patch_rows,
    check_patches,
    check_positions,
    check_rows,
    check_slides,
    quiet,
    same_pixels,
    table,
)

Drawn = tuple[FileTruth, Spelling]
BOUNDED = (Phase.explicit, Phase.reuse, Phase.generate)
"""Shrinking a file takes minutes, on a failure only: add `Phase.shrink` to see the smallest one."""


def drawn(*parts: str, examples: int = 20) -> Callable[[Any], Any]:
    """Run a test on `examples` files, or more where the profile asks for more, in which `parts` are drawn in full."""
    unhurried = settings(
        max_examples=max(1, examples * settings().max_examples // 15),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=BOUNDED,
    )
    return lambda test: unhurried(given(file=cell_files(frozenset(parts)))(test))


# --- the files are what the truth says -------------------------------------------------------------------------------


def plain_expression(stored: h5py.Dataset | h5py.Group, n_genes: int) -> np.ndarray:
    """Read one expression vector as a user would."""
    if isinstance(stored, h5py.Dataset):
        return stored[()].reshape(-1)
    data, indices = stored["data"][()].astype(float), stored["indices"][()]
    if "indptr" in stored and len(stored["indptr"]) != 2:
        return sp.csc_matrix((data, indices, stored["indptr"][()]), shape=(1, n_genes)).toarray()[0]
    values = np.zeros(n_genes, data.dtype)
    values[indices] = data
    return values


@drawn("expression", "names", "slides", "images", "captions", examples=15)
def test_the_drawn_files_hold_what_their_truth_says(file: Drawn) -> None:
    truth, spelling = file
    with written(file) as (path, _), h5py.File(path) as root:
        for row, cell in enumerate(truth.cells):
            group = root[cell.path]
            n_genes = len(cell.expression)
            if not (spelling.expression[row].form.endswith("csc") and n_genes == 1):
                np.testing.assert_array_equal(plain_expression(group["expression"], n_genes), cell.expression)
            assert ("caption.txt" in group or "caption.txt" in group.attrs) == (cell.caption is not None)
            for level in LEVELS:
                assert (f"images/{LEVELS[level]}" in group) == (level in cell.patches)


def rows_by_rule(root: h5py.File, spelling: Spelling) -> list[str]:
    """Return the paths of the cells in the order of the contract's rule."""

    def is_tracked(group: h5py.Group) -> bool:
        return group.id.get_create_plist().get_link_creation_order() != 0

    def walk(group: h5py.Group) -> list[str]:
        names = list(group) if is_tracked(group) else sorted(group, key=natural_key)
        if spelling.order_key is not None and spelling.order_key in group and not is_tracked(group):
            names = group[spelling.order_key].asstr()[()].tolist()
        children = [group[name] for name in names if isinstance(group[name], h5py.Group)]
        return [path for child in children for path in ([child.name] if "expression" in child else walk(child))]

    return [path.removeprefix("/") for path in walk(root["/"])]  # a File does not tell that its root tracks order


def slides_by_rule(truth: FileTruth) -> list[Any]:
    """Return the value of the first signal that has more than one in the file, for each cell."""
    attributes = [next((c.attributes[key] for key in SLIDE_KEYS if key in c.attributes), None) for c in truth.cells]
    containers = [cell.container for cell in truth.cells]
    images = [cell.stored_patches["wsi"].tobytes() if "wsi" in cell.patches else None for cell in truth.cells]
    return next((signal for signal in (attributes, containers, images) if len(set(signal)) > 1), containers)


@drawn("names", "slides", "images", examples=15)
def test_the_drawn_truth_follows_the_rules_of_order_and_slides(file: Drawn) -> None:
    truth, spelling = file
    with written(file) as (path, _), h5py.File(path) as root:
        assert rows_by_rule(root, spelling) == [cell.path for cell in truth.cells]
    by_rule = slides_by_rule(truth)
    assert len(set(zip(by_rule, truth.slides, strict=True))) == len(set(by_rule)) == len(set(truth.slides))


# --- one component at a time -----------------------------------------------------------------------------------------


@drawn("expression", examples=40)
def test_expression_equals_the_stored_values_in_every_spelling(file: Drawn) -> None:
    with written(file) as (path, options):
        check_expression(table(path, **options), file[0])


@drawn("expression")
def test_expression_of_any_rows_comes_in_the_order_asked(file: Drawn) -> None:
    truth = file[0]
    with written(file) as (path, _), quiet():
        rows = np.random.default_rng(len(truth.cells)).permutation(len(truth.cells))[:5]
        with cn.open(path, index=False) as f:
            got = f.expression[rows]
            assert len(f) == len(truth.cells)
        np.testing.assert_array_equal(got.toarray(), truth.expression[rows])


@drawn("genes", "expression", examples=30)
def test_gene_names_are_found_wherever_they_are_kept(file: Drawn) -> None:
    truth, spelling = file
    with written(file) as (path, options):
        adata = table(path, **options)
        check_genes(adata, truth, has_ids=spelling.genes.has_ids)
        check_expression(adata, truth)


@drawn("genes", examples=10)
def test_genes_are_returned_in_the_order_asked(file: Drawn) -> None:
    truth = file[0]
    with written(file) as (path, options):
        names = table(path, **options).var_names[::-2].tolist()
        adata = table(path, genes=names, **options)
        columns = np.arange(truth.expression.shape[1])[::-2]
        assert adata.var_names.tolist() == names
        np.testing.assert_array_equal(adata.X.toarray(), truth.expression[:, columns])


@drawn("attributes", examples=40)
def test_attributes_and_positions_are_read_in_every_spelling(file: Drawn) -> None:
    with written(file) as (path, _):
        adata = table(path)
        check_attributes(adata, file[0])
        check_positions(adata, file[0])


@drawn("captions")
def test_captions_are_read_in_every_spelling(file: Drawn) -> None:
    truth = file[0]
    with written(file) as (path, _), quiet():
        check_captions(table(path), truth)
        assert "caption" not in table(path, captions=False).obs
        with cn.open(path, index=False) as f:
            got = list(f.captions)
        assert [None if pd.isna(text) else text for text in got] == [cell.caption for cell in truth.cells]


@drawn("names", "slides", examples=40)
def test_rows_keep_the_order_of_the_file_and_know_their_slide(file: Drawn) -> None:
    with written(file) as (path, _):
        adata = table(path)
        check_rows(adata, file[0])
        check_slides(adata, file[0])


@drawn("images", "slides", examples=30)
def test_patches_equal_the_stored_pixels_in_every_spelling(file: Drawn) -> None:
    truth, spelling = file
    with written(file) as (path, _), quiet():
        adata = table(path)
        check_patch_rows(adata, truth)
        for level, form in spelling.images.items():
            if any(level in cell.patches for cell in truth.cells):
                check_patches(cn.patches(path, level), truth, level, is_float=form.is_float)
        if any("cell" in cell.patches for cell in truth.cells):
            turned = adata[::-1].copy()
            stack = cn.patches(turned, "cell")
            backwards = FileTruth(truth.stem, truth.cells[::-1], truth.genes)
            check_patches(stack, backwards, "cell", is_float=spelling.images["cell"].is_float)


@drawn("ccc", "slides", examples=50)
def test_ccc_is_read_in_every_reading_and_encoding(file: Drawn) -> None:
    with written(file) as (path, _):
        check_ccc(table(path), file[0], pairs=False)
        check_ccc(table(path, ccc="pairs"), file[0], pairs=True)
        assert "ccc_connectivities" not in table(path, ccc=False).obsp


# --- everything together ---------------------------------------------------------------------------------------------

EVERYTHING = ("expression", "genes", "attributes", "captions", "images", "ccc", "slides", "names")


def check_table(adata: Any, truth: FileTruth, *, has_ids: bool = False, pairs: bool = False) -> None:
    check_rows(adata, truth)
    check_slides(adata, truth)
    check_expression(adata, truth)
    check_genes(adata, truth, has_ids=has_ids)
    check_attributes(adata, truth)
    check_positions(adata, truth)
    check_captions(adata, truth)
    check_patch_rows(adata, truth)
    check_ccc(adata, truth, pairs=pairs)


@drawn(*EVERYTHING, examples=25)
def test_everything_together_is_read_as_it_is_stored(file: Drawn) -> None:
    truth, spelling = file
    with written(file) as (path, options):
        first = table(path, **options)
        check_table(first, truth, has_ids=spelling.genes.has_ids)
        by_sidecar = table(path, index=True, **options)
        again = table(path, index=True, **options)
        pd.testing.assert_frame_equal(first.obs, by_sidecar.obs)
        pd.testing.assert_frame_equal(by_sidecar.obs, again.obs)
        check_expression(again, truth)


@drawn(*EVERYTHING, examples=15)
def test_writing_and_reading_again_is_the_identity(file: Drawn) -> None:
    truth, spelling = file
    levels = tuple(level for level in ("cell", "tissue") if any(level in cell.patches for cell in truth.cells))
    with written(file) as (path, options), quiet():
        sdata = cn.read(path, ccc="pairs", patches=levels, index=False, **options)
        out = path.parent / "out" / path.name
        out.parent.mkdir()
        cn.write(sdata, out)
        adata = table(out, ccc="pairs")
        check_table(adata, truth, has_ids=spelling.genes.has_ids, pairs=True)
        for level in levels:
            check_patches(cn.patches(out, level), truth, level, is_float=spelling.images[level].is_float)


@drawn("images", "slides", examples=8)
def test_the_stack_of_cell_patches_has_each_patch_at_its_plane(file: Drawn) -> None:
    truth, spelling = file
    if not any("cell" in cell.patches for cell in truth.cells):
        return
    with written(file) as (path, _), quiet():
        sdata = cn.read(path, patches=("cell",), index=False)
        obs = sdata["table"].obs
        for (slide, plane), cell in zip(obs[["slide", "cell_patch"]].itertuples(index=False), truth.cells, strict=True):
            if "cell" not in cell.patches:
                continue
            got = np.moveaxis(sdata.images[f"{slide}_cell_patches"][:, plane].values, 0, -1)
            stored = cell.stored_patches["cell"] if spelling.images["cell"].is_float else None
            assert same_pixels(got, cell.patches["cell"], stored)


@settings(suppress_health_check=[HealthCheck.too_slow], phases=BOUNDED)
@given(file=canonical_files())
def test_a_canonical_file_is_reproduced_dataset_by_dataset(file: Drawn) -> None:
    truth, _ = file
    levels = tuple(level for level in ("cell", "tissue") if any(level in cell.patches for cell in truth.cells))
    with written(file) as (path, _), quiet():
        sdata = cn.read(path, ccc="pairs", patches=levels, index=False)
        out = path.parent / "out" / path.name
        out.parent.mkdir()
        cn.write(sdata, out)
        assert_same_datasets(path, out, only=True)
        with h5py.File(out) as root:
            group = root[truth.cells[0].container or "/"]
            names = [cell.name for cell in truth.cells]
            assert [name for name in group if name in names] == names
