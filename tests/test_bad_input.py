"""Bad input has the documented outcome: what is absent is NA, what is malformed is an error or left out and listed."""

import faulthandler
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import (
    CellNetError,
    CellNetWarning,
    MalformedCellError,
)
from sound_file import BAD, HUGE, LINKS, full_file, outcome
from spell_arrays import write_matrix
from spellings import write
from truth_checks import quiet, table


@pytest.fixture(autouse=True)
def _bounded_time() -> Iterator[None]:
    """Hostile files must not hang: end the worker, with a traceback, rather than wait for ever."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a sound file of four cells with every component."""
    truth, spelling = full_file()
    write(tmp_path / "plain.h5", truth, spelling)
    return tmp_path / "plain.h5"


# --- what is absent --------------------------------------------------------------------------------------------------


def test_what_is_absent_is_not_an_error(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for key in ("caption.txt", "CCC", "images"):
            del root[BAD][key]
        del root["Cell_3/attributes.json"]
    adata = table(path)
    assert adata.n_obs == 4
    assert adata.obs["caption"].isna().tolist() == [False, True, False, False]
    assert adata.obs["tissue"].isna().tolist() == [False, False, True, False]
    assert (adata.obs["cell_patch"] == -1).tolist() == [False, True, False, False]
    assert np.isnan(adata.obsm["spatial"]).all(axis=1).tolist() == [False, False, True, False]
    assert np.isnan(adata.obs["cell_diameter"]).tolist() == [False, False, True, False]
    expected = LINKS.copy()
    expected[1] = 0
    np.testing.assert_array_equal(adata.obsp["ccc_connectivities"].toarray(), expected)


def test_a_file_with_nothing_but_expression_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bare.h5"
    with h5py.File(path, "w") as root:
        root["gene_names"] = ["A", "B"]
        for row in range(3):
            root[f"Cell_{row}/expression"] = np.array([row, 1], "f4")
    adata = table(path)
    np.testing.assert_array_equal(adata.X.toarray(), [[0, 1], [1, 1], [2, 1]])
    assert (adata.obs["cell_patch"] == -1).all()
    with quiet():
        assert len(cn.read(path, index=False)["table"]) == 3


# --- what is malformed -----------------------------------------------------------------------------------------------


def _replace(cell: h5py.Group, key: str, value: Any) -> None:
    del cell[key]
    cell[key] = value


def _with_attributes(**changed: Any) -> Callable[[h5py.Group], None]:
    def break_it(cell: h5py.Group) -> None:
        _replace(cell, "attributes.json", json.dumps({"tissue": "Lung", **changed}))

    return break_it


def _with_json(text: str) -> Callable[[h5py.Group], None]:
    return lambda cell: _replace(cell, "attributes.json", text)


def _with_sparse(**parts: Any) -> Callable[[h5py.Group], None]:
    """Replace the expression by a CSR group of three genes with one of its parts wrong."""

    def break_it(cell: h5py.Group) -> None:
        del cell["expression"]
        group = cell.create_group("expression")
        sound = {"data": np.array([0.5, 1.5], "f4"), "indices": np.array([0, 2]), "indptr": np.array([0, 2])}
        for key, value in (sound | parts).items():
            if value is not None:
                group[key] = np.asarray(value)
        group.attrs["encoding-type"] = "csr_matrix"
        group.attrs["shape"] = np.array([1, 3])

    return break_it


def _replace_by_group(parent: h5py.Group, key: str) -> None:
    del parent[key]
    parent.create_group(key)


def _wide_ccc(cell: h5py.Group) -> None:
    del cell["CCC"]
    write_matrix(cell, "CCC", np.ones((1, 9)), "csr")


def _with_ccc(**parts: Any) -> Callable[[h5py.Group], None]:
    def break_it(cell: h5py.Group) -> None:
        for key, value in parts.items():
            _replace(cell["CCC"], key, np.asarray(value))

    return break_it


def _dangling_soft(cell: h5py.Group) -> None:
    _replace(cell, "expression", h5py.SoftLink("/nowhere/at/all"))


def _soft_to_itself(cell: h5py.Group) -> None:
    _replace(cell, "expression", h5py.SoftLink(f"/{BAD}/expression"))


def _outside(cell: h5py.Group) -> Path:
    """Write a file with what `cell` could be made to read from outside."""
    other = Path(cell.file.filename).with_name("other.h5")
    with h5py.File(other, "w") as root:
        root["expression"] = np.array([7.5, 7.5, 7.5], "f4")
        root["caption.txt"] = "secret"
    return other


def _external_link(cell: h5py.Group) -> None:
    _replace(cell, "expression", h5py.ExternalLink(_outside(cell).name, "/expression"))


def _external_caption(cell: h5py.Group) -> None:
    _replace(cell, "caption.txt", h5py.ExternalLink(_outside(cell).name, "/caption.txt"))


def _external_storage(cell: h5py.Group) -> None:
    raw = Path(cell.file.filename).with_name("raw.bin")
    raw.write_bytes(np.full(3, 7.5, "f4").tobytes())
    del cell["expression"]
    cell.create_dataset("expression", shape=(3,), dtype="f4", external=[(str(raw), 0, 12)])


def _virtual(cell: h5py.Group) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(_outside(cell)), "expression", shape=(3,))
    del cell["expression"]
    cell.create_virtual_dataset("expression", layout)


