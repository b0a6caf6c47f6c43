"""Cells that are elsewhere: in a converted store, behind a URL, and converted by more than one process."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

import cellnet_sd as cn
from benchmarks.memory import in_child
from benchmarks.tissue import made_tissue
from benchmarks.web_server import serving
from cellnet_sd.sources.opening import open_source

_TINY: Final = 200
_BATCH: Final = 256
_N_BATCHES: Final = 6
"""The first is not counted: imports, compilation, files that are opened."""
_ASKED: Final = 1_000
_MEMORY: Final = "500MB"
_WORKERS: Final = (1, 2)
_EXPRESSION, _PATCH = "expression", "images/cell_patch"


@dataclass(frozen=True, slots=True)
class Places:
    """What was measured on one synthetic tissue.

    Parameters
    ----------
    cells
        Of the tissue.
    batch_ms
        Milliseconds for expression and cell patches of 256 random cells, by where they are read from.
    requests, megabytes
        For expression and cell patches of 1,000 cells of a URL, by which cells.
    convert_s
        Seconds to convert the tissue by a cluster of so many processes of one thread.
    """

    cells: int
    batch_ms: dict[str, float]
    requests: dict[str, int]
    megabytes: dict[str, float]
    convert_s: dict[str, float]


def measured(cells: int, folder: Path) -> Places:
    """Return what another process measures on a tissue.

    Raises
    ------
    RuntimeError
        If that process fails.
    """
    paths = [str(made_tissue(n, folder)) for n in (_TINY, cells)]
    return Places(**in_child("--child-places", json.dumps(paths), "reads elsewhere"))


def run_child(text: str) -> str:
    """Measure in this process; return what was found, as JSON."""
    tiny, path = map(Path, json.loads(text))
    requests, megabytes = _remote(path)
    found = Places(len(cn.open(path)), _batches(path), requests, megabytes, _clusters(tiny, path))
    return json.dumps(asdict(found))


# --- minibatches -----------------------------------------------------------------------------------------------------


def _batches(path: Path) -> dict[str, float]:
    """Time random batches from the file, from its store, and by a loop; check that they are the same."""
    drawn, n_cells = np.random.default_rng(0), len(cn.open(path))
    batches = [drawn.choice(n_cells, min(_BATCH, n_cells), replace=False) for _ in range(_N_BATCHES)]
    timed = {
        "Cell-NET file, indexed": _timed(_of_file(path), batches),
        "converted store": _timed(_of_store(path), batches),
        "h5py loop": _timed(_of_loop(path), batches),
    }
    answers = [answer for _, answer in timed.values()]
    for other in answers[1:]:
        for own, theirs in zip(answers[0], other, strict=True):
            np.testing.assert_array_equal(own, theirs)
    return {place: took for place, (took, _) in timed.items()}


Read = Callable[[NDArray[np.int64]], tuple[NDArray[Any], NDArray[Any]]]
"""Gives the dense expression and the patches of some cells."""


def _timed(read: Read, batches: Sequence[NDArray[np.int64]]) -> tuple[float, tuple[NDArray[Any], NDArray[Any]]]:
    """Return the milliseconds of a batch, the best, and the last answer."""
    took = []
    for rows in batches:
        start = time.perf_counter()
        answer = read(rows)
        took.append(time.perf_counter() - start)
    return 1e3 * min(took[1:]), answer


def _of_file(path: Path) -> Read:
    file = cn.open(path)
    patches = file.patches("cell")
    return lambda rows: (file.expression[rows].toarray(), patches[rows].values)


def _of_store(path: Path) -> Read:
    """Read a store whose source is gone, so that patches come from its stacks."""
    moved, store = path.with_name(f"moved-{path.name}"), path.with_suffix(".places.zarr")
    moved.unlink(missing_ok=True)
    moved.hardlink_to(path)
    cn.convert(moved, store, memory=_MEMORY, overwrite=True)
    for left in moved.parent.glob(f"{moved.name}*"):
        left.unlink()
    sdata = cn.open_store(store)
    matrix, patches = sdata["table"].X, cn.patches(sdata, "cell")
    return lambda rows: (matrix[rows].compute().toarray(), patches[rows].values)


def _of_loop(path: Path) -> Read:
    index = open_source(path).index
    groups = index.group_paths(np.arange(len(index)))

    def read(rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        with h5py.File(path, "r") as root:
            cells = [root[groups[row]] for row in rows.tolist()]
            return np.stack([cell[_EXPRESSION][()] for cell in cells]), np.stack([cell[_PATCH][()] for cell in cells])

    return read


# --- behind a URL ----------------------------------------------------------------------------------------------------


def _remote(path: Path) -> tuple[dict[str, int], dict[str, float]]:
    """Count what is asked of a web server for a thousand cells, side by side and at random."""
    n_cells = len(cn.open(path))
    asked = min(_ASKED, n_cells)
    wanted = {
        "side by side": np.arange(asked),
        "at random": np.sort(np.random.default_rng(0).choice(n_cells, asked, replace=False)),
    }
    requests, megabytes = {}, {}
    with serving(path.parent) as server:
        read = _of_file(server.url(path.name))
        for which, rows in wanted.items():
            server.asked.clear()
            read(rows)
            requests[which] = len(server.parts_of(path.name))
            megabytes[which] = server.bytes_of(path.name) / 1e6
    return requests, megabytes


# --- more than one process -------------------------------------------------------------------------------------------


def _clusters(tiny: Path, path: Path) -> dict[str, float]:
    """Time the conversion by clusters, each after it has converted a tiny tissue."""
    from distributed import Client, LocalCluster

    took = {}
    for n_workers in _WORKERS:
        with (
            LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster,
            Client(cluster) as client,
        ):
            store = path.with_suffix(".cluster.zarr")
            cn.convert(tiny, tiny.with_suffix(".cluster.zarr"), client=client, overwrite=True)
            start = time.perf_counter()
            cn.convert(path, store, client=client, memory=_MEMORY, overwrite=True)
            took[str(n_workers)] = time.perf_counter() - start
    return took


# --- the report ------------------------------------------------------------------------------------------------------


def markdown(found: Places) -> str:
    """Return what was measured as Markdown tables."""
    return "\n".join(_lines(found))


def _lines(found: Places) -> Iterator[str]:
    yield f"A synthetic tissue of {found.cells:,} cells."
    yield "\n| A random batch of 256 cells from | |\n| :--- | ---: |"
    yield from (f"| {place} | {took:,.0f} ms |" for place, took in found.batch_ms.items())
    yield "\n| 1,000 cells of a URL | Requests | Fetched |\n| :--- | ---: | ---: |"
    yield from (f"| {which} | {n:,} | {found.megabytes[which]:,.1f} MB |" for which, n in found.requests.items())
    yield "\n| Converted by processes | | |\n| ---: | ---: | ---: |"
    alone = next(iter(found.convert_s.values()))
    yield from (f"| {n} | {took:,.1f} s | {alone / took:.2f}× |" for n, took in found.convert_s.items())
