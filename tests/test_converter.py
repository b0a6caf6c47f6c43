"""`convert`: the store equals what is read, appears only when it is complete, and replaces nothing unasked."""

import errno
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
import zarr

import cellnet_sd as cn
from cellnet_sd import circles
from cellnet_sd.components.images import Agreement, Block, Mosaic
from cellnet_sd.conversion import matrix, tables
from cellnet_sd.conversion import workspace as workspace_module
from cellnet_sd.conversion.workspace import remove, workspace
from cellnet_sd.errors import (
    AccessDeniedError,
    CellNetError,
    CellNetWarning,
    ConversionError,
    LayoutError,
    MissingDependencyError,
    NotEnoughMemoryError,
    OutputExistsError,
    RemoteError,
)
from cellnet_sd.sources.hdf5_disk import Disk
from same_data import assert_same_data, assert_same_table
from sound_file import full_file
from spellings import write
from truth_checks import quiet


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a sound file of four cells with every component, scales stated."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "plain.h5", *full_file())
    with h5py.File(tmp_path / "in" / "plain.h5", "a") as root:
        root.attrs["mpp"], root.attrs["wsi_scale"] = 0.5, 4.0
    return tmp_path / "in" / "plain.h5"


def convert(path: Path, out: Path, **options: Any) -> Path:
    with quiet():
        return cn.convert(path, out, **options)


def test_zarr_holds_what_read_gives(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circles, "_AT_ONCE", 1)
    out = convert(path, tmp_path / "out.zarr")
    assert out == tmp_path / "out.zarr"
    with quiet():
        expected = cn.read(path)
    assert_same_data(sd.read_zarr(out), expected)


def test_h5ad_holds_what_read_anndata_gives(path: Path, tmp_path: Path) -> None:
    out = convert(path, tmp_path / "out.h5ad")
    with quiet():
        assert_same_table(ad.read_h5ad(out), cn.read_anndata(path))
    with h5py.File(out) as root:
        assert root["X/data"].compression == "gzip"


def test_options_are_those_of_the_reader(path: Path, tmp_path: Path) -> None:
    out = convert(path, tmp_path / "out.h5ad", cells=["Cell_3", "Cell_1"], genes=["G2"], ccc=False)
    got = ad.read_h5ad(out)
    assert got.obs_names.tolist() == ["Cell_3", "Cell_1"]
    assert got.var_names.tolist() == ["G2"]
    assert not got.obsp
    with pytest.raises(ValueError, match="kernel"):
        convert(path, tmp_path / "other.h5ad", kernel=3)


def test_a_lazy_table_is_written_in_full(path: Path, tmp_path: Path) -> None:
    got = ad.read_h5ad(convert(path, tmp_path / "out.h5ad", backed=True))
    np.testing.assert_array_equal(got.X.toarray(), full_file()[0].expression)


def test_patch_stacks_are_stored_in_chunks_of_64_cells(tmp_path: Path) -> None:
    truth = cn.datasets.synthetic(tmp_path / "cells.h5", n_cells=100, n_genes=30, n_slides=1)
    out = convert(truth.path, tmp_path / "out.zarr", expression=False, ccc=False)
    stored = zarr.open(out / "images" / "cells_cell_patches", mode="r")["s0"]
    assert stored.shape == (3, 100, 64, 64)
    assert stored.chunks == (3, 64, 64, 64)


