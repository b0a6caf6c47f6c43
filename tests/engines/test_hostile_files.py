"""Hostile files through `open`, `index` and `read`: what is answered is what h5py answers, or the error is ours.

`CELLNET_SD_HOSTILE=20000 pytest tests/engines/test_hostile_files.py` damages as many files, `.ci/run`
2,000, and 150 otherwise.
"""

import json
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import cellnet_sd as cn
import hostile_mutants
from cellnet_sd.errors import CellNetError, CorruptFileError, MalformedCellError, MissingDependencyError
from cellnet_sd.layout import Component
from cellnet_sd.sources import allowance, guarded
from cellnet_sd.sources.base import Raw, Unreadable
from hostile_answers import Refused, ask, differences
from hostile_files import write_sound
from truth_checks import quiet

N_MUTANTS = int(os.environ.get("CELLNET_SD_HOSTILE", "150"))
BATCH = 1000
COMPARED = float(os.environ.get("CELLNET_SD_HOSTILE_COMPARED", "0.1"))
"""The share that is held against h5py, which takes as long again."""
BAD = "Cell_2"
HUGE = 2**40
ENDLESS = (2**31, 0, 2**31)
"""A shape without elements, which NumPy refuses."""


# --- damaged by chance -----------------------------------------------------------------------------------------------


def _read_mutants(folder: Path, seeds: Iterable[int], compared: float) -> None:
    """Make and read the mutants of some seeds in a process of their own; fail on what is wrong with one."""
    command = [sys.executable, hostile_mutants.__file__, json.dumps([*seeds]), str(folder), str(compared)]
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, check=False)
    seed = folder / "seed"
    reached = seed.read_text() if seed.exists() else "none"
    assert done.returncode == 0, f"ended with {done.returncode} at seed {reached}\n{done.stderr[-3000:]}"
    faults = [found for line in done.stdout.splitlines() if "seed" in (found := json.loads(line))]
    assert not faults, "\n".join(f"seed {each['seed']}, {each['file']}: {each['what']}" for each in faults)


@pytest.mark.parametrize("first", range(0, N_MUTANTS, BATCH))
def test_damaged_files_give_what_h5py_gives_or_an_error_of_ours(tmp_path: Path, first: int) -> None:
    _read_mutants(tmp_path, range(first, min(first + BATCH, N_MUTANTS)), COMPARED)


@pytest.mark.thorough
def test_what_20_000_damaged_files_have_found_stays_mended(tmp_path: Path) -> None:
    seeds = {
        5377: "one long value, named by thousands of references",
        6689: "an attribute that breaks libhdf5, on an object that is sound",
        6824: "a root that libhdf5 cannot list, without cells",
        15952: "a chunk of 4 GB, declared by a few stored bytes",
    }
    _read_mutants(tmp_path, seeds, 1.0)


# --- made by hand ----------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a sound file of four cells with every component."""
    write_sound(tmp_path / "plain.h5")
    return tmp_path / "plain.h5"


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have everything imported, compiled and started that takes its time when it is first used."""
    path = tmp_path_factory.mktemp("warm") / "plain.h5"
    write_sound(path)
    ask(path, "auto", raw=True, table=True)
    guarded.in_child("walk", path, [])


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return another file, whose numbers must never be read."""
    other = tmp_path / "elsewhere.h5"
    with h5py.File(other, "w") as root:
        root["secret/expression"] = np.full(3, 7.5, "f4")
        root["image"] = np.full((6, 7, 3), 77, "u1")
    np.full(6 * 7 * 3, 77, "u1").tofile(tmp_path / "elsewhere.bin")
    return other


def _replaced(root: h5py.File, name: str, made: Any) -> None:
    if name in root[BAD]:
        del root[BAD][name]
    root[BAD][name] = made


def _external_component(root: h5py.File) -> None:
    _replaced(root, "expression", h5py.ExternalLink("elsewhere.h5", "/secret/expression"))


def _external_cell(root: h5py.File) -> None:
    root["Cell_9"] = h5py.ExternalLink("elsewhere.h5", "/secret")


def _external_images(root: h5py.File) -> None:
    _replaced(root, "images", h5py.ExternalLink("elsewhere.h5", "/"))


