"""Files behind URLs, on servers of this machine: what is read is what a local file gives, and no more is asked for."""

import multiprocessing
import os
import pickle
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import fsspec
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad
from anndata.tests.helpers import assert_equal
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from upath import UPath

import cellnet_sd as cn
from benchmarks.web_server import Server, serving
from big_file import big_file, pixels, profiles
from cellnet_sd import cli
from cellnet_sd.datasets import SyntheticTissue
from cellnet_sd.errors import (
    AccessDeniedError,
    CellNetError,
    LayoutError,
    MalformedCellError,
    MissingDependencyError,
    NoIndexError,
    RemoteError,
    SourceMovedError,
)
from cellnet_sd.identity import Identity
from cellnet_sd.indexfile import index_paths
from cellnet_sd.layout import Component
from cellnet_sd.sources import opening, remote
from cellnet_sd.sources.base import Unreadable
from cellnet_sd.sources.hdf5_fetch import fetch_cells
from cellnet_sd.sources.locations import Located
from cellnet_sd.sources.native_values import is_decoded
from cellnet_sd.sources.paths import beside, source_path
from cellnet_sd.sources.sparse_bytes import BLOCK, FolderBytes, MemoryBytes
from engine_truth import assert_same_raw
from spellings import cell_files, written
from truth_checks import quiet


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> SyntheticTissue:
    """Return a tissue of two slides, with its index."""
    path = tmp_path_factory.mktemp("served") / "tissue.h5"
    made = cn.datasets.synthetic(path, n_cells=240, n_genes=60, n_slides=2, mpp=1.0, progress=False)
    cn.index(path)
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep indexes of remote files in a folder of the test's own, and do not wait between attempts."""
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0, 0.0))
    with cn.settings.override(cache_dir=tmp_path / "cache"):
        yield tmp_path / "cache"


@pytest.fixture
def web(tissue: SyntheticTissue) -> Iterator[Server]:
    """Serve the tissue over HTTP."""
    with serving(tissue.path.parent) as server:
        yield server


def assert_same_tables(found: Any, expected: Any) -> None:
    """Every part of two tables, but for where they came from."""
    pd.testing.assert_frame_equal(found.obs.drop(columns="source_file"), expected.obs.drop(columns="source_file"))
    for part in ("X", "var", "obsm", "obsp"):
        assert_equal(getattr(found, part), getattr(expected, part), exact=True)
    assert set(found.uns) == set(expected.uns)


def assert_same_objects(found: Any, expected: Any) -> None:
    """Table, circles, and every pixel of every image at its finest scale."""
    assert_same_tables(found["table"], expected["table"])
    assert set(found.shapes) == set(expected.shapes)
    for name, circles in expected.shapes.items():
        pd.testing.assert_frame_equal(pd.DataFrame(found.shapes[name]), pd.DataFrame(circles))
    assert set(found.images) == set(expected.images)
    for name, image in expected.images.items():
        own, theirs = (each["scale0"]["image"] if hasattr(each, "groups") else each for each in (found[name], image))
        np.testing.assert_array_equal(own.values, theirs.values)


# --- what is read ----------------------------------------------------------------------------------------------------


def test_all_that_is_read_over_http_is_what_the_local_file_gives(tissue: SyntheticTissue, web: Server) -> None:
    url = web.url("tissue.h5")
    found = cn.read(url, ccc="pairs", patches=("cell", "tissue"))
    assert_same_objects(found, cn.read(tissue.path, ccc="pairs", patches=("cell", "tissue")))
    assert set(found["table"].obs["source_file"]) == {url}
    with h5py.File(tissue.path) as root:
        groups = [
            root[slide][name] for slide, name in zip(found["table"].obs.slide, found["table"].obs_names, strict=True)
        ]
        stored = [group["expression"][()] for group in groups]
        patches = [group["images/cell_patch"][()] for group in groups]
    np.testing.assert_array_equal(found["table"].X.toarray(), stored)
    np.testing.assert_array_equal(cn.patches(found, "cell").values, patches)


