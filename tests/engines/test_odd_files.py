"""Files that are sound and odd: what the native engine does not know, it gives as h5py does, and says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

import cellnet_sd as cn
from engine_truth import assert_same_facts, assert_same_values, both
from small_files import written
from truth_checks import quiet

CELLS = [f"Cell_{row}" for row in range(6)]
GENES = np.array([b"A", b"B", b"C"], "S4")
ENUM = h5py.enum_dtype({"LEFT": 0, "RIGHT": 1}, "i4")


def _swap(group: h5py.Group, name: str, **made: Any) -> None:
    del group[name]
    group.create_dataset(name, **made)


def _compound_on_root(root: h5py.File) -> None:
    root.attrs["x"] = np.zeros((), [("a", "i4"), ("b", "f4")])


def _complex_on_root(root: h5py.File) -> None:
    root.attrs["x"] = 1 + 2j


def _reference_on_root(root: h5py.File) -> None:
    root.attrs["x"] = root["Cell_1"].ref


def _enum_that_is_stated(root: h5py.File) -> None:
    root.attrs.create("mpp", 1, dtype=ENUM)


def _named_type_before_what_is_stated(root: h5py.File) -> None:
    root["kind"] = np.dtype("f8")
    del root["gene_names"]
    root.attrs.create("a", 1.0, dtype=root["kind"])
    root.attrs["gene_names"] = ["X", "Y", "Z"]
    root.attrs["mpp"] = 0.5


def _named_type_on_a_container(root: h5py.File) -> None:
    root["kind"] = np.dtype("f8")
    for name in CELLS:
        root.move(name, f"study/{name}")
    root["study"].attrs.create("a", 1.0, dtype=root["kind"])
    root["study"].attrs["mpp"] = 0.5


def _genes_by_lzf(root: h5py.File) -> None:
    _swap(root, "gene_names", data=GENES, compression="lzf")


def _genes_by_zstd(root: h5py.File) -> None:
    _swap(root, "gene_names", data=GENES, **hdf5plugin.Zstd())


def _genes_of_a_named_type(root: h5py.File) -> None:
    root["kind"] = np.dtype("S4")
    _swap(root, "gene_names", data=GENES, dtype=root["kind"])


def _genes_of_each_cell_by_lzf(root: h5py.File) -> None:
    del root["gene_names"]
    for name in CELLS:
        root[name].create_dataset("gene_names", data=GENES, compression="lzf")


def _genes_of_each_cell_one_by_lzf(root: h5py.File) -> None:
    del root["gene_names"]
    for name in CELLS:
        options = {"compression": "lzf"} if name == "Cell_3" else {}
        root[name].create_dataset("gene_names", data=GENES, **options)


def _other_genes_of_a_cell_by_lzf(root: h5py.File) -> None:
    _genes_of_each_cell_one_by_lzf(root)
    _swap(root["Cell_3"], "gene_names", data=GENES[::-1], compression="lzf")


def _captions_by_lzf(root: h5py.File) -> None:
    for name in ("Cell_2", "Cell_4"):
        _swap(root[name], "caption.txt", data=np.array([b"by lzf"]), chunks=(1,), compression="lzf")
    _swap(root["Cell_5"], "caption.txt", data=np.frombuffer(b"bytes", np.uint8), compression="lzf")


def _documents_by_lzf(root: h5py.File) -> None:
    documents = np.array(['{"cell_type": "by lzf", "Position_in_WSI": "(2, 1)"}'], object)
    options = {"dtype": h5py.string_dtype(), "chunks": (1,), "compression": "lzf"}
    _swap(root["Cell_2"], "attributes.json", data=documents, **options)


def _as_attributes(root: h5py.File, kind: Any) -> None:
    for row, name in enumerate(CELLS):
        del root[f"{name}/attributes.json"], root[f"{name}/caption.txt"]
        root[name].attrs["tissue"] = "Lung"
        root[name].attrs["caption"] = f"cell {row}"
        root[name].attrs.create("side", row % 2, dtype=kind)


def _attributes_one_by_one_with_an_enum(root: h5py.File) -> None:
    _as_attributes(root, ENUM)


def _attributes_one_by_one_of_a_named_type(root: h5py.File) -> None:
    root["kind"] = np.dtype("f8")
    _as_attributes(root, root["kind"])


def _padded_with_spaces(root: h5py.File) -> None:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(12)
    kind.set_strpad(h5py.h5t.STR_SPACEPAD)
    for name in CELLS[:3]:
        del root[f"{name}/caption.txt"]
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        made = h5py.h5d.create(root[name].id, b"caption.txt", kind, space)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(b"abc         ", "S12"), mtype=kind)


def _texts_that_are_filled_in(root: h5py.File) -> None:
    kind = h5py.string_dtype()
    for name in CELLS[:2]:
        _swap(root[name], "caption.txt", shape=(1,), dtype=kind, chunks=(1,), fillvalue="never written")
    _swap(root[CELLS[2]], "caption.txt", shape=(), dtype=kind, fillvalue="nor this")
    _swap(root[CELLS[3]], "attributes.json", shape=(1,), dtype=kind, fillvalue='{"tissue": "filled in"}')


Change = Callable[[h5py.File], None]
CHANGES: dict[Change, str] = {
    # and what `info` says of it
    _compound_on_root: "all 24 objects",
    _complex_on_root: "all 24 objects",
    _reference_on_root: "all 24 objects",
    _enum_that_is_stated: "what groups of cells state: 1",
    _named_type_before_what_is_stated: "what groups of cells state: 1",
    _genes_by_lzf: "what groups of cells state: 1",
    _genes_by_zstd: "what groups of cells state: 1",
    _genes_of_a_named_type: "what groups of cells state: 1",
    _genes_of_each_cell_by_lzf: "gene names: 6",
    _genes_of_each_cell_one_by_lzf: "gene names: 1",
    _other_genes_of_a_cell_by_lzf: "gene names: 1",
    _captions_by_lzf: "filters 32000: 3",
    _documents_by_lzf: "filters 32000: 1",
    _attributes_one_by_one_with_an_enum: "attributes of a type that is not known: 6",
    _attributes_one_by_one_of_a_named_type: "shared message: 42",
    _padded_with_spaces: "datatype: 3",
    _texts_that_are_filled_in: "fill value: 4",
}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_they_are_read_as_h5py_reads_them_and_it_is_said(tmp_path: Path, change: Change, libver: str) -> None:
    path = written(tmp_path / "cells.h5", 6, libver=libver)
    with h5py.File(path, "a", libver=libver) as root:
        change(root)
    expected, found = both(path)
    assert_same_facts(expected, found)
    assert_same_values(path, found)
    assert CHANGES[change] in str(cn.info(path, index=False))
    with quiet():
        ours, theirs = (
            cn.read_anndata(path, index=False, engine=engine, on_error="skip") for engine in ("auto", "h5py")
        )
    assert ours.obs.equals(theirs.obs)
    assert ours.var.equals(theirs.var)
    assert (ours.X != theirs.X).nnz == 0


def test_a_container_that_only_libhdf5_knows_leaves_the_file_to_it(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.h5", 6)
    with h5py.File(path, "a") as root:
        _named_type_on_a_container(root)
    info = cn.info(path, index=False)
    assert "h5py (only libhdf5 can tell what 'study' is)" in str(info)
    with quiet():
        assert cn.read_anndata(path, index=False).X.shape == (6, 3)