def _soft_to_external(root: h5py.File) -> None:
    root["away"] = h5py.ExternalLink("elsewhere.h5", "/")
    _replaced(root, "images/cell_patch", h5py.SoftLink("/away/image"))


def _soft_loop(root: h5py.File) -> None:
    _replaced(root, "expression", h5py.SoftLink("/Cell_2/again"))
    root[BAD]["again"] = h5py.SoftLink("/Cell_2/expression")


def _soft_nowhere(root: h5py.File) -> None:
    _replaced(root, "caption.txt", h5py.SoftLink("/nowhere"))


def _soft_images(root: h5py.File) -> None:
    _replaced(root, "images", h5py.SoftLink("/Cell_1/images"))


def _soft_images_nowhere(root: h5py.File) -> None:
    _replaced(root, "images", h5py.SoftLink("/nowhere"))


def _soft_images_loop(root: h5py.File) -> None:
    _replaced(root, "images", h5py.SoftLink(f"/{BAD}/images"))


def _soft_wsi(root: h5py.File) -> None:
    _replaced(root, "images/WSI_patch", h5py.SoftLink("/Cell_1/images/WSI_patch"))


def _external_storage(root: h5py.File) -> None:
    del root[BAD]["images/cell_patch"]
    external = [("elsewhere.bin", 0, h5py.h5f.UNLIMITED)]
    root[BAD].create_dataset("images/cell_patch", shape=(6, 7, 3), dtype="u1", external=external)


def _virtual(root: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "/secret/expression", (3,))
    del root[BAD]["expression"]
    root[BAD].create_virtual_dataset("expression", layout)


def _self_in_cell(root: h5py.File) -> None:
    root[BAD]["again"] = root[BAD]


def _ccc_in_itself(root: h5py.File) -> None:
    root[BAD]["CCC"]["again"] = root[BAD]["CCC"]


def _root_below(root: h5py.File) -> None:
    root.create_group("box")["top"] = root["/"]


def _too_short(root: h5py.File) -> None:
    _gzipped(root, zlib.compress(bytes(8)))


def _too_long(root: h5py.File) -> None:
    _gzipped(root, zlib.compress(bytes(16)))


def _deflated_twice(root: h5py.File) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3,))
    properties.set_deflate(1)
    properties.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    del root[BAD]["expression"]
    space = h5py.h5s.create_simple((3,))
    made = h5py.h5d.create(root[BAD].id, b"expression", h5py.h5t.IEEE_F32LE, space, properties)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.5, 0, 2], "f4"))


def _bomb(root: h5py.File) -> None:
    _gzipped(root, zlib.compress(bytes(300 * 2**20)))


def _gzipped(root: h5py.File, stored: bytes) -> None:
    del root[BAD]["expression"]
    made = root[BAD].create_dataset("expression", shape=(3,), dtype="f4", chunks=(3,), compression="gzip")
    made.id.write_direct_chunk((0,), stored)


def _wrong_checksum(root: h5py.File) -> None:
    del root[BAD]["expression"]
    made = root[BAD].create_dataset("expression", shape=(3,), dtype="f4", chunks=(3,), fletcher32=True)
    made.id.write_direct_chunk((0,), np.arange(3, dtype="f4").tobytes() + b"\1\2\3\4")


def _huge(root: h5py.File) -> None:
    del root[BAD]["expression"]
    root[BAD].create_dataset("expression", shape=(HUGE,), dtype="f4", chunks=(1024,), compression="gzip")


def _huge_image(root: h5py.File) -> None:
    del root[BAD]["images/cell_patch"]
    made = root[BAD].create_dataset(
        "images/cell_patch", shape=(40_000, 40_000, 3), dtype="u1", chunks=(10_000, 10_000, 3), compression="gzip"
    )
    made.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(1000)))


def _null(root: h5py.File) -> None:
    for name, kind in (("expression", "f4"), ("caption.txt", "S5"), ("images/cell_patch", "u1")):
        del root[BAD][name]
        root[BAD].create_dataset(name, data=h5py.Empty(kind))


def _deep_ccc(root: h5py.File) -> None:
    group = root[BAD]["CCC"]
    for _ in range(40):
        group = group.create_group("deeper")