# --- files in the way, and failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_what_exists_is_replaced_only_on_request(path: Path, tmp_path: Path, name: str) -> None:
    out = convert(path, tmp_path / name)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        convert(path, out)
    convert(path, out, cells=["Cell_2"], overwrite=True)
    table = ad.read_h5ad(out) if name.endswith("h5ad") else sd.read_zarr(out)["table"]
    assert table.obs_names.tolist() == ["Cell_2"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("is_one_of_two", [False, True])
@pytest.mark.parametrize("place", ["weird.h5ad", "weird.zarr/in/plain.h5", "link.h5ad"])
def test_a_source_is_never_replaced(
    path: Path, tmp_path: Path, place: str, is_one_of_two: bool, overwrite: bool
) -> None:
    source = tmp_path / place.replace("link", "weird")
    source.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, source)
    target = tmp_path / place.split("/", maxsplit=1)[0]
    if source.parent != tmp_path:
        (target / "zarr.json").write_text("{}")
    if "link" in place:
        target.symlink_to(source)
    sources = [path, source] if is_one_of_two else source
    with pytest.raises(OutputExistsError, match=r"cannot be replaced.*Choose another name"):
        cn.convert(sources, target, overwrite=overwrite)
    assert source.read_bytes() == path.read_bytes()


def test_a_list_of_genes_is_not_replaced_either(path: Path, tmp_path: Path) -> None:
    genes = tmp_path / "out.zarr" / "genes.txt"
    genes.parent.mkdir()
    (genes.parent / "zarr.json").write_text("{}")
    genes.write_text("G1\nG2\nG3\n")
    with pytest.raises(OutputExistsError, match=r"genes\.txt"):
        cn.convert(path, genes.parent, gene_list=genes, overwrite=True)


@pytest.mark.parametrize("place", ["out.zarr/thesis.txt", "out.zarr", "out.h5ad/thesis.txt"])
def test_what_is_no_store_is_never_replaced(path: Path, tmp_path: Path, place: str) -> None:
    thesis = tmp_path / place
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"is not replaced: it is a f.*Move it away"):
        cn.convert(path, tmp_path / place.split("/", maxsplit=1)[0], overwrite=True)
    assert thesis.read_text() == "mine"


def test_an_empty_folder_is_replaced(path: Path, tmp_path: Path) -> None:
    (tmp_path / "out.zarr").mkdir()
    out = convert(path, tmp_path / "out.zarr", overwrite=True, kind="anndata")
    assert ad.read_zarr(out).n_obs == 4