def test_every_verb_takes_a_url(tissue: SyntheticTissue, web: Server, tmp_path: Path) -> None:
    url = web.url("tissue.h5")
    with cn.open(url) as f:
        assert str(f.path) == url
        assert len(f) == 240
        assert f.captions.tolist() == cn.open(tissue.path).captions.tolist()
        np.testing.assert_array_equal(f.obsm["spatial"], cn.open(tissue.path).obsm["spatial"])
        assert (f.ccc != cn.open(tissue.path).ccc).nnz == 0
    text = str(cn.info(url))
    assert url in text
    assert f"Index        {url}.cnindex" in text
    assert cn.patches(url, "wsi").sizes["cell"] == 240
    there, here = (cn.convert(each, tmp_path / f"{at}.h5ad") for at, each in enumerate((url, tissue.path)))
    assert_same_tables(read_h5ad(there), read_h5ad(here))


def test_lazy_objects_are_opened_anew_from_their_pickles(tissue: SyntheticTissue, web: Server) -> None:
    adata = cn.read_anndata(web.url("tissue.h5"), backed=True, ccc=False)
    sent = pickle.dumps((adata.X, cn.patches(adata)))
    opening.reopen.cache_clear()
    web.asked.clear()
    matrix, patches = pickle.loads(sent)
    assert (matrix.compute(scheduler="synchronous") != cn.read_anndata(tissue.path).X).nnz == 0
    np.testing.assert_array_equal(patches[[5, 3]].values, cn.patches(tissue.path, "cell")[[5, 3]].values)
    assert web.parts_of("tissue.h5")


def _rows_in_fork(f: Any, queue: Any) -> None:
    queue.put(f.expression[:3].toarray())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_an_open_file_is_read_in_a_fork(tissue: SyntheticTissue, web: Server) -> None:
    f = cn.open(web.url("tissue.h5"))
    expected = f.expression[:3].toarray()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_rows_in_fork, args=(f, queue))
    process.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    process.join()


def test_a_moved_source_may_be_a_url(tissue: SyntheticTissue, web: Server, tmp_path: Path) -> None:
    adata = cn.read_anndata(tissue.path)
    there = cn.patches(adata, source=web.url("tissue.h5"))
    np.testing.assert_array_equal(there[:4].values, cn.patches(adata)[:4].values)
    with pytest.raises(SourceMovedError, match="is gone"):
        cn.patches(adata, source=web.url("elsewhere.h5"))
    with quiet():
        copy = cn.write(cn.read_anndata(web.url("tissue.h5"), ccc=False), tmp_path / "copy.h5")
    np.testing.assert_array_equal(cn.patches(copy)[:9].values, cn.patches(adata)[:9].values)


@pytest.mark.parametrize("stem", ["her2st", "lung"])
def test_real_files_are_read_over_http(request: pytest.FixtureRequest, stem: str) -> None:
    path: Path = request.getfixturevalue(stem)
    with quiet(), serving(path.parent) as server:
        cn.index(path)
        options: dict[str, Any] = {"cells": np.arange(0, 200, 2), "images": ("cell", "wsi")}
        assert_same_objects(cn.read(server.url(path.name), **options), cn.read(path, **options))