def _deep_containers(root: h5py.File) -> None:
    group = root
    for _ in range(200):
        group = group.create_group("deeper")


def _committed(root: h5py.File) -> None:
    root["float"] = np.dtype("f4")
    del root[BAD]["expression"]
    root[BAD].create_dataset("expression", data=np.arange(3, dtype="f4") + 0.5, dtype=root["float"])


def _committed_wsi(root: h5py.File) -> None:
    root["byte"] = np.dtype("u1")
    for row in range(1, 5):
        images = root[f"Cell_{row}/images"]
        stored = images["WSI_patch"][()] + (row > 2)
        del images["WSI_patch"]
        images.create_dataset("WSI_patch", data=stored, dtype=root["byte"])


def _references(root: h5py.File) -> None:
    one, many = root["Cell_1"].ref, np.array([root["Cell_1"].ref] * 2, h5py.ref_dtype)
    for name, value in (("one", one), ("many", many), ("region", root["Cell_1/expression"].regionref[:2])):
        root[BAD]["CCC"].attrs[name] = value
    of_lists = h5py.h5t.vlen_create(h5py.h5t.STD_REF_OBJ)  # as netCDF names the axes of an array
    h5py.h5a.create(root[BAD]["CCC"].id, b"DIMENSION_LIST", of_lists, h5py.h5s.create_simple((2,)))


def _lists_in_records(root: h5py.File) -> None:
    records = np.array([(b"name", 1)], [("name", h5py.string_dtype()), ("count", "i4")])
    root[BAD]["CCC"].attrs["records"] = records


def _records(root: h5py.File) -> None:
    _replaced(root, "images/cell_patch", np.zeros(126, [("byte", "u1")]))


def _no_array(root: h5py.File) -> None:
    del root[BAD]["expression"], root["Cell_3/CCC"]
    root[BAD].create_dataset("expression", ENDLESS, "f4")
    extra = h5py.h5t.STD_I32LE, h5py.h5s.create_simple(ENDLESS)
    h5py.h5a.create(root.create_group("Cell_3/CCC").id, b"extra", *extra)
    h5py.h5a.create(root["Cell_4"].id, b"cell_diameter", *extra)


def _long_names(root: h5py.File) -> None:
    for number in range(10):  # too many for the header, and too long for the blocks of a heap
        root[BAD]["x" * 64_000 + str(number)] = root["Cell_1/expression"]


TIES = [
    _long_names,
    _records,
    _no_array,
    _lists_in_records,
    _references,
    _external_component,
    _external_cell,
    _external_images,
    _soft_to_external,
    _soft_loop,
    _soft_nowhere,
    _soft_images,
    _soft_images_nowhere,
    _soft_images_loop,
    _soft_wsi,
    _external_storage,
    _virtual,
    _self_in_cell,
    _ccc_in_itself,
    _root_below,
    _too_short,
    _too_long,
    _deflated_twice,
    _bomb,
    _wrong_checksum,
    _huge,
    _huge_image,
    _null,
    _deep_ccc,
    _deep_containers,
    _committed,
    _committed_wsi,
]
REFUSED = {
    _lists_in_records: "CCC",
    _external_component: "expression",
    _soft_to_external: "images/cell_patch",
    _soft_loop: "expression",
    _soft_nowhere: "caption.txt",
    _external_images: "images/cell_patch",
    _soft_images_nowhere: "images/cell_patch",
    _soft_images_loop: "images/cell_patch",
    _external_storage: "images/cell_patch",
    _virtual: "expression",
    _too_short: "expression",
    _too_long: "expression",
    _bomb: "expression",
    _wrong_checksum: "expression",
    _huge: "expression",
    _huge_image: "images/cell_patch",
    _null: "caption.txt",
    _records: "images/cell_patch",
    _no_array: "expression",
}
"""Components that must not be read, natively."""


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("tie", TIES)
def test_hostile_objects_give_what_h5py_gives_or_an_error_of_ours(path: Path, tie: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "a", libver="latest") as root:
        tie(root)
    began = time.process_time()
    own = ask(path, "auto", raw=True, table=True)
    assert time.process_time() - began < hostile_mutants.SECONDS
    assert differences(own, ask(path, "h5py", raw=True, table=True)) == []
    if tie in REFUSED:
        row = own["cells"].index(f"/{BAD}")
        assert isinstance(own[f"raw {REFUSED[tie]}"][row], str)
    assert "7.5" not in str(own.get("expression")) + str(own.get("read"))