def _huge(key: str, dtype: str) -> Callable[[h5py.Group], None]:
    """Replace a dataset by one that declares `HUGE` elements and stores nothing."""

    def break_it(cell: h5py.Group) -> None:
        del cell[key]
        cell.create_dataset(key, shape=(HUGE,), dtype=dtype, chunks=(1024,))

    return break_it


def _damaged(cell: h5py.Group) -> None:
    """Write an expression whose compressed bytes are not what gzip makes."""
    del cell["expression"]
    made = cell.create_dataset("expression", data=np.arange(3, dtype="f4"), chunks=(3,), compression="gzip")
    made.id.write_direct_chunk((0,), b"\x78\x9c" + b"\xff" * 20)


def _bad_checksum(cell: h5py.Group) -> None:
    del cell["expression"]
    made = cell.create_dataset("expression", data=np.arange(3, dtype="f4"), chunks=(3,), fletcher32=True)
    made.id.write_direct_chunk((0,), np.arange(3, dtype="f4").tobytes() + b"\x01\x02\x03\x04")


MALFORMED: dict[str, tuple[str, Callable[[h5py.Group], Any]]] = {
    "no expression": ("expression", lambda cell: cell.__delitem__("expression")),
    "too many genes": ("expression", lambda cell: _replace(cell, "expression", np.zeros(4, "f4"))),
    "too few genes": ("expression", lambda cell: _replace(cell, "expression", np.zeros(2, "f4"))),
    "two rows": ("expression", lambda cell: _replace(cell, "expression", np.zeros((2, 3), "f4"))),
    "scalar expression": ("expression", lambda cell: _replace(cell, "expression", np.float32(1))),
    "text as expression": ("expression", lambda cell: _replace(cell, "expression", "0 1 2")),
    "sparse index beyond the genes": ("expression", _with_sparse(indices=[0, 3])),
    "negative sparse index": ("expression", _with_sparse(indices=[0, -1])),
    "indptr beyond the data": ("expression", _with_sparse(indptr=[0, 5])),
    "more data than indices": ("expression", _with_sparse(data=np.ones(3, "f4"))),
    "sparse without data": ("expression", _with_sparse(data=None)),
    "damaged bytes": ("expression", _damaged),
    "wrong checksum": ("expression", _bad_checksum),
    "broken JSON": ("attributes.json", _with_json('{"tissue": "Lu')),
    "JSON that is no object": ("attributes.json", _with_json('["Lung"]')),
    "empty JSON text": ("attributes.json", _with_json("")),
    "deep JSON": ("attributes.json", _with_json("[" * 100_000)),
    "position without numbers": ("attributes.json", _with_attributes(Position_in_WSI="somewhere")),
    "position with three numbers": ("attributes.json", _with_attributes(Position_in_WSI="(1, 2, 3)")),
    "diameter without a number": ("attributes.json", _with_attributes(cell_diameter="big")),
    "diameter in an unknown unit": ("attributes.json", _with_attributes(cell_diameter="9.0 ells")),
    "number as attributes": ("attributes.json", lambda cell: _replace(cell, "attributes.json", 5.0)),
    "group as caption": ("caption.txt", lambda cell: _replace_by_group(cell, "caption.txt")),
    "number as caption": ("caption.txt", lambda cell: _replace(cell, "caption.txt", 5.0)),
    "link beyond the cells": ("CCC", _with_ccc(indices=[0, 4])),
    "negative link": ("CCC", _with_ccc(indices=[-1, 2])),
    "CCC of another width": ("CCC", _wide_ccc),
    "dangling soft link": ("expression", _dangling_soft),
    "soft link to itself": ("expression", _soft_to_itself),
    "link out of the file": ("expression", _external_link),
    "caption out of the file": ("caption.txt", _external_caption),
    "storage out of the file": ("expression", _external_storage),
    "virtual dataset": ("expression", _virtual),
    "absurdly many genes": ("expression", _huge("expression", "f4")),
    "absurdly long attributes": ("attributes.json", _huge("attributes.json", "u1")),
    "absurdly long caption": ("caption.txt", _huge("caption.txt", "u1")),
}


