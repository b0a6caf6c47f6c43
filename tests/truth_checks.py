"""Check what was read against a `FileTruth`, component by component; knows the contract, not the implementation."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

import cellnet_sd as cn
from cellnet_sd.errors import CellNetWarning
from spell_text import LABELS
from spellings import FileTruth

OWN = {"cell_id", "slide", "region", "source_file", "source_row", "cell_patch", "tissue_patch", "caption"}
_POSITIONS = {"Position_in_WSI", "Position_in_tissue"}


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Collect `CellNetWarning`s instead of raising them; for every other warning the suite's filters hold."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CellNetWarning)
        yield caught


def table(path: Path, **options: Any) -> Any:
    """Read a table without a sidecar, whatever is warned of."""
    with quiet():
        return cn.read_anndata(path, **{"index": False, **options})


def check_rows(adata: Any, truth: FileTruth) -> None:
    """Rows: order, names, instance key, and the place each came from."""
    names = [cell.name for cell in truth.cells]
    slides = adata.obs["slide"].astype(str).tolist()
    expected = [n if names.count(n) == 1 else f"{s}/{n}" for n, s in zip(names, slides, strict=True)]
    assert adata.obs_names.tolist() == expected
    assert adata.obs["cell_id"].astype(str).tolist() == expected
    assert adata.obs["source_row"].tolist() == list(range(len(names)))
    assert isinstance(adata.obs["source_file"].dtype, pd.CategoricalDtype)
    assert all(str(value).endswith(f"{truth.stem}.h5") for value in adata.obs["source_file"])


def check_slides(adata: Any, truth: FileTruth) -> None:
    """Slides: which cells belong together, and the names where the contract fixes them."""
    slide = adata.obs["slide"]
    assert isinstance(slide.dtype, pd.CategoricalDtype)
    assert len(set(zip(slide, truth.slides, strict=True))) == len(set(slide)) == len(set(truth.slides))
    assert adata.obs["region"].astype(str).tolist() == [f"{name}_cells" for name in slide]
    if truth.slide_names is not None:
        assert slide.tolist() == [truth.slide_names[number] for number in truth.slides]


def check_expression(adata: Any, truth: FileTruth) -> None:
    """Expression: every value, the matrix's type, and the log1p mark."""
    assert sp.issparse(adata.X)
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X.toarray(), truth.expression)
    if truth.lognorm:
        assert adata.uns["log1p"] == {"base": None}
    else:
        assert "log1p" not in adata.uns


def check_genes(adata: Any, truth: FileTruth, *, has_ids: bool) -> None:
    """Genes: names, made unique as anndata does, and ids and types where stored."""
    if truth.genes is None:
        assert adata.var_names.tolist() == [f"gene_{i}" for i in range(truth.expression.shape[1])]
        return
    assert adata.var_names.is_unique
    for row, (got, name) in enumerate(zip(adata.var_names, truth.genes, strict=True)):
        assert got == name if name not in truth.genes[:row] else got.startswith(name)
    if has_ids:
        assert adata.var["gene_ids"].tolist() == truth.gene_ids
        assert adata.var["feature_types"].tolist() == truth.feature_types


def check_positions(adata: Any, truth: FileTruth) -> None:
    """Positions in pixels and diameters in µm; NaN where the file holds none."""
    for key, field in {"spatial": "position", "spatial_tissue": "position_in_tissue"}.items():
        expected = np.array([getattr(cell, field) for cell in truth.cells], dtype=float)
        if key not in adata.obsm:
            assert np.isnan(expected).all()
            continue
        got = adata.obsm[key]
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, expected)
    expected = np.array([cell.diameter for cell in truth.cells])
    if "cell_diameter" not in adata.obs:
        assert np.isnan(expected).all()
        return
    assert adata.obs["cell_diameter"].dtype == np.float64
    np.testing.assert_allclose(adata.obs["cell_diameter"], expected, rtol=1e-12)


def check_captions(adata: Any, truth: FileTruth) -> None:
    """Captions: the text, NA where a cell has none."""
    captions = [cell.caption for cell in truth.cells]
    if "caption" not in adata.obs:
        assert captions == [None] * len(captions)
        return
    assert [None if pd.isna(got) else got for got in adata.obs["caption"]] == captions
    assert not isinstance(adata.obs["caption"].dtype, pd.CategoricalDtype)


# --- attributes ------------------------------------------------------------------------------------------------------


