"""The works that are timed: who does each, on what, and how their answers are compared."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.answers import check, check_batches, check_catalogues, check_matrices, check_patches
from benchmarks.content import cell_names
from benchmarks.files import FileSpec
from benchmarks.floors import Floor, floor_of
from benchmarks.ours import Engine, Ours, check_index, check_store
from benchmarks.peers import PLAIN, PYFIVE, Work, peers
from benchmarks.timing import Contender

INDEX: Final = "index"
INDEX_ONE_THREAD: Final = "index, 1 thread"
EXPRESSION: Final = "expression → CSR"
PATCHES: Final = "cell patches → stack"
BATCH: Final = "random batch"
REOPEN: Final = "reopen from the index"
SCALING: Final = "index, by number of cells"
SCALING_ONE_THREAD: Final = "index, by number of cells, 1 thread"
CONVERT: Final = "convert → AnnData Zarr"
OURS: Final = "cellnet_sd"
FLOOR: Final = "floor"

_EXPRESSION: Final = "expression"
_PATCH: Final = "images/cell_patch"


class Limits(NamedTuple):
    """How much is run: cells of a batch, batches, and cells that slow peers are run on."""

    batch: int
    batches: int
    peer_cells: int
    pyfive_cells: int

    def cells_of(self, peer: str) -> int:
        """Return the most cells that a peer is run on."""
        return self.pyfive_cells if peer == PYFIVE else self.peer_cells


@dataclass(frozen=True, slots=True)
class Job:
    """One work on one file: all that a row of the table is made from.

    Parameters
    ----------
    work, spec, path
        What is done, and to which file.
    ours
        cellnet_sd, as it is asked.
    contender
        cellnet_sd at work.
    peers
        Its peers at work.
    compare
        Raises `DisagreementError` unless our answer and a peer's are the same.
    compare_peers
        Likewise for two peers' answers: the first is the plain loop's.
    floor
        Makes the floor; `None` where there is none.
    """

    work: str
    spec: FileSpec
    path: Path
    ours: Ours
    contender: Contender
    peers: tuple[Contender, ...] = ()
    compare: Callable[[Any, Any], None] | None = None
    compare_peers: Callable[[Any, Any], None] | None = None
    floor: Callable[[], Floor] | None = None

    @property
    def label(self) -> str:
        """The work and the file, for progress."""
        return f"{self.work}: {self.spec.cells:,} cells, {self.spec.form}"


def jobs_of_file(spec: FileSpec, path: Path, limits: Limits, engine: Engine) -> Iterator[Job]:
    """Yield the works on one file; the first indexes it, the others open it by its index."""
    ours = Ours(engine)
    names = cell_names(spec.cells)
    yield index_job(INDEX, spec, path, limits, ours)
    yield index_job(INDEX_ONE_THREAD, spec, path, limits, Ours(engine, n_threads=1))
    yield reopen_job(spec, path, ours)
    file = ours.open(path)
    about = {"spec": spec, "path": path, "ours": ours}
    yield Job(
        work=EXPRESSION,
        contender=Contender(OURS, spec.cells, lambda: ours.expression(file)),
        peers=_on_names(lambda peer: peer.expression, path, names, limits),
        compare=check_matrices,
        compare_peers=check_matrices,
        floor=lambda: floor_of(path, [[f"{name}/{_EXPRESSION}"] for name in names]),
        **about,
    )
    yield Job(
        work=PATCHES,
        contender=Contender(OURS, spec.cells, lambda: ours.patches(file)),
        peers=_on_names(lambda peer: peer.patches, path, names, limits),
        compare=check_patches,
        compare_peers=check_patches,
        floor=lambda: floor_of(path, [[f"{name}/{_PATCH}"] for name in names]),
        **about,
    )
    batches = draw_batches(spec.cells, limits)
    drawn = [[names[row] for row in rows.tolist()] for rows in batches]
    yield Job(
        work=BATCH,
        contender=Contender(OURS, sum(map(len, batches)), lambda: ours.batches(file, batches)),
        peers=_on_batches(path, drawn, limits),
        compare=check_batches,
        compare_peers=check_batches,
        floor=lambda: floor_of(
            path, [[f"{name}/{_EXPRESSION}", f"{name}/{_PATCH}"] for batch in drawn for name in batch]
        ),
        **about,
    )
    yield Job(
        work=CONVERT,
        contender=Contender(OURS, spec.cells, lambda: ours.convert(path)),
        peers=_on_names(lambda peer: peer.convert, path, names, limits),
        compare=check_store,
        **about,
    )


def index_job(
    work: str, spec: FileSpec, path: Path, limits: Limits, ours: Ours, only: tuple[str, ...] | None = None
) -> Job:
    """Return the work of indexing a file; `only` these peers."""

    def compare(_: Path, other: Any) -> None:
        check_index(ours.open(path), other)

    return Job(
        work=work,
        spec=spec,
        path=path,
        ours=ours,
        contender=Contender(OURS, spec.cells, lambda: ours.index(path), before=lambda: ours.forget(path)),
        peers=_on_names(lambda peer: peer.index, path, cell_names(spec.cells), limits, only),
        compare=compare,
        compare_peers=check_catalogues,
    )


def scaling_jobs(spec: FileSpec, path: Path, limits: Limits, engine: Engine) -> Iterator[Job]:
    """Yield the works of indexing a file of small cells, on all cores and on one, beside the plain loop alone."""
    yield index_job(SCALING, spec, path, limits, Ours(engine), (PLAIN,))
    yield index_job(SCALING_ONE_THREAD, spec, path, limits, Ours(engine, n_threads=1), (PLAIN,))


def reopen_job(spec: FileSpec, path: Path, ours: Ours) -> Job:
    """Return the work of opening a file by its index. No peer has one."""
    return Job(REOPEN, spec, path, ours, Contender(OURS, spec.cells, lambda: _reopened(ours, path, spec.cells)))


def _reopened(ours: Ours, path: Path, cells: int) -> int:
    found = ours.reopen(path)
    check("the number of cells", agree=found == cells)
    return found


def draw_batches(n_cells: int, limits: Limits) -> list[NDArray[np.int64]]:
    """Return the rows of random batches, without repetition within a batch."""
    rng = np.random.default_rng(0)
    return [rng.choice(n_cells, min(limits.batch, n_cells), replace=False) for _ in range(limits.batches)]


def _installed(only: tuple[str, ...] | None) -> Mapping[str, Work]:
    return {name: peer for name, peer in peers().items() if only is None or name in only}


def _on_names(
    task: Callable[[Work], Callable[..., Any]],
    path: Path,
    names: list[str],
    limits: Limits,
    only: tuple[str, ...] | None = None,
) -> tuple[Contender, ...]:
    """Return the peers, each on as many of the first cells as it is to be run on."""
    return tuple(
        Contender(name, len(asked), partial(task(peer), path, asked), may_fail=name == PYFIVE)
        for name, peer in _installed(only).items()
        for asked in [names[: limits.cells_of(name)]]
    )


def _on_batches(path: Path, drawn: list[list[str]], limits: Limits) -> tuple[Contender, ...]:
    """Return the peers, each on as many of the first batches as it is to be run on, and one at least."""
    return tuple(
        Contender(name, sum(map(len, asked)), partial(peer.batches, path, asked), may_fail=name == PYFIVE)
        for name, peer in _installed(None).items()
        for asked in [drawn[: max(1, limits.cells_of(name) // max(1, len(drawn[0])))]]
    )