@pytest.fixture(params=sorted(MALFORMED))
def malformed(request: pytest.FixtureRequest, path: Path) -> tuple[Path, str]:
    """Return a file in which one component of one cell is malformed, and that component."""
    component, break_it = MALFORMED[request.param]
    with h5py.File(path, "a", libver="latest") as root:
        break_it(root[BAD])
    return path, component


def test_a_malformed_cell_is_an_error_that_names_file_cell_component_and_way_out(malformed: tuple[Path, str]) -> None:
    path, component = malformed
    with quiet(), pytest.raises(MalformedCellError) as caught:
        cn.read_anndata(path, index=False)
    said = str(caught.value)
    assert path.name in said
    assert BAD in said
    assert component in said
    assert "on_error=" in said


@pytest.mark.parametrize("policy", ["warn", "skip"])
def test_a_malformed_cell_is_left_out_and_listed_on_request(malformed: tuple[Path, str], policy: str) -> None:
    path, component = malformed
    with quiet() as caught:
        adata = cn.read_anndata(path, index=False, on_error=policy)
    truth = full_file()[0]
    kept = [0, 2, 3]
    assert adata.obs["source_row"].tolist() == kept
    assert adata.obs_names.tolist() == [truth.cells[row].name for row in kept]
    np.testing.assert_array_equal(adata.X.toarray(), truth.expression[kept])
    np.testing.assert_array_equal(adata.obsp["ccc_connectivities"].toarray(), LINKS[np.ix_(kept, kept)])
    skipped = json.loads(adata.uns["cellnet_sd"]["skipped"])
    assert list(skipped) == [BAD]
    assert component in skipped[BAD]
    assert any(BAD in str(warning.message) for warning in caught) == (policy == "warn")


def test_warnings_about_cells_left_out_are_ours(path: Path) -> None:
    with h5py.File(path, "a") as root:
        _replace(root[BAD], "attributes.json", "{")
    with quiet() as caught:
        cn.read_anndata(path, index=False, on_error="warn")
    assert any(BAD in str(warning.message) for warning in caught if warning.category is CellNetWarning)


def test_an_unknown_policy_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="on_error"):
        cn.read_anndata(path, index=False, on_error="ignore")


