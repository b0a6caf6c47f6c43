"""Lazy parts that this process has read are read in its forks too, as the workers of a `DataLoader` do."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import pytest

import cellnet_sd as cn
from truth_checks import quiet

LIMIT = 60


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> cn.datasets.SyntheticTissue:
    """Return a small tissue."""
    path = tmp_path_factory.mktemp("forks") / "tissue.h5"
    return cn.datasets.synthetic(path, n_cells=100, n_genes=30, mpp=1.0, progress=False)


def of_file(path: Path) -> Callable[[], np.ndarray]:
    """Return what reads the lazy `X` of a file."""
    adata = cn.read_anndata(path, backed=True)
    return lambda: adata.X[[5, 80, 3]].compute().toarray()


def of_store(path: Path) -> Callable[[], np.ndarray]:
    """Return what reads the lazy `X` of a store."""
    adata = cn.open_store(cn.convert(path, path.with_suffix(".h5ad"), overwrite=True))
    return lambda: adata.X[[5, 80, 3]].compute().toarray()


def of_slide(path: Path) -> Callable[[], np.ndarray]:
    """Return what cuts patches from a rebuilt slide."""
    store = cn.convert(path, path.with_suffix(".zarr"), images=("wsi", "tissue"), overwrite=True)
    patches = cn.patches(cn.open_store(store), from_slide=True)
    return lambda: patches[[5, 80, 3]].values


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("n_workers", [None, 2])
@pytest.mark.parametrize("opened", [of_file, of_store, of_slide])
def test_what_was_read_here_is_read_in_a_fork(
    tissue: cn.datasets.SyntheticTissue, opened: Callable[[Path], Callable[[], np.ndarray]], n_workers: int | None
) -> None:
    with quiet():
        read = opened(tissue.path)
    with dask.config.set(scheduler="threads", num_workers=n_workers):
        expected = read()
        fork = os.fork()
        if fork == 0:
            status = 1
            try:
                status = int(not np.array_equal(read(), expected))
            finally:
                os._exit(status)
        assert exit_code(fork) == 0


def exit_code(process: int) -> int:
    """Return how a process ended; one that does not is killed."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
