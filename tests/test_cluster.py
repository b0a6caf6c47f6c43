"""More than one process: a dask cluster gives what this process gives, workers that die on the way or not."""

import errno
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pytest
from distributed import Client, LocalCluster

import cellnet_sd as cn
import worker_faults
from big_file import N, big_file, profiles
from cellnet_sd.conversion import workspace
from cellnet_sd.errors import CellNetWarning, ClusterError, ConversionError, LayoutError
from cellnet_sd.indexfile import Identity
from cellnet_sd.sources import native_facts
from cellnet_sd.sources.partial import parts_of
from spellings import plain_file, write

pytestmark = pytest.mark.thorough

SMALL = 2**16
"""Memory that cuts a tissue of some hundred cells into a dozen parts."""


@contextmanager
def opened_cluster(**config: Any) -> Iterator[Client]:
    """Open a cluster of two processes of one thread each; workers that die are replaced.

    Its dashboard has a port of its own: that two clusters of two test processes want the same one is a warning.
    """
    with (
        dask.config.set({"distributed.worker.daemon": False, **config}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    """Return the client of a cluster."""
    with opened_cluster() as client:
        yield client


@pytest.fixture
def client(cluster: Client) -> Client:
    """Return the client of a cluster that is complete."""
    cluster.wait_for_workers(2, timeout=300)
    return cluster


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tissue of one slide of several blocks, with its index."""
    path = tmp_path_factory.mktemp("cluster") / "tissue.h5"
    cn.datasets.synthetic(path, n_cells=500, n_genes=60, n_slides=1, cell_area_um2=4000.0, progress=False)
    cn.index(path)
    return path


@pytest.fixture(scope="module")
def whole(tissue: Path) -> dict[str, bytes]:
    """Return the files of the store that this process makes of the tissue."""
    return contents(cn.convert(tissue, tissue.with_name("whole.zarr"), memory=SMALL))


def contents(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in store.rglob("*") if file.is_file()}


def test_a_conversion_by_a_cluster_is_that_of_this_process_although_a_worker_dies_amid_a_shard(
    client: Client, tissue: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    before = set(client.nthreads())
    client.run(worker_faults.die_in_a_shard, tmp_path / "died")
    out = cn.convert(tissue, tmp_path / "out.zarr", client=client, memory=SMALL)
    assert (tmp_path / "died").exists()
    assert set(client.nthreads()) != before
    assert contents(out) == whole


def test_an_index_by_a_cluster_is_that_of_this_process(
    client: Client, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "big.h5"
    path.hardlink_to(big_file(tmp_path_factory))
    expected = cn.index(path).read_bytes()
    path.with_name("big.h5.cnindex").unlink()
    monkeypatch.setattr(native_facts, "BATCH", 1_000)
    read_here: list[int] = []
    monkeypatch.setattr(native_facts, "read_part", lambda *args: read_here.append(1))
    assert cn.index(path, client=client.scheduler.address).read_bytes() == expected
    assert not read_here
    assert not list(tmp_path.glob("*.parts"))


def test_a_part_of_an_index_is_sent_by_path_or_as_it_is_where_it_cannot_be_kept(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = big_file(tmp_path_factory)
    from cellnet_sd.sources.hdf5_objects import check_unlocked
    from cellnet_sd.sources.native.scan import scan_structure

    check_unlocked(path)
    headers = scan_structure(path).cells.header[:500]
    with parts_of(path, Identity.of(path), is_kept=True) as kept:
        assert native_facts._part(path, 0, headers, kept, mapped=None) == (0, None)
        assert len(kept.load(0)) == 500
    start, part = native_facts._part(path, 7, headers, None, mapped=None)
    assert (start, len(part)) == (7, 500)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again(client: Client, tissue: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    client.run(worker_faults.fail_once_to_stage, tmp_path / "failed", OSError(errno.EIO, "Input/output error"))
    out = cn.convert(tissue, tmp_path / "out.zarr", client=client, memory=SMALL)
    assert (tmp_path / "failed").exists()
    assert contents(out) == whole


def test_the_errors_of_workers_are_those_of_this_process(client: Client, tissue: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    client.run(worker_faults.stage_with, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(ConversionError, match=r"the disk is full.*finished parts are kept"):
        cn.convert(tissue, out, client=client, memory=SMALL)
    assert (tmp_path / ".out.zarr.converting").exists()
    client.run(worker_faults.stage_with, LayoutError("cell 'Cell_7' holds the other kind"))
    with pytest.raises(LayoutError, match="Cell_7"):
        cn.convert(tissue, out, client=client, memory=SMALL)
    client.run(worker_faults.stage_with, None)
    assert not list(tmp_path.iterdir()), "it is the file's fault: nothing is kept"


def test_a_piece_that_kills_every_worker_is_given_up_with_advice() -> None:
    from cellnet_sd.workers import Cluster

    with (
        opened_cluster(**{"distributed.scheduler.allowed-failures": 1}) as client,
        pytest.raises(ClusterError, match="memory runs out"),
    ):
        list(Cluster(client).run([_die]))


def _die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("address", ["nonsense", "tls://scheduler"])
def test_what_is_no_address_is_refused_at_once(tissue: Path, address: str) -> None:
    with pytest.raises(ValueError, match=f"client='{address}' is no address"):
        cn.index(tissue, client=address)


def test_an_asynchronous_client_is_refused(tissue: Path, tmp_path: Path) -> None:
    class Asynchronous:
        asynchronous = True

    with pytest.raises(ValueError, match="asynchronous"):
        cn.convert(tissue, tmp_path / "out.zarr", client=Asynchronous())


# --- backed ----------------------------------------------------------------------------------------------------------


def test_a_lazy_table_and_slide_are_computed_by_a_cluster_although_a_worker_dies(
    client: Client, tissue: Path, tmp_path: Path
) -> None:
    sdata, expected = cn.read(tissue, backed=True, n_threads=1), cn.read(tissue)
    dying = client.submit(worker_faults.die_soon, tmp_path / "died", pure=False)
    X, pixels = client.gather(client.compute([sdata["table"].X, sdata.images["tissue_tissue"]["scale0"]["image"].data]))
    dying.result()
    assert (tmp_path / "died").exists()
    assert (X != expected["table"].X).nnz == 0
    np.testing.assert_array_equal(pixels, expected.images["tissue_tissue"]["scale0"]["image"].values)


def test_what_a_worker_warns_of_reaches_the_client(client: Client, tmp_path: Path) -> None:
    truth, spelling = plain_file()
    write(tmp_path / "fine.h5", truth, spelling)
    with h5py.File(tmp_path / "fine.h5", "r+") as root:
        del root["Cell_2/expression"]
        root["Cell_2/expression"] = np.array([0.1, 1 / 3, 2.5])  # float64 that float32 cannot hold
    adata = cn.read_anndata(tmp_path / "fine.h5", backed=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.compute(adata.X).result()
        deadline = time.monotonic() + 10
        while not caught and time.monotonic() < deadline:
            time.sleep(0.05)
    said = [str(each.message) for each in caught if each.category is CellNetWarning]
    assert any("2 expression values were rounded" in words for words in said)


def test_several_files_are_converted_by_a_cluster(
    client: Client, tissue: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    paths = [tissue, tmp_path_factory.mktemp("other") / "other.h5"]
    cn.datasets.synthetic(paths[1], n_cells=200, n_genes=40, n_slides=1, cell_area_um2=4000.0, progress=False, seed=1)
    here = cn.convert(paths, tmp_path / "here.zarr", kind="anndata", memory=SMALL)
    there = cn.convert(paths, tmp_path / "there.zarr", kind="anndata", memory=SMALL, client=client)
    assert contents(there) == contents(here)


@pytest.mark.parametrize("rows", [None, np.arange(0, N, 2)])
def test_a_task_carries_a_path_and_its_rows(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    path = big_file(tmp_path_factory)
    adata = cn.read_anndata(path, cells=rows, backed=True, images=False, ccc=False)
    sizes = [len(pickle.dumps(task)) for task in dict(adata.X.__dask_graph__()).values()]
    n_blocks = -(-len(adata) // 1024)
    assert len(sizes) == n_blocks
    own_rows = 0 if rows is None else 1024 * 8
    assert max(sizes) < 1500 + own_rows
    np.testing.assert_array_equal(adata.X[1024:1030].compute().toarray(), profiles(adata.obs["source_row"][1024:1030]))


def test_genes_are_not_carried_by_every_task(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = big_file(tmp_path_factory)
    few, more = (
        cn.read_anndata(path, genes=genes, backed=True, images=False, ccc=False)
        for genes in (None, ["G3", "G1", "G2", "G5"])
    )
    sizes = [{key: len(pickle.dumps(task)) for key, task in dict(x.X.__dask_graph__()).items()} for x in (few, more)]
    assert len(sizes[1]) == len(sizes[0]) + 1
    assert max(size for key, size in sizes[1].items() if isinstance(key, tuple)) < max(sizes[0].values()) + 200


def test_the_jobs_of_a_conversion_are_small(
    tissue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    sizes: dict[str, int] = {}
    do: Callable[..., None] = workspace.Workspace._do

    def sized(self: Any, job: workspace.Job) -> None:
        if job.name != "table":  # which stays here
            sizes[job.name] = len(pickle.dumps(job))
        do(self, job)

    monkeypatch.setattr(workspace.Workspace, "_do", sized)
    with warnings.catch_warnings():
        cn.convert(tissue, tmp_path / "out.zarr", memory=SMALL)
    assert {name.partition("-")[0] for name in sizes} == {
        "captions",
        "expression",
        "packed",
        "tissue_cell_patches",
        "tissue_tissue",
    }
    assert max(sizes.values()) < 2_000 + 500 * 40, sizes