def test_a_neighbour_that_the_file_does_not_hold_is_not_passed_over_in_silence(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for row, name in enumerate(root):
            if name.startswith("Cell_"):
                del root[name]["CCC"]
                made = write_matrix(root[name], "CCC", np.ones((1, 2)), "csr")
                made["barcodes"] = ["Cell_1" if row else "Cell_3", "Cell_9999"]
    said = outcome(path)[1]
    assert "Cell_9999" in said or "dropped" in said or "CCC" in said


_CUT_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
BROKEN_PATCHES: dict[str, Callable[[h5py.Group], Any]] = {
    "one dimension of floats": lambda images: _replace(images, "cell_patch", np.zeros(10)),
    "five dimensions": lambda images: _replace(images, "cell_patch", np.zeros((1, 1, 5, 5, 3), "u1")),
    "bytes of no image": lambda images: _replace(images, "cell_patch", np.arange(50, dtype="u1")),
    "cut PNG": lambda images: _replace(images, "cell_patch", np.frombuffer(_CUT_PNG, "u1")),
    "text": lambda images: _replace(images, "cell_patch", "not an image"),
    "a group": lambda images: _replace_by_group(images, "cell_patch"),
    "absurdly large": lambda images: (
        images.__delitem__("cell_patch"),
        images.create_dataset("cell_patch", shape=(2**20, 2**20, 3), dtype="u1", chunks=(64, 64, 3)),
    ),
}


@pytest.mark.parametrize("kind", sorted(BROKEN_PATCHES))
def test_a_patch_that_is_no_image_is_an_error_of_ours(path: Path, kind: str) -> None:
    with h5py.File(path, "a") as root:
        BROKEN_PATCHES[kind](root[BAD]["images"])
    with quiet(), pytest.raises(CellNetError):
        cn.patches(path, "cell").load()


# --- NaN positions, duplicate names, other encodings -----------------------------------------------------------------


@pytest.mark.parametrize("position", ['"(nan, nan)"', "[NaN, NaN]", "null", '"(NaN, 3)"'])
def test_a_cell_without_a_finite_position_keeps_its_row_and_has_no_circle(path: Path, position: str) -> None:
    text = f'{{"tissue": "Lung", "cell_diameter": "9 µm", "Position_in_WSI": {position}}}'
    with h5py.File(path, "a") as root:
        _replace(root[BAD], "attributes.json", text)
    with quiet() as caught:
        sdata = cn.read(path, mpp=1.0, index=False)
    assert sdata["table"].n_obs == 4
    assert np.isnan(sdata["table"].obsm["spatial"][1]).any()
    circles = sdata.shapes["plain_cells"]
    assert circles.index.tolist() == ["Cell_1", "Cell_3", "Cell_4"]
    said = " ".join(str(warning.message) for warning in caught) + str(sdata.attrs["cellnet_sd"])
    assert "circle" in said.lower() or "position" in said.lower()


@pytest.mark.parametrize("diameter", [0, -3, None, "0 µm"])
def test_a_cell_without_a_positive_diameter_keeps_its_row_and_has_no_circle(path: Path, diameter: Any) -> None:
    stored = {"tissue": "Lung", "cell_diameter": diameter, "Position_in_WSI": "(10, 5)"}
    with h5py.File(path, "a") as root:
        _replace(root[BAD], "attributes.json", json.dumps(stored))
    with quiet():
        sdata = cn.read(path, mpp=1.0, index=False)
    assert sdata["table"].n_obs == 4
    assert sdata.shapes["plain_cells"].index.tolist() == ["Cell_1", "Cell_3", "Cell_4"]


def test_names_that_clash_within_a_slide_still_become_unique(tmp_path: Path) -> None:
    path = tmp_path / "twins.h5"
    with h5py.File(path, "w") as root:
        root["gene_names"] = ["A"]
        for row, container in enumerate(("x", "y", "x", "y")):
            cell = root.create_group(f"{container}/Cell_{row // 2}")
            cell["expression"] = np.array([row], "f4")
            cell["attributes.json"] = json.dumps({"slide": "s" if row < 2 else "t"})
    adata = table(path)
    assert adata.obs_names.is_unique
    assert adata.X.toarray().ravel().tolist() == [0, 2, 1, 3]


def test_text_that_is_not_utf8_is_read_as_latin1(path: Path) -> None:
    with h5py.File(path, "a") as root:
        _replace(root[BAD], "caption.txt", np.bytes_("Größe 9 µm".encode("latin-1")))
        _replace(root[BAD], "attributes.json", np.bytes_('{"tissue": "Lymphknötchen"}'.encode("latin-1")))
    adata = table(path)
    assert adata.obs["caption"].iloc[1] == "Größe 9 µm"
    assert adata.obs["tissue"].iloc[1] == "Lymphknötchen"
