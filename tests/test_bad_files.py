"""Files that are no Cell-NET, damaged, busy or hostile end in a clear error, in bounded time and memory."""

import faulthandler
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import (
    CellNetError,
    CorruptFileError,
    FileBusyError,
    LayoutError,
    MalformedCellError,
)
from sound_file import BAD, HUGE, full_file, outcome
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


# --- files that are not Cell-NET -------------------------------------------------------------------------------------


def test_a_missing_path_is_pythons_own_error(tmp_path: Path) -> None:
    for verb in (cn.read, cn.read_anndata, cn.open, cn.info):
        with pytest.raises(FileNotFoundError):
            verb(tmp_path / "absent.h5")


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "readme.txt").write_text("nothing")


def _h5ad(path: Path) -> None:
    import anndata as ad

    ad.AnnData(np.ones((2, 2), "f4"), obs=pd.DataFrame(index=["a", "b"])).write_h5ad(path)


def _no_cells(path: Path) -> None:
    with h5py.File(path, "w") as root:
        root["gene_names"] = ["A"]
        root.create_group("empty/emptier")


def _other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as root:
        root["matrix/data"] = np.arange(5)


NOT_CELLNET: dict[str, tuple[Callable[[Path], Any], str]] = {
    "directory": (_folder, "(?i)folder|directory"),
    "h5ad": (_h5ad, "(?i)anndata|h5ad"),
    "text": (lambda path: path.write_text("hello\n" * 500), "HDF5"),
    "zero bytes": (lambda path: path.write_bytes(b""), "(?i)empty|0 bytes"),
    "only the signature": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "."),
    "HDF5 without cells": (_no_cells, "(?i)no cell|expression"),
    "HDF5 of another kind": (_other_hdf5, "(?i)no cell|expression"),
}