@settings(
    max_examples=12, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate), deadline=None
)
@given(file=cell_files(frozenset({"expression", "images", "ccc", "captions", "attributes"})))
def test_every_spelling_is_fetched_as_h5py_reads_it(file: Any) -> None:
    memory = fsspec.filesystem("memory")
    with written(file) as (path, _), quiet():
        cn.index(path)
        for each in (path, path.with_name(f"{path.name}.cnindex")):
            memory.pipe(f"/spelled/{each.name}", each.read_bytes())
        for engine in ("auto", "h5py"):
            source = opening.open_source(f"memory://spelled/{path.name}", engine=engine)
            rows = np.arange(len(source.index))[::-1]
            for component in Component:
                expected = fetch_cells(path, component, source.index.group_paths(rows))
                for own, theirs in zip(source.fetch(component, rows), expected, strict=True):
                    if isinstance(own, Unreadable) and not isinstance(theirs, Unreadable):
                        assert engine == "auto"
                        assert _has_what_only_libhdf5_reads(source.index.load_located(component))
                        assert "Download the file, or pass engine='h5py'" in str(own)
                    else:
                        assert_same_raw(own, theirs)


def _has_what_only_libhdf5_reads(located: Located | None) -> bool:
    assert located is not None
    return not all(is_decoded(layout) for layout in located.layouts)


# --- how much is asked for -------------------------------------------------------------------------------------------


