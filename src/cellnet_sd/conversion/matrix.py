"""`X` in parts: rows are decoded and staged, a file per part; then, their sizes known, packed into CSR arrays.

Decoding is most of the work, and parts of it are independent. Where a row's values go is known only when those before
it are counted, so staged parts are packed in a second step, whose jobs are independent again: each fills a range of the
arrays from the parts that it takes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.cellindex import Rows
from cellnet_sd.conversion.workspace import Job, Workspace
from cellnet_sd.matrix import read_profiles
from cellnet_sd.sources.base import Source

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Piece = tuple[slice, NDArray[np.int32], NDArray[np.float32]]
"""Where values go, their columns, and the values."""
DATA, INDICES, INDPTR = "data", "indices", "indptr"
_COUNTS: Final = b"counts"
_MOST_ROWS: Final = 4096
_VALUE_BYTES: Final = 8
"""Bytes of a value and its column."""


@dataclass(frozen=True)
class StagedMatrix:
    """The rows of a matrix, as files of parts.

    Parameters
    ----------
    space
        Where the parts are kept.
    source, rows, columns
        What is read: the cells, and the genes, `None` for all.
    part_rows
        Rows of a part.
    """

    space: Workspace
    source: Source
    rows: Rows
    columns: Ints | None
    part_rows: int

    @property
    def n_columns(self) -> int:
        """Width of the matrix."""
        return self.source.index.findings.n_genes if self.columns is None else len(self.columns)

    @property
    def starts(self) -> range:
        """The first row of each part."""
        return range(0, len(self.rows), self.part_rows)

    def jobs(self) -> list[Job]:
        """Return the jobs that stage the parts."""
        return [Job(self._name(start), lambda start=start: self._stage(start)) for start in self.starts]  # type: ignore[misc]

    def _name(self, start: int) -> str:
        return f"expression-{start:012d}"

    def _path(self, start: int) -> Path:
        return self.space.staged(f"{self._name(start)}.arrow")

    def _stage(self, start: int) -> None:
        matrix = read_profiles(self.source, self.rows[start : start + self.part_rows])
        save_part(self._path(start), matrix if self.columns is None else matrix[:, self.columns])

    def counts(self) -> Ints:
        """Return how many values each row has, once all parts are staged."""
        return np.concatenate([np.empty(0, np.int64), *(_counts_of(self._path(start)) for start in self.starts)])

    def pieces(self, begin: int, end: int, indptr: Ints) -> Iterator[Piece]:
        """Yield indices and values from `begin` to `end`, part by part, each with its place counted from `begin`."""
        first = np.array([*indptr[list(self.starts)], indptr[-1]]) if len(self.rows) else np.zeros(1, np.int64)
        for number in range(int(np.searchsorted(first, begin, side="right")) - 1, len(first) - 1):
            if first[number] >= end:
                return
            low, high = max(begin, int(first[number])), min(end, int(first[number + 1]))
            if low < high:
                indices, values = _load(self._path(self.starts[number]))
                own = slice(low - int(first[number]), high - int(first[number]))
                yield slice(low - begin, high - begin), indices[own], values[own]


def save_part(path: Path, matrix: "csr_matrix") -> None:
    """Stage some rows of a matrix: their indices and values, and how many each row has."""
    import pyarrow as pa
    from pyarrow import feather

    columns = {INDICES: pa.array(matrix.indices.astype(np.int32, copy=False)), DATA: pa.array(matrix.data)}
    counts = np.diff(matrix.indptr).astype("<i8").tobytes()
    partial = path.with_name(f".{path.name}.new")
    feather.write_feather(
        pa.table(columns).replace_schema_metadata({_COUNTS: counts}), partial, compression="lz4", chunksize=2**20
    )
    partial.replace(path)


def _counts_of(path: Path) -> Ints:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        return np.frombuffer(pa.ipc.open_file(file).schema.metadata[_COUNTS], "<i8")


def _load(path: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    from pyarrow import feather

    table = feather.read_table(path, memory_map=True)
    return table.column(INDICES).to_numpy(), table.column(DATA).to_numpy()


def rows_of_part(nnz_per_row: float, budget: int) -> int:
    """Return how many rows a part has, so that what is decoded of it, and its copies, keep within `budget` bytes."""
    copies = 4  # decoded, packed, as columns of a file, compressed
    return max(64, min(_MOST_ROWS, int(budget / (copies * _VALUE_BYTES * max(1.0, nnz_per_row)))))


def packing_jobs(
    matrix: StagedMatrix, indptr: Ints, step: int, fill: Callable[[int, NDArray[np.int32], NDArray[np.float32]], None]
) -> Sequence[Job]:
    """Return the jobs that pack a staged matrix: `fill(begin, indices, values)` is called for every `step` values."""

    def pack(begin: int) -> None:
        end = min(begin + step, int(indptr[-1]))
        indices, values = np.empty(end - begin, np.int32), np.empty(end - begin, np.float32)
        for at, own_indices, own_values in matrix.pieces(begin, end, indptr):
            indices[at], values[at] = own_indices, own_values
        fill(begin, indices, values)

    return [
        Job(f"packed-{begin:015d}", lambda begin=begin: pack(begin))  # type: ignore[misc]
        for begin in range(0, int(indptr[-1]), step)
    ]