def test_references_beside_a_value_take_nothing_from_it(path: Path) -> None:
    with h5py.File(path, "a") as root:
        _references(root)
    with cn.open(path, index=False) as f:
        links, values = f.ccc, f._source.fetch(Component.CCC, range(4))
    assert isinstance(values[1], Raw)
    with cn.open(path, index=False, engine="h5py") as f:
        assert str(f.ccc) == str(links)


@pytest.mark.parametrize("engine", ["auto", "native", "h5py"])
def test_gene_names_of_a_shape_that_no_array_has_are_an_error_of_ours(path: Path, engine: Any) -> None:
    with h5py.File(path, "a") as root:
        del root["gene_names"]
        root.create_dataset("gene_names", ENDLESS, "S4")
    with pytest.raises(CorruptFileError, match=r"plain\.h5: /gene_names: no array has the shape"):
        cn.open(path, index=False, engine=engine)


@pytest.mark.parametrize("engine", ["auto", "h5py"])
def test_a_long_double_that_the_root_states_is_a_number(path: Path, engine: Any) -> None:
    with h5py.File(path, "a") as root:
        root.attrs.create("mpp", 0.5, dtype=np.longdouble)
    cn.index(path, engine=engine)
    assert cn.open(path, engine=engine)._source.index.stated[""].values["mpp"] == 0.5


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("engine", ["auto", "native", "h5py"])
@pytest.mark.parametrize("tie", [_external_images, _soft_images_nowhere, _soft_images_loop])
def test_images_that_cannot_be_reached_are_the_fault_of_one_cell(path: Path, tie: Any, engine: Any) -> None:
    with h5py.File(path, "a") as root:
        tie(root)
    with cn.open(path, index=False, engine=engine) as f:
        assert f.expression[:].shape[0] == 4
        said = "'images' is a link to another file" if tie is _external_images else BAD
        with pytest.raises(MalformedCellError, match=said):
            _ = f.patches("cell")[:].values
    with pytest.raises(MalformedCellError, match=BAD):
        cn.read_anndata(path, index=False, engine=engine)
    with quiet():
        adata = cn.read_anndata(path, index=False, engine=engine, on_error="skip")
    assert adata.obs_names.tolist() == ["Cell_1", "Cell_3", "Cell_4"]


@pytest.mark.parametrize("engine", ["auto", "native", "h5py"])
def test_ccc_that_no_cell_has_readable_leaves_a_table_without_cells(path: Path, engine: Any) -> None:
    with h5py.File(path, "a") as root:
        for cell in [name for name in root if name.startswith("Cell_")]:
            del root[cell]["CCC"]
            members = root[cell].create_group("CCC")
            for name in ("data", "indices", "indptr"):
                members.create_dataset(name, shape=(HUGE,), dtype="i4", chunks=(2**20,), compression="gzip")
    with quiet():
        adata = cn.read_anndata(path, index=False, engine=engine, on_error="skip")
    assert adata.n_obs == 0
    assert set(adata.obsp) == {"ccc_connectivities", "ccc_distances"}
    with pytest.raises(MalformedCellError, match="cell 'Cell_1', CCC"):
        cn.read_anndata(path, index=False, engine=engine)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("engine", ["auto", "native", "h5py"])
@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_cell_in_another_file_is_said_whatever_is_asked_for(path: Path, engine: Any, *, is_indexed: bool) -> None:
    with h5py.File(path, "a") as root:
        del root[BAD]
        root[BAD] = h5py.ExternalLink("elsewhere.h5", "/secret")
    said = f"{BAD}'.* link to another file"
    for _ in range(1 + is_indexed):
        with cn.open(path, index=is_indexed, engine=engine) as f:
            for verb in (lambda f=f: f.expression[:], lambda f=f: f.ccc, lambda f=f: f.patches("cell")[:].values):
                with pytest.raises(MalformedCellError, match=said):
                    verb()
            assert f.patches("wsi")[2:].shape[0] == 2
    with pytest.raises(MalformedCellError, match=said):
        cn.read_anndata(path, engine=engine)
    with quiet():
        adata = cn.read_anndata(path, engine=engine, on_error="skip")
    assert adata.obs_names.tolist() == ["Cell_1", "Cell_3", "Cell_4"]