@pytest.fixture
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the file of 10,500 cells."""
    with serving(big_file(tmp_path_factory).parent) as server:
        yield server


def test_opening_reads_ends_and_the_columns_that_are_needed(tmp_path: Path) -> None:
    captions = [os.urandom(1_000).hex() for _ in range(1_000)]
    with h5py.File(tmp_path / "told.h5", "w") as root:
        for row, caption in enumerate(captions):
            root[f"Cell_{row}/expression"] = np.array([row + 0.5])
            root[f"Cell_{row}/caption.txt"] = caption
    with quiet():
        size = cn.index(tmp_path / "told.h5").stat().st_size
    with serving(tmp_path) as server, cn.open(server.url("told.h5")) as f:
        assert len(f.obs) == 1_000
        assert f.expression[7].data.tolist() == [7.5]
        assert server.bytes_of("told.h5") < 2 * 2**16 + 2**16
        before = server.bytes_of("told.h5.cnindex")
        assert len(captions) * 1_000 < size
        assert before < 6 * 2**16
        assert f.captions.tolist() == captions
        assert before + len(captions) * 900 < server.bytes_of("told.h5.cnindex") < size + 6 * 2**16


def test_an_index_is_asked_for_once(big: Server) -> None:
    sent = []
    for _ in range(2):
        cn.read_anndata(big.url("big.h5"), cells=[3], ccc=False)
        sent.append(big.bytes_of("big.h5.cnindex"))
    ends = 2 * 2**16
    assert sent[0] > ends
    assert sent[1] == sent[0] + ends


def test_ten_cells_are_few_ranges_and_few_bytes(big: Server) -> None:
    rows = np.arange(10) * 1_000
    with cn.open(big.url("big.h5")) as f:
        f.expression[[0]]
        big.asked.clear()
        np.testing.assert_array_equal(f.expression[rows].toarray(), profiles(rows))
        asked = big.parts_of("big.h5")
        assert 0 < len(asked) <= 10
        assert big.bytes_of("big.h5") <= 10 * 2 * BLOCK + 10 * 2**16
        big.asked.clear()
        np.testing.assert_array_equal(f.patches("cell")[rows].values, pixels(rows))
        assert 0 < len(big.parts_of("big.h5")) <= 10


def test_values_that_are_referred_to_take_three_rounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stored = [rng.integers(0, 256, size, dtype=np.uint8) for size in rng.integers(3_000, 200_000, 60)]
    with h5py.File(tmp_path / "varying.h5", "w") as root:
        root["gene_names"] = ["A", "B"]
        for row, values in enumerate(stored):
            root[f"Cell_{row}/expression"] = np.array([0.5, row])
            encoded = root.create_dataset(f"Cell_{row}/images/cell_patch", (1,), h5py.vlen_dtype(np.uint8))
            encoded[0] = values
    with quiet(), serving(tmp_path) as server:
        with pytest.raises(CellNetError):  # they are no pictures, but bytes are what this is about
            cn.patches(tmp_path / "varying.h5", "cell")
        source = opening.open_source(server.url("varying.h5"))
        source.index.load_located(Component.CELL_PATCH)
        server.asked.clear()
        server.delay = 0.02
        rows = np.arange(0, 60, 3)
        for own, row in zip(source.fetch(Component.CELL_PATCH, rows), rows, strict=True):
            np.testing.assert_array_equal(own.value[0], stored[row])
        alone = [each for each in server.parts_of("varying.h5") if each.together == 1]
        assert len(alone) <= 3
        assert server.bytes_of("varying.h5") < 2 * sum(len(stored[row]) for row in rows)


def test_a_selection_asks_for_nothing_of_other_components(tissue: SyntheticTissue, web: Server) -> None:
    adata = cn.read_anndata(web.url("tissue.h5"), expression=False, ccc=False, captions=False)
    assert adata.n_obs == 240
    assert [each.size for each in web.parts_of("tissue.h5")] == [2**16, 2**16]


def test_ranges_are_asked_for_together(tissue: SyntheticTissue, web: Server) -> None:
    f = cn.open(web.url("tissue.h5"))
    patches = f.patches("cell")
    rows = np.arange(0, 240, 30)
    web.asked.clear()
    web.delay = 0.1
    patches[rows].values  # noqa: B018
    parts = web.parts_of("tissue.h5")
    assert len(parts) == len(rows)
    assert max(each.together for each in parts) == len(rows)


def test_runs_are_joined_over_small_gaps_and_cut_where_they_are_long(tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("cellnet_sd.sources.sparse_bytes.ranges_of", lambda path, ranges: asked.extend(ranges) or [])
    stored = MemoryBytes(tmp_path, 2**30 + 5)
    stored.bring(np.array([10, 20_000, 2**20, 2**30, 2**30 + 7, -4]), np.array([20, 10, 2**24 + 1, 99, 5, 9]))
    assert asked == [
        (0, 5 * BLOCK),
        *((2**20 + n * 2**22, 2**20 + (n + 1) * 2**22) for n in range(4)),
        (2**20 + 2**24, 2**20 + 2**24 + BLOCK),
        (2**30, 2**30 + 5),
    ]
    asked.clear()
    stored.bring(np.array([0, 2**20]), np.array([5 * BLOCK, 2**24]))
    assert asked == []


@pytest.mark.parametrize(
    ("sizes", "gap", "runs"),
    [
        ((1, 1), 4, [(0, 6)]),  # as long as a request takes
        ((1, 1), 5, [(0, 1), (6, 7)]),
        ((8, 8), 8, [(0, 24)]),  # as much as is needed
        ((8, 8), 9, [(0, 8), (17, 25)]),
        ((1, 15), 8, [(0, 24)]),
        ((40, 40, 40), 16, [(0, 152)]),
        ((40, 40), 17, [(0, 40), (57, 97)]),  # longer than any gap may be
        ((1, 15, 1, 15), 8, [(0, 56)]),
    ],
)
def test_gaps_are_fetched_where_that_costs_less_than_a_request_or_than_what_is_needed(
    tmp_path: Path, monkeypatch: Any, sizes: tuple[int, ...], gap: int, runs: list[tuple[int, int]]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("cellnet_sd.sources.sparse_bytes.ranges_of", lambda path, ranges: asked.extend(ranges) or [])
    starts = np.concatenate([[0], np.cumsum(np.array(sizes) + gap)[:-1]])
    MemoryBytes(tmp_path, 2**24).bring(starts * BLOCK, np.array(sizes) * BLOCK)
    assert asked == [(start * BLOCK, stop * BLOCK) for start, stop in runs]


def test_one_component_of_all_cells_is_fetched_without_the_others(tissue: SyntheticTissue, web: Server) -> None:
    with cn.open(web.url("tissue.h5")) as f:
        f.expression[[0]]
        for read, needed in ((lambda: f.expression[:], 240), (lambda: f.patches("cell")[:].values, 240 * 64 * 64 * 3)):
            web.asked.clear()
            read()
            assert web.bytes_of("tissue.h5") <= 2 * (needed + 240 * 2 * BLOCK) + 2 * 2**16
            assert web.bytes_of("tissue.h5") < (web.folder / "tissue.h5").stat().st_size / 2
            assert len(web.parts_of("tissue.h5")) <= 242


def test_bytes_of_terabytes_take_the_memory_of_what_is_brought(tmp_path: Path, monkeypatch: Any) -> None:
    import psutil

    given = lambda path, ranges: [(start, b"\7" * (stop - start)) for start, stop in ranges]  # noqa: E731
    monkeypatch.setattr("cellnet_sd.sources.sparse_bytes.ranges_of", given)
    before = psutil.Process().memory_info().rss
    stored = MemoryBytes(tmp_path, 2**40)
    stored.bring(np.arange(0, 2**40, 2**34), np.full(64, 100))
    assert psutil.Process().memory_info().rss - before < 2**24
    assert stored.buf[2**34 * 63] == 7
    assert stored.buf[2**34 * 63 + BLOCK] == 0


# --- kept blocks -----------------------------------------------------------------------------------------------------


def test_kept_blocks_are_not_asked_for_again(web: Server, tmp_path: Path) -> None:
    folder = tmp_path / "blocks"
    with cn.settings.override(block_cache=folder):
        first = cn.open(web.url("tissue.h5")).expression[:20].toarray()
        web.asked.clear()
        again = cn.open(web.url("tissue.h5")).expression[5:15].toarray()
    np.testing.assert_array_equal(again, first[5:15])
    assert [each.size for each in web.parts_of("tissue.h5")] == [2**16, 2**16]
    kept = next(folder.glob("*.bytes"))
    assert kept.stat().st_size == (web.folder / "tissue.h5").stat().st_size
    assert kept.stat().st_blocks * 512 < kept.stat().st_size


def test_kept_blocks_are_of_one_state_of_a_file(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    url = source_path("memory://states/a")
    for state in (b"1", b"2"):
        memory.pipe("/states/a", state * 3 * BLOCK)
        stored = FolderBytes(url, Identity.of(url), tmp_path)
        assert not stored.buf.any()
        stored.bring(np.array([BLOCK]), np.array([1]))
        assert bytes(stored.buf[BLOCK : 2 * BLOCK]) == state * BLOCK
        assert bytes(FolderBytes(url, Identity.of(url), tmp_path).buf[BLOCK : BLOCK + 1]) == state


def test_a_folder_that_cannot_be_written_is_named(web: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        cn.settings.override(cache_dir=tmp_path / "file"),
        pytest.raises(CellNetError, match=r"file cannot keep .*cache_dir"),
    ):
        cn.open(web.url("tissue.h5"))


# --- what can go wrong -----------------------------------------------------------------------------------------------


def test_a_file_without_an_index_is_refused_with_the_way_to_one(web: Server, tissue: SyntheticTissue) -> None:
    bare = web.folder / "bare.h5"
    bare.write_bytes(tissue.path.read_bytes())
    url = web.url("bare.h5")
    with pytest.raises(NoIndexError, match=r"cellnet-sd index FILE") as caught:
        cn.open(url)
    assert f"{url}.cnindex" in str(caught.value)
    assert web.bytes_of("bare.h5") == 2 * 2**16
    kept = Path(str(caught.value).rpartition(" as ")[2].removesuffix("."))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(web.folder.joinpath("tissue.h5.cnindex").read_bytes())
    assert len(cn.open(url)) == 240
    bare.unlink()


def test_an_index_of_another_file_is_none(web: Server, tmp_path: Path) -> None:
    other = cn.datasets.synthetic(web.folder / "other.h5", n_cells=60, n_genes=60, progress=False).path
    other.with_name("other.h5.cnindex").write_bytes((web.folder / "tissue.h5.cnindex").read_bytes())
    with pytest.raises(NoIndexError, match="of another state"):
        cn.open(web.url("other.h5"))


def test_a_file_that_changes_is_refused(web: Server, tissue: SyntheticTissue) -> None:
    copy = web.folder / "changing.h5"
    copy.write_bytes(tissue.path.read_bytes())
    copy.with_name("changing.h5.cnindex").write_bytes((web.folder / "tissue.h5.cnindex").read_bytes())
    f = cn.open(web.url("changing.h5"))
    f.expression[:2]
    copy.touch()
    with pytest.raises(SourceMovedError, match=r"changing\.h5 has changed"):
        f.expression[:2]
    copy.unlink()
    with pytest.raises(SourceMovedError, match=r"changing\.h5 is gone"):
        f.expression[:2]
    with pytest.raises(FileNotFoundError, match=r"changing\.h5"):
        cn.open(web.url("changing.h5"))


def test_a_server_without_ranges_is_refused_before_it_sends_the_file(web: Server) -> None:
    web.ranges = False
    with pytest.raises(RemoteError, match=r"tissue\.h5: its server serves whole files only"):
        cn.open(web.url("tissue.h5"))


def test_what_fails_now_and_then_is_asked_for_again(tissue: SyntheticTissue, web: Server) -> None:
    web.failing = 2
    f = cn.open(web.url("tissue.h5"))
    for fault in ("failing", "cutting"):
        setattr(web, fault, 3)
        np.testing.assert_array_equal(f.expression[:50].toarray(), cn.open(tissue.path).expression[:50].toarray())
        assert getattr(web, fault) == 0


def test_what_goes_on_failing_is_said(web: Server) -> None:
    f = cn.open(web.url("tissue.h5"))
    f.expression[:2]
    web.failing = 1_000
    with pytest.raises(RemoteError, match=r"tissue\.h5 cannot be read, .*503"):
        f.expression[2:5]
    web.failing, web.cutting = 0, 1_000
    with pytest.raises(RemoteError, match=r"tissue\.h5.*"):
        f.expression[2:5]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_failing_network_is_no_malformed_cell(web: Server, on_error: Any) -> None:
    url = web.url("tissue.h5")
    cn.open(url)
    web.failing = 1_000
    for engine in ("auto", "h5py"):
        with pytest.raises(RemoteError, match=r"tissue\.h5"):
            cn.read_anndata(url, on_error=on_error, engine=engine)


def test_a_folder_is_no_file(web: Server) -> None:
    fsspec.filesystem("memory").pipe("/folder/a.h5", b"")
    with pytest.raises(LayoutError, match="folder is a folder"):
        cn.open("memory://folder")
    with pytest.raises(NoIndexError):
        cn.open("memory://folder/a.h5")


def test_what_takes_a_process_of_its_own_is_left_to_local_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "odd.h5", "w") as root:
        root.create_dataset("Cell_1/expression", data=np.arange(4), chunks=(4,), scaleoffset=0)
        root["Cell_2/expression"] = np.arange(4)
    with quiet(), serving(tmp_path) as server:
        cn.index(tmp_path / "odd.h5")
        url = server.url("odd.h5")
        with pytest.raises(MalformedCellError, match=r"odd\.h5.*Cell_1.*Download the file"):
            cn.read_anndata(url)
        assert cn.read_anndata(url, on_error="skip").obs_names.tolist() == ["Cell_2"]
        assert cn.read_anndata(url, engine="h5py").n_obs == 2


def test_nobody_there_is_said(tissue: SyntheticTissue) -> None:
    with serving(tissue.path.parent) as server:
        url = server.url("tissue.h5")
    with pytest.raises(RemoteError, match=rf"{url} cannot be read, .*ClientConnector"):
        cn.open(url)


def test_a_refusal_is_said(web: Server) -> None:
    web.denied = {"tissue.h5"}
    with pytest.raises(AccessDeniedError, match=r"tissue\.h5: access is denied.*UPath"):
        cn.open(web.url("tissue.h5"))
    web.denied = {"tissue.h5.cnindex"}
    with pytest.raises(NoIndexError):
        cn.open(web.url("tissue.h5"))


@pytest.mark.parametrize("verb", [cn.index, cn.validate])
def test_what_takes_a_local_file_says_so(verb: Any, web: Server) -> None:
    with pytest.raises(RemoteError, match=r"tissue\.h5 is a URL: all of a file is read"):
        verb(web.url("tissue.h5"))
    assert not web.asked


def test_outputs_are_local(tissue: SyntheticTissue) -> None:
    with pytest.raises(RemoteError, match="writes to a local folder"):
        cn.convert(tissue.path, "s3://bucket/out.zarr")
    with pytest.raises(RemoteError, match="writes a local file"):
        cn.write(cn.read_anndata(tissue.path, ccc=False), "s3://bucket/out.h5")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingDependencyError, match=r"cellnet-sd\[remote\]"):
        cn.open("s3://bucket/cells.h5")


# --- names -----------------------------------------------------------------------------------------------------------


def test_urls_and_paths_are_told_apart(tmp_path: Path) -> None:
    assert source_path(f"file://{tmp_path}/a.h5") == tmp_path / "a.h5"
    assert source_path("~/a.h5") == Path.home() / "a.h5"
    assert str(source_path("https://h/x/a.h5")) == "https://h/x/a.h5"
    assert str(beside(source_path("https://h/a.h5?download=1"), ".cnindex")) == "https://h/a.h5.cnindex?download=1"
    assert str(beside(source_path("s3://b/a.h5"), ".cnindex")) == "s3://b/a.h5.cnindex"
    assert index_paths(source_path("https://h/a.h5?signature=x"))[1].name.partition("-")[0] == "a.h5"
    with pytest.raises(ValueError, match="of host holds a password") as caught:
        source_path("https://me:hidden@host/a.h5")
    assert "hidden" not in str(caught.value)


def test_a_file_in_an_archive_is_read_by_a_chained_url(tissue: SyntheticTissue, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "tissue.zip", "w") as archive:
        for path in (tissue.path, tissue.path.with_name("tissue.h5.cnindex")):
            archive.write(path, path.name)
    with serving(tmp_path) as server:
        f = cn.open(f"zip://tissue.h5::{server.url('tissue.zip')}")
        np.testing.assert_array_equal(f.expression[:3].toarray(), cn.open(tissue.path).expression[:3].toarray())
    with pytest.raises(ValueError, match=r"simplecache:: off.*block_cache"):
        cn.open("simplecache::memory://a/b.h5")


def test_gene_lists_beside_a_remote_file_name_its_genes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bare.h5", "w") as root:
        for row in range(3):
            root[f"Cell_{row}/expression"] = np.arange(4) + 0.5
    cn.index(tmp_path / "bare.h5")
    with serving(tmp_path) as server, quiet():
        url = server.url("bare.h5")
        assert cn.open(url).var_names.tolist() == ["gene_0", "gene_1", "gene_2", "gene_3"]
        (tmp_path / "bare.genes.txt").write_text("A\nB\nC\nD\n")
        assert cn.open(url).var_names.tolist() == ["A", "B", "C", "D"]
        (tmp_path / "mine.csv").write_text("gene\nE\nF\nG\nH\n")
        assert cn.open(url, gene_list=server.url("mine.csv")).var_names.tolist() == ["E", "F", "G", "H"]
        (tmp_path / "short.txt").write_text("A\n")
        with pytest.raises(LayoutError, match="4 genes but"):
            cn.read_anndata(url, gene_list=server.url("short.txt"))


def test_the_command_line_takes_urls(web: Server) -> None:
    done = CliRunner().invoke(cli.main, ["info", web.url("tissue.h5")])
    assert done.exit_code == 0
    assert "240 cells × 60 genes on 2 slides" in done.output
    done = CliRunner().invoke(cli.main, ["index", web.url("tissue.h5")])
    assert done.exit_code != 0
    assert "cellnet-sd index FILE" in done.output


# --- S3 --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(tissue: SyntheticTissue) -> Iterator[dict[str, Any]]:
    """Serve the tissue and its index from S3; gives the options of its file system."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "user", "secret": "never-shown", "endpoint_url": f"http://{host}:{port}"}
    urlopen(f"{options['endpoint_url']}/moto-api/reset", data=b"")  # what an earlier server of this process has held
    files = fsspec.filesystem("s3", **options)
    files.mkdir("atlas")
    for path in (tissue.path, tissue.path.with_name("tissue.h5.cnindex")):
        files.put(str(path), f"atlas/{path.name}")
    yield options
    server.stop()


