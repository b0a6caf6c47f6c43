"""Files made to cost much more than they hold: many names of one large thing. They are refused, at no cost."""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

import cellnet_sd as cn
from cellnet_sd.errors import CorruptFileError
from hostile_files import write_sound
from hostile_mutants import MEMORY, SECONDS

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