def _renamed(path: Path, old: bytes, new: bytes) -> None:
    """Rename what is in a file, and put checksums right."""
    from native_mutants import _sum, structures

    raw = path.read_bytes()
    assert raw.count(old) == 1
    sealed = [each for each in structures(np.frombuffer(raw + bytes(8), np.uint8)) if each[1] > each[0]]
    data = np.frombuffer(raw.replace(old, new), np.uint8).copy()
    for start, end, zeroed in sealed:
        at = zeroed if zeroed > 0 else end
        data[at : at + 4] = np.frombuffer(struct.pack("<I", _sum(data, start, end, zeroed)), np.uint8)
    data.tofile(path)


@pytest.mark.parametrize(
    ("where", "other", "name"),
    [("/", "Cell_1", b"Cell_2"), (BAD, "Cell_1/expression", b"expression"), (f"{BAD}/CCC", "Cell_1/CCC/data", b"data")],
)
def test_links_of_one_name_are_a_fault_of_their_group(path: Path, where: str, other: str, name: bytes) -> None:
    odd = name[:-1] + b"?"
    with h5py.File(path, "a", libver="latest") as root:
        root[where][odd.decode()] = root[other]
    _renamed(path, odd, name)
    own = ask(path, "auto", raw=True, table=False)
    said = [own["open"]] if where == "/" else [own["ccc"], *({own["expression"]} if where == BAD else ())]
    for each in said:
        assert isinstance(each, Refused)
        assert "its structure is damaged (name)" in each
    assert differences(own, ask(path, "h5py", raw=True, table=False)) == []


def test_values_deflated_twice_are_read_through_libhdf5(path: Path) -> None:
    with h5py.File(path, "a") as root:
        _deflated_twice(root)
    with cn.open(path, index=False) as f:
        assert f.expression[:].toarray()[1].tolist() == [1.5, 0, 2]
        assert "filters 1, 1: 1" in str(cn.info(path))