@pytest.mark.thorough
def test_s3_gives_what_the_local_file_gives(tissue: SyntheticTissue, bucket: dict[str, Any]) -> None:
    url = UPath("s3://atlas/tissue.h5", **bucket)
    found = cn.read(url)
    assert_same_objects(found, cn.read(tissue.path))
    assert set(found["table"].obs["source_file"]) == {"s3://atlas/tissue.h5"}
    np.testing.assert_array_equal(cn.patches(found, source=url)[:9].values, cn.patches(tissue.path, "cell")[:9].values)


@pytest.mark.thorough
def test_credentials_are_nowhere_but_in_pickles(
    tissue: SyntheticTissue, bucket: dict[str, Any], tmp_path: Path
) -> None:
    url = UPath("s3://atlas/tissue.h5", **bucket)
    found = cn.read(url, backed=True)
    shown = "\n".join([repr(found), str(found["table"].uns), str(found.attrs), str(cn.info(url)), repr(cn.open(url))])
    assert "s3://atlas/tissue.h5" in shown
    assert "never-shown" not in shown
    for each in (cn.convert(url, tmp_path / "t.h5ad"), *cn.settings.cache_dir.glob("*")):
        assert b"never-shown" not in each.read_bytes()
    with pytest.raises(FileNotFoundError) as caught:
        cn.open(UPath("s3://atlas/none.h5", **bucket))
    assert "never-shown" not in str(caught.value)
    assert pickle.loads(pickle.dumps(found["table"].X)).compute(scheduler="synchronous").shape == (240, 60)


