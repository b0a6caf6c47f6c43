"""Files made to cost much more than they hold: many names of one large thing. They are refused, at no cost."""

import json
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import CorruptFileError, LayoutError, MalformedCellError
from cellnet_sd.sources.allowance import MAX_INFLATION
from hostile_files import Look, write_sound
from hostile_mutants import MEMORY, SECONDS
from spell_arrays import ExpressionSpelling

N_CELLS = 300
LONG = 2**20


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have everything imported and compiled that takes its time when it is first used."""
    path = tmp_path_factory.mktemp("warm") / "plain.h5"
    write_sound(path)
    _ = cn.open(path, index=False).expression[:]


@contextmanager
def _cheap(path: Path, declared: int = 0) -> Iterator[None]:
    """Fail if what is done takes more time or memory than a small file may that declares so many bytes."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        assert time.process_time() - began < SECONDS
        assert tracemalloc.get_traced_memory()[1] < MEMORY + 2 * path.stat().st_size + declared
    finally:
        tracemalloc.stop()


def _cells(path: Path, shared: Callable[[h5py.Group], dict[str, h5py.Dataset]]) -> None:
    """Write cells that all have the same objects."""
    with h5py.File(path, "w", libver="latest") as root:
        pool = root.create_group("pool")
        own = {"attributes.json": pool.create_dataset("document", data='{"tissue": "Lung"}')} | shared(pool)
        for row in range(N_CELLS):
            for name, dataset in own.items():
                root[f"Cell_{row}/{name}"] = dataset


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "h5py"])
def test_a_path_that_would_be_said_again_and_again_is_refused(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "paths.h5"
    with h5py.File(path, "w", libver="latest") as root:
        group = root.create_group("/".join(["n" * 60_000] * 10))
        group["Cell_1/expression"] = np.arange(3, dtype="f4")
        for number in range(1_000):
            group[f"link_{number}"] = h5py.SoftLink("/nowhere")
    with (
        _cheap(path),
        pytest.raises(CorruptFileError, match=r"paths\.h5: (its structure|the path of a group)"),
    ):
        cn.open(path, index=False, engine=engine)


# --- one thing, named again and again --------------------------------------------------------------------------------


def test_chunks_that_are_the_same_bytes_are_no_more_than_the_file_could_be(tmp_path: Path) -> None:
    path, n_chunks = tmp_path / "chunks.h5", 300
    write_sound(path, Look("earliest", "none", ExpressionSpelling(), "contiguous", "vlen", "vlen"))
    stored = zlib.compress(bytes(4 * LONG), 9)
    with h5py.File(path, "a", libver="earliest") as root:
        del root["Cell_2/expression"]
        made = root["Cell_2"].create_dataset("expression", (n_chunks * LONG,), "f4", chunks=(LONG,), compression="gzip")
        for at in range(n_chunks):
            made.id.write_direct_chunk((at * LONG,), b"nothing" if at else stored)
        first, *others = [made.id.get_chunk_info(at).byte_offset for at in range(n_chunks)]
    raw = bytearray(path.read_bytes())
    for address in others:
        at = raw.index(struct.pack("<Q", address))
        struct.pack_into("<I", raw, at - 24, len(stored))  # of the key before the address (III.A.1)
        struct.pack_into("<Q", raw, at, first)
    path.write_bytes(raw)
    with _cheap(path), pytest.raises(MalformedCellError, match=r"chunks\.h5: cell 'Cell_2'.* bytes are declared but"):
        _ = cn.open(path, index=False).expression[:]


def _deflated_profile(pool: h5py.Group) -> dict[str, h5py.Dataset]:
    return {"expression": pool.create_dataset("profile", data=np.zeros(LONG, "f4"), chunks=(LONG,), compression="gzip")}


def test_a_profile_that_all_cells_share_is_not_decoded_for_each(tmp_path: Path) -> None:
    path = tmp_path / "shared.h5"
    _cells(path, _deflated_profile)
    declared = MAX_INFLATION * path.stat().st_size
    with (
        _cheap(path, declared),
        pytest.raises(MalformedCellError, match=r"shared\.h5: cell 'Cell_.*with those of other cells"),
    ):
        _ = cn.open(path, index=False).expression[:]


def _caption(pool: h5py.Group) -> dict[str, h5py.Dataset]:
    return {"caption.txt": pool.create_dataset("caption", data="x" * LONG)}


def _padded_caption(pool: h5py.Group) -> dict[str, h5py.Dataset]:
    return {"caption.txt": pool.create_dataset("caption", data=np.bytes_("x" * LONG))}


def _deflated_caption(pool: h5py.Group) -> dict[str, h5py.Dataset]:
    text = np.full(LONG, ord("x"), "u1")
    return {"caption.txt": pool.create_dataset("caption", data=text, chunks=(LONG,), compression="gzip")}


def _long_document(pool: h5py.Group) -> dict[str, h5py.Dataset]:
    return {"attributes.json": pool.create_dataset("long", data=f'{{"tissue": "{"x" * LONG}"}}')}


@pytest.mark.parametrize("shared", [_caption, _padded_caption, _deflated_caption, _long_document])
def test_a_text_that_all_cells_share_is_not_as_many_copies_of_it(
    tmp_path: Path, shared: Callable[[h5py.Group], dict[str, h5py.Dataset]]
) -> None:
    path = tmp_path / "shared.h5"
    _cells(path, shared)
    with _cheap(path):
        file = cn.open(path, index=False)
        assert len(file.obs) == N_CELLS
    defects = file._source.index.defects
    # one that is inflated is counted from its second copy on
    first = 16 + (shared is _deflated_caption) - (shared is _long_document)
    assert {problem.row for problem in defects} == set(range(first, N_CELLS))
    assert all("with those of other cells" in problem.reason for problem in defects)


@pytest.mark.parametrize("is_written", [True, False])
def test_names_that_are_few_bytes_stored_are_not_millions_of_objects(tmp_path: Path, *, is_written: bool) -> None:
    path, n = tmp_path / "names.h5", 12 * LONG
    write_sound(path)
    with h5py.File(path, "a", libver="latest") as root:
        del root["gene_names"]
        made = root.create_dataset("gene_names", (n,), "S1", chunks=(n,), compression="gzip")
        if is_written:
            made.id.write_direct_chunk((0,), zlib.compress(b"x" * n, 9))
    with _cheap(path), pytest.raises(CorruptFileError, match=r"names\.h5: /gene_names: .* bytes are declared but"):
        cn.open(path, index=False)


# --- very many members -----------------------------------------------------------------------------------------------

_OPEN = "import sys, cellnet_sd; print(len(cellnet_sd.open(sys.argv[1], index=False, n_threads=1)))"


def test_a_cell_of_very_many_members_in_an_early_group_is_read(tmp_path: Path) -> None:
    path = tmp_path / "members.h5"
    with h5py.File(path, "w", libver="earliest") as root:
        cell = root.create_group("Cell_1")
        cell["expression"] = np.arange(3, dtype="f4")
        for number in range(20_000):
            cell[f"CCC/member_{number}"] = cell["expression"]
    done = subprocess.run([sys.executable, "-c", _OPEN, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr[-2000:]


# --- keys ------------------------------------------------------------------------------------------------------------


def _keys(first: int, n: int) -> str:
    return json.dumps(dict.fromkeys(map(str, range(first, first + n)), 0))


@pytest.mark.parametrize("engine", ["auto", "h5py"])
@pytest.mark.parametrize(("n_documents", "n_keys"), [(1, 50_000), (4, 50_000), (1_500, 20)])
def test_very_many_keys_are_refused(tmp_path: Path, engine: str, n_documents: int, n_keys: int) -> None:
    path = tmp_path / "keys.h5"
    with h5py.File(path, "w", libver="latest") as root:
        for row in range(n_documents):
            first = n_keys * row if n_documents > 40 else 0
            root[f"Cell_{row}/attributes.json"] = np.bytes_(_keys(first, n_keys - row % 2))
    with _cheap(path), pytest.raises(LayoutError, match=r"keys\.h5: attributes\.json of its cells: .* too many"):
        cn.open(path, index=False, engine=engine)


def _differing() -> Iterator[str]:
    """Yield 150 documents of 600 of 4,000 keys each, whose values are of all types, spelled in any order."""
    rng = random.Random(1)
    kinds: list[Callable[[int], object]] = [int, str, lambda k: [k], lambda k: {"a": k}, lambda _: None, lambda _: 1.5]
    for _ in range(150):
        yield json.dumps({f"k{key}": rng.choice(kinds)(key) for key in rng.sample(range(4_000), 600)})


def _listing() -> Iterator[str]:
    """Yield 50 documents that say the same 2,000 keys in any order, whose values are all different lists."""
    rng, keys = random.Random(1), list(range(2_000))
    for number in range(50):
        rng.shuffle(keys)
        yield json.dumps({f"k{key}": [number, key] for key in keys})


@pytest.mark.parametrize("documents", [_differing, _listing])
def test_documents_that_differ_as_much_as_they_can_are_soon_read(
    tmp_path: Path, documents: Callable[[], Iterator[str]]
) -> None:
    path, texts = tmp_path / "differing.h5", list(documents())
    with h5py.File(path, "w", libver="latest") as root:
        for row, text in enumerate(texts):
            root[f"Cell_{row}/attributes.json"] = np.frombuffer(text.encode(), "u1")
    began = time.process_time()
    obs = cn.open(path, index=False).obs
    assert time.process_time() - began < SECONDS
    said = {key: value for key, value in json.loads(texts[7]).items() if value is not None}
    assert {key: str(value) for key, value in obs.iloc[7].dropna().items() if key in said}.keys() == said.keys()


def test_lists_that_are_few_bytes_stored_are_not_millions_of_objects(tmp_path: Path) -> None:
    path, n_documents, n_lists = tmp_path / "lists.h5", 60, 40_000
    with h5py.File(path, "w") as root:
        for row in range(n_documents):
            lists = ",".join(["[]"] * (n_lists + row))
            root[f"Cell_{row}/attributes.json"] = np.frombuffer(f'{{"lists":[{lists}]}}'.encode(), "u1")
    tracemalloc.start()  # which takes longer than to read them
    try:
        obs = cn.open(path, index=False).obs
        assert tracemalloc.get_traced_memory()[1] < MEMORY + 2 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert json.loads(obs["lists"].iloc[3]) == [[]] * (n_lists + 3)


@pytest.mark.parametrize("engine", ["auto", "h5py"])
def test_a_document_of_millions_of_lists_is_the_fault_of_its_cell(tmp_path: Path, engine: Any) -> None:
    path = tmp_path / "lists.h5"
    with h5py.File(path, "w") as root:
        root["Cell_1/attributes.json"] = '{"lists":[' + ",".join(["[]"] * 3_000_000) + "]}"
        root["Cell_2/attributes.json"] = '{"text":"' + "," * 900_000 + "." * 200_000 + '"}'
    tracemalloc.start()
    try:
        file = cn.open(path, index=False, engine=engine)
        assert tracemalloc.get_traced_memory()[1] < MEMORY + 2 * path.stat().st_size
    finally:
        tracemalloc.stop()
    (defect,) = file._source.index.defects
    assert (defect.row, defect.reason) == (0, "it holds more than 1,000,000 values")
    assert len(file.obs.loc["Cell_2", "text"]) == 1_100_000


_RUN = 100_000
_ENDLESS = [
    {"Position_in_WSI": " " * _RUN},
    {"Position_in_WSI": f"({'1' * _RUN}q, 2)"},
    {"Position_in_tissue": f"(1, 2{' ' * _RUN}q"},
    {"cell_diameter": f"9{' ' * _RUN}q"},
    {"cell_diameter": f"{'9' * _RUN}q"},
]


@pytest.mark.parametrize("document", _ENDLESS, ids=lambda document: next(iter(document)))
def test_a_long_value_that_is_none_is_soon_refused(tmp_path: Path, document: dict[str, str]) -> None:
    path = tmp_path / "long.h5"
    with h5py.File(path, "w") as root:
        root["Cell_1/attributes.json"] = json.dumps(document)
    with _cheap(path):
        defects = cn.open(path, index=False)._source.index.defects
    assert len(defects[0].reason) < 200


@pytest.mark.parametrize("key", ["cell_diameter", "Position_in_WSI"])
def test_a_number_beyond_all_floats_is_the_fault_of_its_cell(tmp_path: Path, key: str) -> None:
    path = tmp_path / "beyond.h5"
    number = 10**400
    with h5py.File(path, "w") as root:
        for row, value in enumerate([number, 9]):
            document = {key: value if key == "cell_diameter" else [value, 1]}
            root[f"Cell_{row}/attributes.json"] = json.dumps(document)
    index = cn.open(path, index=False)._source.index
    assert [(problem.row, problem.reason) for problem in index.defects] == [
        (0, f"{key}: int too large to convert to float")
    ]


# --- more than there is room for -------------------------------------------------------------------------------------

_ALL_PATCHES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)
import cellnet_sd as cn
try:
    cn.open(sys.argv[1], index=False).patches("cell")[:].values
except cn.errors.NotEnoughMemoryError as error:
    print(error)
"""


def test_more_patches_than_there_is_memory_for_are_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "patches.h5"
    with h5py.File(path, "w", libver="latest") as root:
        cell = root.create_group("Cell_0")
        cell["expression"] = np.arange(3, dtype="f4")
        pixels = np.zeros((LONG // 1024, 1024, 3), "u1")
        cell.create_dataset("images/cell_patch", data=pixels, chunks=pixels.shape, compression="gzip")
        for number in range(1, 10_000):
            root[f"Cell_{number}"] = cell
    command = [sys.executable, "-c", _ALL_PATCHES, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "patches.h5: images/cell_patch of 10,000 cells does not fit in memory" in done.stdout


@pytest.mark.parametrize("engine", ["auto", "h5py"])
def test_the_wsi_images_of_all_slides_are_not_in_memory_at_once(tmp_path: Path, engine: Any) -> None:
    path, image = tmp_path / "slides.h5", np.zeros((1_000, 1_000, 3), np.uint8)
    with h5py.File(path, "w") as root:
        for row in range(20):
            image[row] = row + 1
            cell = root.create_group(f"slide_{row}/Cell_{row}")
            cell["expression"] = np.arange(3, dtype="f4")
            cell.create_dataset("images/WSI_patch", data=image, chunks=image.shape, compression=1)
    tracemalloc.start()
    try:
        file = cn.open(path, index=False, engine=engine, n_threads=1)
        assert tracemalloc.get_traced_memory()[1] < 5 * image.nbytes
    finally:
        tracemalloc.stop()
    assert file._source.index.findings.frames["wsi"].shape == image.shape
    assert len(np.unique(file._source.index.wsi)) == 20