@pytest.mark.parametrize("kept", np.linspace(0, 0.999, 25).tolist())
def test_a_truncated_file_is_refused(path: Path, kept: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    for verb in (cn.open, cn.index, cn.read_anndata):
        with pytest.raises(CellNetError, match=r"plain\.h5"):
            verb(path)


@pytest.fixture(params=["as it is", "through h5py"])
def unwritten(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a small file of 40 cells of 16 MiB each, none of which was ever written, all of one fill value."""
    with h5py.File(tmp_path / "unwritten.h5", "w", libver="latest") as root:
        root["kind"] = np.dtype("f4")
        kind = root["kind"] if request.param == "through h5py" else "f4"
        for row in range(40):
            root[f"Cell_{row}/attributes.json"] = "{}"
            root[f"Cell_{row}"].create_dataset("expression", (2**22,), kind, fillvalue=1)
    return tmp_path / "unwritten.h5"


def test_what_was_never_written_is_no_more_in_all_than_the_file_could_be(unwritten: Path) -> None:
    source = cn.open(unwritten, index=False)._source
    found = source.fetch(Component.EXPRESSION, range(40))
    taken = sum(value.value.nbytes for value in found if isinstance(value, Raw))
    assert taken <= allowance.MAX_INFLATION * unwritten.stat().st_size + guarded._ENOUGH + allowance.ALWAYS_ALLOWED
    with pytest.raises(MalformedCellError, match=r"unwritten\.h5: cell 'Cell_"):
        _ = cn.open(unwritten, index=False).expression[:]


def test_profiles_that_were_never_written_are_zero(path: Path) -> None:
    with h5py.File(path, "a") as root:
        for row, fill in ((1, 0), (3, 2.5)):
            del root[f"Cell_{row}/expression"]
            root[f"Cell_{row}"].create_dataset("expression", (3,), "f4", chunks=(3,), fillvalue=fill)
    with cn.open(path, index=False) as f, cn.open(path, index=False, engine="h5py") as reference:
        packed = f._source.fetch_packed(Component.EXPRESSION, np.arange(4), 3)
        assert packed.counts[0] == 0  # no dense copy was made
        found = f.expression[:].toarray()
        np.testing.assert_array_equal(found, reference.expression[:].toarray())
    assert found[[0, 2]].tolist() == [[0, 0, 0], [2.5, 2.5, 2.5]]


# --- the guarded process ---------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(path: Path) -> Path:
    """Return a file with a component that only libhdf5 reads, damaged elsewhere."""
    with h5py.File(path, "a", libver="latest") as root:
        _committed(root)
        address = h5py.h5o.get_info(root["Cell_3/expression"].id).addr
    raw = bytearray(path.read_bytes())
    raw[address + 20] ^= 0xFF  # its checksum is wrong now
    path.write_bytes(bytes(raw))
    return path


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a way to have the guarded process run other code."""

    def use(code: str) -> None:
        monkeypatch.setattr(guarded, "_COMMAND", [sys.executable, "-c", code])
        guarded._server.cache_clear()

    yield use
    guarded._server.cache_clear()


def test_what_only_libhdf5_reads_is_read_apart_in_a_damaged_file(damaged: Path) -> None:
    own = ask(damaged, "auto", raw=True, table=False)
    source = cn.open(damaged, index=False)._source
    assert source.index.findings.scan.damaged
    assert own["raw expression"][1].value.tolist() == [0.5, 1.5, 2.5]
    assert isinstance(own["raw expression"][2], str)
    assert differences(own, ask(damaged, "h5py", raw=True, table=False)) == []


_BROKEN = "from cellnet_sd.sources import guarded; guarded._carried_out = lambda order: {}; guarded._serve()"
_SLEEPING = _BROKEN.format("__import__('time').sleep(60)").replace(
    "guarded._serve", "guarded._LONGEST = 0; guarded._serve"
)
_FAILING = {
    "crashes": (_BROKEN.format("__import__('ctypes').string_at(0)"), "exit code -11"),
    "hangs": (_BROKEN.format("[each for each in iter(int, 1)]"), "did not come to an end"),
    "sleeps": (_SLEEPING, "did not come to an end"),
    "eats memory": (_BROKEN.format("b'x' * 2**33"), "exit code 1"),
    "does not start": ("raise SystemExit(3)", "exit code 3"),
}


@pytest.mark.parametrize("how", _FAILING)
def test_a_guarded_process_that_fails_is_an_error_of_ours(
    damaged: Path, fresh: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    code, said = _FAILING[how]
    fresh(code)
    monkeypatch.setattr(guarded, "_SECONDS", 1)
    for _ in range(2):  # and the process goes on, or is started anew
        with pytest.raises(CorruptFileError, match=said):
            cn.open(damaged, index=False)


def _decoding_short(path: Path) -> None:
    """Give a cell 16 MiB of values behind LZF, which decode to 4 bytes: libhdf5 reads on behind them, and crashes."""
    n_bytes = 2**24
    with h5py.File(path, "a") as root:
        del root[BAD]["expression"]
        made = root[BAD].create_dataset("expression", (n_bytes // 4,), "f4", chunks=(n_bytes // 4,), compression="lzf")
        made.id.write_direct_chunk((0,), b"\3abcd" + bytes(2**15))
        version, made_by, _ = made.id.get_create_plist().get_filter(0)[2]
    stated = [struct.pack("<III", version, made_by, size) for size in (n_bytes, 4)]
    raw = path.read_bytes()
    assert raw.count(stated[0]) == 1
    path.write_bytes(raw.replace(*stated))


def _flipped_bitshuffle(path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(path, "a") as root:
        del root[BAD]["expression"]
        values = np.arange(64, dtype="i4")
        made = root[BAD].create_dataset("expression", data=values, chunks=(64,), **hdf5plugin.Bitshuffle())
        address = made.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[address + 4] ^= 1
    path.write_bytes(raw)


# bitshuffle reads on behind the bytes of a flipped chunk, and what lies there may be such that it notices
@pytest.mark.parametrize(
    ("break_it", "said"),
    [(_decoding_short, "exit code -11"), (_flipped_bitshuffle, "exit code -11|cannot be decoded")],
)
def test_a_value_that_crashes_libhdf5_is_unreadable_and_no_other(
    path: Path, break_it: Callable[[Path], None], said: str
) -> None:
    with h5py.File(path, "a") as root:
        for row in (1, 3, 4):
            root[f"Cell_{row}"].create_dataset("again", data=root[f"Cell_{row}/expression"][()], compression="lzf")
            del root[f"Cell_{row}/expression"]
            root.move(f"Cell_{row}/again", f"Cell_{row}/expression")
    break_it(path)
    source = cn.open(path, index=False)._source
    found = source.fetch(Component.EXPRESSION, range(4))
    assert [type(value) for value in found] == [Raw, Unreadable, Raw, Raw]
    assert re.search(said, found[1])
    with pytest.raises(MalformedCellError, match=rf"plain\.h5: cell '{BAD}', expression: .*({said})"):
        _ = cn.open(path, index=False).expression[:]


def test_a_file_on_which_libhdf5_crashes_over_and_over_is_given_up(damaged: Path, fresh: Callable[[str], None]) -> None:
    source = cn.open(damaged, index=False)._source
    fresh(_BROKEN.format("__import__('ctypes').string_at(0)"))
    with pytest.raises(CorruptFileError, match="exit code -11"):
        source.fetch(Component.EXPRESSION, [1] * 1_000)


def test_an_error_of_ours_comes_out_of_the_guarded_process(damaged: Path, fresh: Callable[[str], None]) -> None:
    source = cn.open(damaged, index=False)._source
    raising = "(_ for _ in ()).throw(guarded.errors.MissingDependencyError('pip install it'))"
    fresh(_BROKEN.format(raising))
    with pytest.raises(MissingDependencyError, match="pip install it"):
        source.fetch(Component.EXPRESSION, [1])


def test_an_answer_goes_on_where_it_was_broken_off(damaged: Path, fresh: Callable[[str], None]) -> None:
    source = cn.open(damaged, index=False)._source
    fresh("from cellnet_sd.sources import guarded; guarded._ENOUGH = 100; guarded._serve()")
    found = source.fetch(Component.EXPRESSION, [1] * 7)
    assert [value.value.tolist() for value in found] == [[0.5, 1.5, 2.5]] * 7


def test_what_c_code_prints_in_the_guarded_process_is_no_reply(damaged: Path, fresh: Callable[[str], None]) -> None:
    source = cn.open(damaged, index=False)._source
    printing = "guarded.Component = lambda name: __import__('os').write(1, b'decompressed size not the same') and name"
    fresh(f"from cellnet_sd.sources import guarded; {printing}; guarded._serve()")
    assert source.fetch(Component.EXPRESSION, [1])[0].value.tolist() == [0.5, 1.5, 2.5]


def test_an_absurd_reply_of_the_guarded_process_is_an_error_of_ours(
    damaged: Path, fresh: Callable[[str], None]
) -> None:
    source = cn.open(damaged, index=False)._source
    fresh("import os, time; os.write(1, b'decompressed size not the same'); time.sleep(60)")
    with pytest.raises(CorruptFileError, match="exit code -9"):
        source.fetch(Component.EXPRESSION, [1])


def test_references_that_all_name_one_long_value_are_not_as_many_copies_of_it(path: Path) -> None:
    n, size = 1_000, 16
    with h5py.File(path, "a") as root:
        del root["gene_names"]
        names = np.array(["x" * 200_000] + ["GENE"] * (n - 1), object)
        at = root.create_dataset("gene_names", data=names).id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[at : at + n * size] = raw[at : at + size] * n
    path.write_bytes(raw)
    with pytest.raises(CorruptFileError, match=r"plain\.h5: /gene_names: its references name 200,000,000 bytes, more"):
        cn.open(path, index=False)


def test_nothing_that_is_refused_is_an_answer(path: Path) -> None:
    with h5py.File(path, "a") as root:
        _huge(root)
    own = ask(path, "auto", raw=False, table=False)
    assert isinstance(own["expression"], Refused)
    assert BAD in own["expression"]