@pytest.mark.parametrize("verb", ["read_anndata", "info", "open"])
@pytest.mark.parametrize("kind", sorted(NOT_CELLNET))
def test_something_that_is_not_cellnet_is_said_to_be_what_it_is(tmp_path: Path, kind: str, verb: str) -> None:
    make, said = NOT_CELLNET[kind]
    path = tmp_path / "thing.h5"
    make(path)
    with quiet(), pytest.raises((LayoutError, CorruptFileError), match=said) as caught:
        getattr(cn, verb)(path)
    assert "thing.h5" in str(caught.value)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_an_error_of_ours(path: Path, kept: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    with quiet(), pytest.raises(CellNetError, match=r"plain\.h5"):
        cn.read_anndata(path, index=False)


def test_a_file_truncated_after_it_was_indexed_is_an_error_of_ours(path: Path) -> None:
    with quiet():
        cn.index(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with quiet(), pytest.raises(CellNetError, match=r"plain\.h5"):
        cn.read_anndata(path)


# --- files being written ---------------------------------------------------------------------------------------------

_WRITER = """
import os, sys, h5py, numpy as np
path, mode = sys.argv[1:]
root = h5py.File(path, "w", libver="latest" if mode != "plain" else "earliest")
root["gene_names"] = ["A"]
root["Cell_1/expression"] = np.ones(1, "f4")
if mode == "swmr":
    root.swmr_mode = True
root.flush()
print("ready", flush=True)
if mode == "killed":
    os._exit(0)
sys.stdin.read()
"""


@pytest.mark.parametrize("mode", ["plain", "latest", "swmr", "killed"])
def test_a_file_being_written_is_said_to_be_busy(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "busy.h5"
    command = [sys.executable, "-c", _WRITER, str(path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        if mode == "killed":
            writer.wait()
        try:
            with quiet(), pytest.raises(FileBusyError, match=r"busy\.h5"):
                cn.read_anndata(path, index=False)
        finally:
            if writer.poll() is None:
                writer.send_signal(signal.SIGKILL)


# --- links and sizes -------------------------------------------------------------------------------------------------


def test_a_whole_cell_out_of_the_file_is_never_read(path: Path) -> None:
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as root:
        root["secret/expression"] = np.full(3, 7.5, "f4")
    with h5py.File(path, "a") as root:
        root["Cell_9"] = h5py.ExternalLink("other.h5", "/secret")
    with quiet(), pytest.raises(CellNetError, match="Cell_9"):
        cn.read_anndata(path, index=False)
    adata = table(path, on_error="skip")
    assert adata.obs_names.tolist() == ["Cell_1", "Cell_2", "Cell_3", "Cell_4"]
    assert "Cell_9" in str(adata.uns["cellnet_sd"])


def test_gene_names_out_of_the_file_are_never_read(path: Path) -> None:
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as root:
        root["gene_names"] = ["X", "Y", "Z"]
    with h5py.File(path, "a") as root:
        del root["gene_names"]
        root["gene_names"] = h5py.ExternalLink("other.h5", "/gene_names")
    adata, _ = outcome(path)
    assert adata is None or not set(adata.var_names) & {"X", "Y", "Z"}


def _self_in_cell(root: h5py.File) -> None:
    root["Cell_1/again"] = root["Cell_1"]


def _root_in_container(root: h5py.File) -> None:
    root.create_group("box")["top"] = root["/"]


def _two_boxes(root: h5py.File) -> None:
    root["a/b"] = root.create_group("b")
    root["b/a"] = root["a"]


def _soft_loop(root: h5py.File) -> None:
    root["one"] = h5py.SoftLink("/two")
    root["two"] = h5py.SoftLink("/one")


def _soft_root(root: h5py.File) -> None:
    root["box/up"] = h5py.SoftLink("/")


def _deep(root: h5py.File) -> None:
    group = root.create_group("deep")
    for _ in range(3000):
        group = group.create_group("d")


@pytest.mark.parametrize("tie", [_self_in_cell, _root_in_container, _two_boxes, _soft_loop, _soft_root, _deep])
def test_loops_of_links_end_in_a_clear_error_or_in_each_cell_once(path: Path, tie: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "a") as root:
        tie(root)
    adata, said = outcome(path)
    if adata is None:
        assert "plain.h5" in said
    else:
        assert adata.obs_names.tolist() == ["Cell_1", "Cell_2", "Cell_3", "Cell_4"]


@pytest.mark.parametrize("form", ["dense", "csr", "10x"])
def test_a_file_of_absurdly_many_genes_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as root:
        for row in range(3):
            cell = root.create_group(f"Cell_{row}")
            if form == "dense":
                cell.create_dataset("expression", shape=(HUGE,), dtype="f4", chunks=(1024,))
                continue
            group = cell.create_group("expression")
            group.create_dataset("data", shape=(HUGE,), dtype="f4", chunks=(1024,))
            group.create_dataset("indices", shape=(HUGE,), dtype="i8", chunks=(1024,))
            group["indptr"] = np.array([0, HUGE])
            if form == "10x":
                group["shape"] = np.array([HUGE, 1])
            else:
                group.attrs["shape"] = np.array([1, HUGE])
    with quiet(), pytest.raises(CellNetError, match=r"huge\.h5"):
        cn.read_anndata(path, index=False)


def test_absurdly_many_gene_names_or_pair_names_are_refused(path: Path) -> None:
    with h5py.File(path, "a") as root:
        del root["gene_names"]
        root.create_dataset("gene_names", shape=(HUGE,), dtype="S20", chunks=(1024,))
    with quiet(), pytest.raises(CellNetError, match=r"plain\.h5"):
        cn.read_anndata(path, index=False)


def test_an_absurd_ccc_is_malformed(path: Path) -> None:
    with h5py.File(path, "a") as root:
        group = root[BAD]["CCC"]
        for key in ("data", "indices"):
            del group[key]
            group.create_dataset(key, shape=(HUGE,), dtype="i4", chunks=(1024,))
        group["indptr"][:] = [0, 2**31 - 1]
    with quiet(), pytest.raises(MalformedCellError, match=BAD):
        cn.read_anndata(path, index=False)


def test_a_chunk_that_inflates_without_end_is_refused_or_cut_to_what_is_declared(path: Path) -> None:
    with h5py.File(path, "a") as root:
        del root[BAD]["expression"]
        made = root[BAD].create_dataset("expression", shape=(3,), dtype="f4", chunks=(3,), compression="gzip")
        made.id.write_direct_chunk((0,), zlib.compress(b"\x00" * 50_000_000))
    adata, said = outcome(path)
    if adata is None:
        assert BAD in said
    else:
        assert adata.X[1].nnz == 0