def check_attributes(adata: Any, truth: FileTruth) -> None:
    """Attributes: labels by name; the others by name where it is legal, else in some column of their own."""
    obs = adata.obs
    _check_column_names(list(obs.columns))
    free = [column for column in obs.columns if column not in OWN - {"slide"}]
    # those that must have their own name first: others may be held by any column of the same values
    for name in sorted(truth.attribute_names, key=lambda name: not _is_kept(name, truth)):
        if name in _POSITIONS or name == "cell_diameter":
            continue
        values = [cell.attributes.get(name) for cell in truth.cells]
        if name in (*LABELS, "st_technology"):
            _check_label(obs, name, values)
            continue
        fitting = [column for column in free if _holds(obs[column], values)]
        assert fitting or all(v is None for v in values), f"no column holds {name!r}: {values}"
        if fitting and _is_kept(name, truth):
            assert name in fitting
        if fitting and fitting[0] != "slide":
            free.remove(name if name in fitting else fitting[0])


def _is_kept(name: str, truth: FileTruth) -> bool:
    """Whether the column of an attribute has its name."""
    return _is_legal(name) and not _has_twin(name, truth)


def _check_column_names(columns: list[str]) -> None:
    assert all(_is_legal(column) for column in columns), columns
    assert len({column.lower() for column in columns}) == len(columns), columns


def _is_legal(name: str) -> bool:
    return (
        bool(name) and not name.startswith("__") and name != "_index" and all(c.isalnum() or c in "_-." for c in name)
    )


def _has_twin(name: str, truth: FileTruth) -> bool:
    others = [*truth.attribute_names, *LABELS, *OWN]
    return name in OWN or sum(name.lower() == other.lower() for other in set(others)) > 1


def _check_label(obs: pd.DataFrame, name: str, values: list[str | None]) -> None:
    if name not in obs:
        assert values == [None] * len(values)
        return
    assert isinstance(obs[name].dtype, pd.CategoricalDtype)
    assert [None if pd.isna(got) else got for got in obs[name]] == values


def _holds(column: pd.Series, values: list[Any]) -> bool:
    """Return whether `column` holds `values` in the type that the contract gives them."""
    known = [value for value in values if value is not None]
    kinds = {type(value) for value in known}
    if not known:
        return bool(column.isna().all())
    if kinds == {bool}:
        fits = len(known) < len(values) or pd.api.types.is_bool_dtype(column)
    elif kinds == {int} and len(known) == len(values):
        fits = pd.api.types.is_integer_dtype(column)
    elif kinds <= {int, float}:
        fits = pd.api.types.is_numeric_dtype(column)
    else:
        fits = not pd.api.types.is_numeric_dtype(column)
    as_text = not (kinds <= {int, float} or kinds in ({bool}, {str}))
    return fits and all(_same(got, want, as_text=as_text) for got, want in zip(column, values, strict=True))


def _same(got: Any, want: Any, *, as_text: bool) -> bool:
    if want is None:
        return bool(pd.isna(got)) or (as_text and got == "null")
    if pd.isna(got):
        return False
    if as_text:
        try:
            return isinstance(got, str) and _equal_json(json.loads(got), want)
        except json.JSONDecodeError:
            return False
    return bool(got == want)


def _equal_json(got: Any, want: Any) -> bool:
    """Compare as JSON does: `True` is not `1`."""
    return json.dumps(got, sort_keys=True) == json.dumps(want, sort_keys=True)


# --- images ----------------------------------------------------------------------------------------------------------


def check_patch_rows(adata: Any, truth: FileTruth) -> None:
    """`obs["cell_patch"]`: -1 where a cell has no patch, else a plane of its slide's stack of its own."""
    planes = adata.obs["cell_patch"]
    assert planes.dtype == np.int32
    held = np.array(["cell" in cell.patches for cell in truth.cells])
    np.testing.assert_array_equal(planes >= 0, held)
    with_plane = pd.DataFrame({"slide": truth.slides, "plane": planes.to_numpy()})[held]
    assert not with_plane.duplicated().any()


def check_patches(stack: Any, truth: FileTruth, level: str, *, is_float: bool = False) -> None:
    """Compare a `(cell, y, x, c)` stack with the patches of `level`, pixel for pixel."""
    assert stack.dims == ("cell", "y", "x", "c")
    cells = truth.cells if stack.sizes["cell"] == len(truth.cells) else [c for c in truth.cells if level in c.patches]
    assert stack.sizes["cell"] == len(cells)
    values = stack.values
    for got, cell in zip(values, cells, strict=True):
        if level in cell.patches:
            assert same_pixels(got, cell.patches[level], cell.stored_patches[level] if is_float else None)