@pytest.mark.parametrize("memory", ["", "2", "a lot", 0, -1, "1kB"])
def test_an_amount_of_memory_that_is_none_is_refused_before_anything_is_read(tmp_path: Path, memory: Any) -> None:
    with pytest.raises(ValueError, match=f"^memory={re.escape(repr(memory))} .*'2GB'"):
        cn.convert(tmp_path / "nowhere.h5", tmp_path / "out.zarr", memory=memory)


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_a_conversion_that_fails_leaves_what_was_there_and_nothing_else(path: Path, tmp_path: Path, name: str) -> None:
    out = convert(path, tmp_path / name)
    with h5py.File(path, "a") as root:
        root["Cell_3/expression"][...] = [1, 2, 3]
    with pytest.raises(LayoutError, match="mixed"):
        convert(path, out, overwrite=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in", name]
    table = ad.read_h5ad(out) if name.endswith("h5ad") else sd.read_zarr(out)["table"]
    assert table.n_obs == 4


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_a_write_that_fails_midway_leaves_nothing_under_the_name(
    path: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any, partial: Any, **options: Any) -> None:
        if name.endswith(".zarr"):
            Path(partial).mkdir()
            (Path(partial) / "zarr.json").write_text("{}")
        msg = "Input/output error"
        raise OSError(msg)

    monkeypatch.setattr(sd.SpatialData, "write", fail)
    monkeypatch.setattr(tables, "write_hdf5", fail)
    with pytest.raises(OSError, match="Input/output"):
        convert(path, tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [f".{name}.converting", "in"]
    monkeypatch.undo()
    convert(path, tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in", name]


@pytest.mark.parametrize("name", ["out.h5", "out", "out.zarr.zip"])
def test_another_ending_is_refused_and_the_two_are_named(path: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.zarr.*\.h5ad"):
        convert(path, tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_what_was_there_stays_when_the_new_cannot_take_its_place(
    path: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = convert(path, tmp_path / name), Path.rename
    interrupted = []

    def fail_once(self: Path, target: Path) -> Path:
        if target == out and not interrupted:
            interrupted.append(self)
            kept = {entry.stem for entry in (tmp_path / f".{name}.converting").iterdir()}
            assert {"output", "replaced"} <= kept, "until the new is in its place, both the old and the new are there"
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(KeyboardInterrupt):
        convert(path, out, cells=["Cell_2"], overwrite=True)
    assert interrupted
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [f".{name}.converting", "in", name]
    table = ad.read_h5ad(out) if name.endswith("h5ad") else sd.read_zarr(out)["table"]
    assert table.n_obs == 4


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_a_folder_that_is_not_there_is_named_and_not_made(path: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "no" / "such"
    with pytest.raises(FileNotFoundError, match=re.escape(str(folder))):
        convert(path, folder / name)
    assert not (tmp_path / "no").exists()


def test_a_source_that_is_not_there_is_pythons_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "nowhere.h5", tmp_path / "out.zarr")


# --- in parts --------------------------------------------------------------------------------------------------------


@cache
def _tissue_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        truth = cn.datasets.synthetic(
            Path(folder, "tissue.h5"), n_cells=700, n_genes=60, n_slides=2, cell_area_um2=2500.0, progress=False
        )
        return truth.path.read_bytes()


def _tissue(folder: Path) -> Path:
    path = folder / "tissue.h5"
    path.write_bytes(_tissue_bytes())
    return path


def _contents(store: Path) -> dict[str, bytes]:
    files = [store] if store.is_file() else [file for file in store.rglob("*") if file.is_file()]
    return {str(file.relative_to(store)): file.read_bytes() for file in files}


@pytest.mark.thorough
def test_a_slide_of_a_store_is_the_slide_that_is_read_on_every_level(tmp_path: Path) -> None:
    path = _tissue(tmp_path)
    assert_same_data(sd.read_zarr(convert(path, tmp_path / "out.zarr")), cn.read(path))


def test_a_table_alone_can_be_a_zarr(path: Path, tmp_path: Path) -> None:
    out = convert(path, tmp_path / "out.zarr", kind="anndata")
    with quiet():
        assert_same_table(ad.read_zarr(out), cn.read_anndata(path))


@pytest.mark.parametrize("name", ["out.zarr", "out.h5ad"])
def test_captions_are_written_as_anndata_is_set_to_write_text(path: Path, tmp_path: Path, name: str) -> None:
    with ad.settings.override(allow_write_nullable_strings=False):
        out = convert(path, tmp_path / name, kind="anndata")
    got = (ad.read_zarr if out.is_dir() else ad.read_h5ad)(out)
    assert got.obs["caption"].tolist() == cn.read_anndata(path).obs["caption"].tolist()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "kills"), [("out.zarr", 3), ("out.h5ad", 3), pytest.param("out.zarr", 20, marks=pytest.mark.slow)]
)
def test_a_killed_conversion_goes_on_and_gives_what_one_that_was_not_gives(
    tmp_path: Path, name: str, kills: int
) -> None:
    """Killed at random moments, so many times, each after another part at least was finished."""
    path, out = _tissue(tmp_path), tmp_path / name
    whole = convert(path, tmp_path / f"whole{out.suffix}", memory=2**16)
    code = f"import cellnet_sd as cn; cn.convert({str(path)!r}, {str(out)!r}, memory=2**16)"
    killed, before, rng = 0, -1, np.random.default_rng(kills)

    def n_done() -> int:
        return len(list(tmp_path.glob(f".{name}.converting/done/*")))

    while killed < kills or not out.exists():
        if out.exists():  # sooner than it was killed so often: once more, from the beginning
            _assert_same_output(out, whole)
            remove(out)
            before = -1
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
        while process.poll() is None:
            if n_done() > before and killed < kills:
                time.sleep(rng.uniform(0, 0.02))  # amid a part, or between two
                process.kill()
                killed += process.wait() == -signal.SIGKILL
                before = n_done()
            time.sleep(0.005)
        assert process.returncode in (0, -signal.SIGKILL)
    _assert_same_output(out, whole)


def _assert_same_output(out: Path, whole: Path) -> None:
    """Byte for byte; an `.h5ad` by its values."""
    if out.suffix == ".zarr":
        assert _contents(out) == _contents(whole)
    else:
        assert (ad.read_h5ad(out).X != ad.read_h5ad(whole).X).nnz == 0
        pd.testing.assert_frame_equal(ad.read_h5ad(out).obs, ad.read_h5ad(whole).obs)


_KILLED_AT_THE_END = """
import os, shutil, signal, sys
from pathlib import Path
import cellnet_sd as cn
from cellnet_sd.conversion import workspace

source, out, where = sys.argv[1:]
rename, rmtree = Path.rename, shutil.rmtree

def killed(before, real):
    def run(*args, **options):
        if before(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return run

if where == "before the old one is moved":
    Path.rename = killed(lambda a, b: a == Path(out), rename)
if where == "before the new one is there":
    Path.rename = killed(lambda a, b: b == Path(out), rename)
if where == "before the folder is emptied":
    workspace.Workspace.clear = killed(lambda _: True, workspace.Workspace.clear)
if where == "before the folder is removed":
    shutil.rmtree = killed(lambda path, **_: str(path).endswith(".converting"), rmtree)
cn.convert(source, out, cells=["Cell_2"], overwrite=True)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(
    ("where", "is_there"),
    [
        ("before the old one is moved", False),
        ("before the new one is there", True),
        ("before the folder is emptied", True),
        ("before the folder is removed", True),
    ],
)
def test_killed_as_the_output_takes_its_place(
    path: Path, tmp_path: Path, where: str, is_there: bool, overwrite: bool
) -> None:
    out = convert(path, tmp_path / "out.h5ad")
    command = [sys.executable, "-W", "ignore", "-c", _KILLED_AT_THE_END, str(path), str(out), where]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / ".out.h5ad.converting").exists()
    if overwrite:
        convert(path, out, cells=["Cell_2"], overwrite=True)
    else:
        with pytest.raises(OutputExistsError):
            convert(path, out, cells=["Cell_2"])
    is_new = is_there or overwrite
    assert ad.read_h5ad(out).n_obs == (1 if is_new else 4)
    assert (tmp_path / ".out.h5ad.converting").exists() is not is_new


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, list[str]]:
    """Return a file, where it is being converted to, and the part that is staged, then others as they are."""
    path, out, staged = _tissue(tmp_path), tmp_path / "out.h5ad", []
    save = matrix.save_part

    def interrupt(part: Path, *args: Any) -> None:
        if staged:
            raise KeyboardInterrupt
        staged.append(part.stem)
        save(part, *args)

    with monkeypatch.context() as patch:
        patch.setattr(matrix, "save_part", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert(path, out, memory=2**17, n_threads=1)
    monkeypatch.setattr(matrix, "save_part", lambda part, *args: (staged.append(part.stem), save(part, *args))[1])
    return path, out, staged


@pytest.mark.parametrize(
    "how", [{"n_threads": 2}, {"memory": 2**16}, {"memory": 2**20}, {"engine": "h5py"}, {"backed": True}], ids=str
)
def test_a_conversion_goes_on_whatever_the_output_does_not_depend_on(
    interrupted: tuple[Path, Path, list[str]], how: dict[str, Any]
) -> None:
    path, out, staged = interrupted
    with warnings.catch_warnings():
        warnings.simplefilter("error", CellNetWarning)
        cn.convert(path, out, **{"memory": 2**17, "n_threads": 1, **how})
    rows = sorted(tuple(map(int, name.split("-")[1:])) for name in staged)
    assert rows[0][0] == 0
    assert [stop for _, stop in rows] == [*(start for start, _ in rows[1:]), 700], "each row is staged once"
    assert (ad.read_h5ad(out).X != cn.read_anndata(path).X).nnz == 0


def test_what_another_conversion_has_finished_is_not_removed_in_silence(
    interrupted: tuple[Path, Path, list[str]],
) -> None:
    path, out, staged = interrupted
    with quiet() as caught:
        cn.convert(path, out, memory=2**17, n_threads=1, captions=False, ccc=False)
    words = r"out\.h5ad: 1 finished parts of another conversion .* differs in captions, ccc, and"
    assert any(re.search(words, str(warning.message)) for warning in caught)
    assert staged[0] in staged[1:]


def test_going_on_is_said(interrupted: tuple[Path, Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    path, out, _ = interrupted
    said: list[str] = []
    monkeypatch.setattr(workspace_module, "say", said.append)
    convert(path, out, memory=2**17, n_threads=1)
    assert len(said) == 1
    assert re.fullmatch(r"Reading expression: going on from 1 of [1-9]\d* parts\.", said[0])


def test_what_an_interrupt_leaves_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out, said = _tissue(tmp_path), tmp_path / "out.h5ad", []

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workspace_module, "say", said.append)
    monkeypatch.setattr(tables, "write_hdf5", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(path, out, n_threads=1)
    assert re.fullmatch(
        r"Interrupted\. [1-9]\d* finished parts are kept in .*run the same conversion again to go on\.", said[-1]
    )


def test_rows_are_cut_between_those_that_are_done() -> None:
    done = [(10, 20), (10, 14), (25, 28), (0, 2)]
    assert list(matrix.cuts(0, 30, 4, done)) == [
        (0, 2),
        (2, 6),
        (6, 10),
        (10, 20),
        (20, 24),
        (24, 25),
        (25, 28),
        (28, 30),
    ]
    assert list(matrix.cuts(3, 9, 4, done)) == [(3, 7), (7, 9)]
    assert list(matrix.cuts(0, 0, 4, ())) == []


def test_of_two_that_convert_to_one_place_the_second_is_told(path: Path, tmp_path: Path) -> None:
    with workspace(tmp_path / "out.zarr", {}), pytest.raises(ConversionError, match="another process is converting"):
        convert(path, tmp_path / "out.zarr")
    convert(path, tmp_path / "out.zarr")
    assert sd.read_zarr(tmp_path / "out.zarr")["table"].n_obs == 4


def test_a_full_disk_is_said_and_what_is_finished_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, made = _tissue(tmp_path), []

    def make(self: Block) -> Any:
        made.append(self.rows.tolist())
        if len(made) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self)

    real = Block.make
    monkeypatch.setattr(Mosaic, "compare", lambda self: Agreement())
    monkeypatch.setattr(Block, "make", make)
    with pytest.raises(ConversionError, match=r"the disk is full.*finished parts are kept"):
        convert(path, tmp_path / "out.zarr", n_threads=1)
    assert not (tmp_path / "out.zarr").exists()
    monkeypatch.undo()
    resumed = []
    monkeypatch.setattr(Block, "make", lambda self: (resumed.append(self.rows.tolist()), real(self))[1])
    monkeypatch.setattr(Mosaic, "compare", lambda self: Agreement())
    convert(path, tmp_path / "out.zarr", n_threads=1)
    assert made[0] not in resumed[:1]
    assert sd.read_zarr(tmp_path / "out.zarr")["table"].n_obs == 700


_ON_A_SMALL_DISK = """
import resource, sys
import cellnet_sd as cn
from cellnet_sd.errors import ConversionError

source, out = sys.argv[1:]
cn.index(source)
for limit in (*range(2**15, 2**18, 2**14), resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        cn.convert(source, out, memory=2**16)
    except ConversionError as error:
        print(error)
"""


@pytest.mark.thorough
def test_an_h5ad_that_the_disk_does_not_take_is_an_error_and_goes_on_once_it_does(tmp_path: Path) -> None:
    """In a process of its own, as libhdf5 crashes where it cannot write; how much a file may hold stands for a disk."""
    path, out = _tissue(tmp_path), tmp_path / "out.h5ad"
    command = [sys.executable, "-W", "ignore", "-c", _ON_A_SMALL_DISK, str(path), str(out)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) >= 3
    for line in found.stdout.splitlines():
        assert re.search(r"out\.h5ad: the disk is full .*[1-9]\d* finished parts are kept", line)
    with quiet():
        assert_same_table(ad.read_h5ad(out), cn.read_anndata(path))


@pytest.mark.parametrize("kept", ["nothing", "all", "half"])
def test_what_a_full_disk_does_not_take_can_be_read_back(tmp_path: Path, kept: str) -> None:
    limit = {"nothing": 0, "half": 300_000, "all": 2**40}[kept]

    class Small(Disk):
        def _write(self, data: memoryview) -> None:
            if self.tell() + len(data) > limit:
                raise OSError(errno.ENOSPC, "No space left on device")
            super()._write(data)

    values = np.random.default_rng(0).random(100_000)
    with Small(tmp_path / "file.h5") as disk, h5py.File(disk, "w") as file:
        for name in "abc":
            file.create_dataset(name, data=values, chunks=(1000,), compression="gzip")
        file.flush()
        del file["b"]
        file["b"] = values[:5]
        for name, expected in zip("abc", (values, values[:5], values), strict=True):
            np.testing.assert_array_equal(file[name][()], expected)
        with pytest.raises(OSError, match="No space") if kept != "all" else nullcontext():
            disk.check()


@pytest.mark.parametrize("error", [RemoteError, AccessDeniedError, NotEnoughMemoryError, MissingDependencyError])
def test_an_error_that_may_pass_leaves_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[CellNetError]
) -> None:
    path, out, made = _tissue(tmp_path), tmp_path / "out.h5ad", []
    save = matrix.save_part

    def fail(part: Path, *args: Any) -> None:
        if made:
            raise error("it is at fault")
        made.append(part.name)
        save(part, *args)

    options = {"memory": 2**17, "n_threads": 1}
    with monkeypatch.context() as patch:
        patch.setattr(matrix, "save_part", fail)
        with pytest.raises(error, match="at fault") as raised:
            convert(path, out, **options)
    assert re.search(r"1 finished parts are kept in .*\.out\.h5ad\.converting", raised.value.__notes__[0])
    monkeypatch.setattr(matrix, "save_part", lambda part, *args: (made.append(part.name), save(part, *args))[1])
    convert(path, out, **options)
    assert len(made) == len(set(made)) > 1, "no part is made twice"


def test_an_error_before_anything_is_finished_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RemoteError("it is at fault")

    monkeypatch.setattr(matrix, "save_part", fail)
    with pytest.raises(RemoteError):
        convert(path, tmp_path / "out.zarr")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_a_disk_that_is_full_at_the_very_end_is_said_too(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zarr, "consolidate_metadata", fail)
        with pytest.raises(ConversionError, match=r"the disk is full.*finished parts are kept"):
            convert(path, tmp_path / "out.zarr", kind="anndata")
    assert convert(path, tmp_path / "out.zarr", kind="anndata").exists()


def test_patches_that_disagree_about_the_slide_are_stored_as_they_are(tmp_path: Path) -> None:
    path = _tissue(tmp_path)
    with h5py.File(path, "r+") as file:
        for number, cell in enumerate(file["slide_1"].values()):
            cell["images/tissue_patch"][...] = np.roll(cell["images/tissue_patch"][()], number % 7, axis=0)
    got = sd.read_zarr(convert(path, tmp_path / "out.zarr", mpp=1.0))
    assert "slide_1_tissue" not in got.images
    assert "slide_2_tissue" in got.images
    table = got["table"]
    on_first = table.obs["slide"] == "slide_1"
    assert table.obs["tissue_patch"][on_first].tolist() == list(range(on_first.sum()))
    assert (table.obs["tissue_patch"][~on_first] == -1).all()
    patches = cn.patches(path, "tissue")
    stack = got.images["slide_1_tissue_patches"].values
    np.testing.assert_array_equal(np.moveaxis(stack[:, :5], 0, -1), patches[:5].values)