@pytest.mark.thorough
def test_s3_without_credentials_is_denied(
    bucket: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessDeniedError, match=r"s3://atlas/tissue\.h5: access is denied .*credentials"):
        cn.open(UPath("s3://atlas/tissue.h5", endpoint_url=bucket["endpoint_url"]))


@pytest.mark.thorough
def test_s3_by_fsspecs_own_configuration(bucket: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", bucket)
    assert len(cn.open("s3://atlas/tissue.h5")) == 240
    fsspec.filesystem("s3", **bucket).cp("atlas/tissue.h5", "atlas/bare.h5")
    with pytest.raises(NoIndexError):
        cn.open("s3://atlas/bare.h5")


@pytest.mark.thorough
def test_s3_objects_that_are_written_anew_are_refused(tissue: SyntheticTissue, bucket: dict[str, Any]) -> None:
    files = fsspec.filesystem("s3", **bucket)
    for suffix in ("", ".cnindex"):
        files.cp(f"atlas/tissue.h5{suffix}", f"atlas/new.h5{suffix}")
    f = cn.open(UPath("s3://atlas/new.h5", **bucket))
    data = bytearray(tissue.path.read_bytes())
    data[2**17] ^= 1
    files.pipe("atlas/new.h5", bytes(data))
    with pytest.raises(SourceMovedError, match=r"new\.h5 has changed"):
        f.expression[:2]