def same_pixels(got: NDArray[Any], pixels: NDArray[np.uint8], stored: NDArray[Any] | None = None) -> bool:
    """Return whether `got` shows `pixels`: as they are, grey in three channels, or padded at the end or all round.

    `stored` are the floats in 0-1 that the file holds for them; they may be read as floats or as uint8.
    """
    height, width, channels = pixels.shape
    expected: NDArray[Any] = pixels
    if stored is not None and got.dtype.kind == "f":
        expected = stored.reshape(pixels.shape)
    elif got.dtype != np.uint8:
        return False
    if got.shape[-1] != channels:
        expected = np.repeat(expected, got.shape[-1], axis=-1) if channels == 1 else expected
    top, left = got.shape[0] - height, got.shape[1] - width
    if min(top, left) < 0:
        return False
    centred = got.shape[0] // 2 - height // 2, got.shape[1] // 2 - width // 2  # the cell stays where it was
    corners = {(0, 0), (top // 2, left // 2), centred}
    return any(np.array_equal(got[y : y + height, x : x + width], expected) for y, x in corners)


# --- CCC -------------------------------------------------------------------------------------------------------------


def check_ccc(adata: Any, truth: FileTruth, *, pairs: bool) -> None:
    """Links or scores, per pair when asked for, and the keys that scanpy and squidpy look for."""
    ccc = truth.ccc
    if ccc is None or not ccc.present.any():
        assert "ccc_connectivities" not in adata.obsp or adata.obsp["ccc_connectivities"].nnz == 0
        return
    if ccc.scores is not None:
        scores = adata.obsm["ccc_pairs"]
        assert sp.issparse(scores)
        assert scores.format == "csr"
        np.testing.assert_array_equal(scores.toarray(), ccc.scores)
    else:
        _check_links(adata, ccc, pairs=pairs)
    if ccc.pairs is not None and (pairs or ccc.scores is not None):
        assert list(adata.uns["ccc_pairs"]) == ccc.pairs or sorted(adata.uns["ccc_pairs"]) == sorted(ccc.pairs)


def _check_links(adata: Any, ccc: Any, *, pairs: bool) -> None:
    total = adata.obsp["ccc_connectivities"]
    assert sp.issparse(total)
    assert total.format == "csr"
    np.testing.assert_array_equal(total.toarray(), ccc.total)
    assert adata.uns["ccc"]["connectivities_key"] == "ccc_connectivities"
    assert adata.uns["ccc_neighbors"]["connectivities_key"] == "ccc_connectivities"
    assert {"n_neighbors", "method"} <= set(adata.uns["ccc"]["params"])
    found = {m[1]: adata.obsp[key] for key in adata.obsp if (m := re.fullmatch(r"ccc-(.+)_connectivities", key))}
    if not pairs:
        assert not found
        return
    if len(ccc.links) > 1 or ccc.pairs is not None:
        got = [matrix.toarray() for matrix in found.values()]
        assert sorted(m.astype(float).tolist() for m in got) == sorted(m.tolist() for m in ccc.links)
    for pair, links in zip(ccc.pairs or [], ccc.links, strict=False):
        if _is_legal(pair):
            np.testing.assert_array_equal(found[pair].toarray(), links)


# --- files -----------------------------------------------------------------------------------------------------------


def assert_same_datasets(one: Path, other: Path, *, only: bool = False) -> None:
    """Assert that `other` holds every dataset of `one`, equal in path, type, shape and value; `only`: and no more.

    The names of the slides are no part of the published layout: `cn.write` may add them.
    """
    with h5py.File(one) as first, h5py.File(other) as second:
        paths, others = _datasets(first), _datasets(second)
        assert sorted(set(paths) - set(others))[:5] == []
        assert not only or sorted(set(others) - set(paths) - {"/slide_names"})[:5] == []
        for path in paths:
            _assert_same(first[path], second[path])


def _datasets(group: h5py.Group) -> list[str]:
    """Return the path of every dataset, also where several paths lead to one (which `visititems` passes over)."""
    return [
        path
        for child in group.values()
        for path in (_datasets(child) if isinstance(child, h5py.Group) else [child.name])
    ]


def _assert_same(one: h5py.Dataset, other: h5py.Dataset) -> None:
    assert (one.dtype, one.shape) == (other.dtype, other.shape), one.name
    assert h5py.check_string_dtype(one.dtype) == h5py.check_string_dtype(other.dtype), one.name
    np.testing.assert_array_equal(one[()], other[()], err_msg=one.name)
    for key in ("encoding-type", "encoding-version", "shape"):
        if key in one.parent.attrs:
            np.testing.assert_array_equal(one.parent.attrs[key], other.parent.attrs[key], err_msg=one.name)
