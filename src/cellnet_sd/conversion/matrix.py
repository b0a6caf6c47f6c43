"""`X` in parts: rows are decoded and staged, a file per part; then, their sizes known, packed into CSR arrays.

Decoding is most of the work, and parts of it are independent. Where a row's values go is known only when those before
it are counted, so staged parts are packed in a second step, whose jobs are independent again: each fills a range of the
arrays from the parts that it takes.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.cellindex import Rows
from cellnet_sd.conversion.workspace import Job, Workspace
from cellnet_sd.matrix import GeneColumns, read_profiles
from cellnet_sd.sources.base import Source
from cellnet_sd.whole_files import appearing

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Fill = Callable[[str, int, NDArray[Any]], None]
"""Puts part of an array, `INDICES` or `DATA`, where it begins."""
DATA, INDICES, INDPTR = "data", "indices", "indptr"
DTYPES: Final[Mapping[str, Any]] = {INDICES: np.int32, DATA: np.float32}
_COUNTS: Final = b"counts"
_PART: Final = "expression-"
"""How the names of parts begin."""
_ROWS_OF: Final = re.compile(r"\d+")
_MOST_ROWS: Final = 4096
_VALUE_BYTES: Final = 8
"""Bytes of a value and its column."""


class Piece(NamedTuple):
    """Values of a staged part: the part's file, which of its values, and where they go."""

    path: Path
    own: slice
    to: slice


class Profiles(NamedTuple):
    """Cells of one file, and which of its genes become which columns."""

    source: Source
    rows: Rows
    columns: GeneColumns


@dataclass(frozen=True)
class StagedMatrix:
    """The rows of a matrix, as files of parts.

    Parameters
    ----------
    space
        Where the parts are kept.
    profiles
        What the rows are, file after file.
    part_rows
        Rows of a part, at most.
    """

    space: Workspace
    profiles: Sequence[Profiles]
    part_rows: int

    @cached_property
    def parts(self) -> list[tuple[int, Profiles]]:
        """The first row of each part, and what it is; a part is of one file.

        What an earlier run has staged stays, whatever the size of its parts; the rows between are cut anew.
        """
        done = [(int(start), int(stop)) for start, stop in map(_ROWS_OF.findall, self.space.done(_PART))]
        first, found = 0, list[tuple[int, Profiles]]()
        for source, rows, columns in self.profiles:
            for start, stop in cuts(first, first + len(rows), self.part_rows, done):
                found.append((start, Profiles(source, rows[start - first : stop - first], columns)))
            first += len(rows)
        return found

    @cached_property
    def paths(self) -> list[Path]:
        """The file of each part."""
        return [self.space.staged(f"{_name(start, part)}.arrow") for start, part in self.parts]

    def jobs(self) -> list[Job]:
        """Return the jobs that stage the parts."""
        return [
            Job(_name(start, part), partial(_stage, part, path))
            for (start, part), path in zip(self.parts, self.paths, strict=True)
        ]

    def counts(self) -> Ints:
        """Return how many values each row has, once all parts are staged."""
        return np.concatenate([np.empty(0, np.int64), *map(_counts_of, self.paths)])

    def pieces(self, begin: int, end: int, indptr: Ints) -> Iterator[Piece]:
        """Yield the pieces of the values from `begin` to `end`, each with its place counted from `begin`."""
        first = np.array([*(indptr[start] for start, _ in self.parts), indptr[-1]])
        for number in range(int(np.searchsorted(first, begin, side="right")) - 1, len(first) - 1):
            if first[number] >= end:
                return
            low, high = max(begin, int(first[number])), min(end, int(first[number + 1]))
            if low < high:
                own = slice(low - int(first[number]), high - int(first[number]))
                yield Piece(self.paths[number], own, slice(low - begin, high - begin))


def _name(start: int, part: Profiles) -> str:
    """Return the name of a part, which says all its rows: another run may cut others."""
    return f"{_PART}{start:012d}-{start + len(part.rows):012d}"


def cuts(begin: int, end: int, most: int, done: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield where rows are cut: as they were where that is done, and into parts of at most `most` rows elsewhere."""
    longest = dict(sorted(done))  # of two that start together, the longer one
    starts = sorted(longest)
    while begin < end:
        later = bisect_right(starts, begin)
        stop = longest.get(begin, min(begin + most, *starts[later : later + 1], end))
        yield begin, stop
        begin = stop


def _stage(part: Profiles, path: Path) -> None:
    save_part(path, part.columns.of(read_profiles(part.source, part.rows)))


def save_part(path: Path, matrix: "csr_matrix") -> None:
    """Stage some rows of a matrix: their indices and values, and how many each row has."""
    import pyarrow as pa
    from pyarrow import feather

    columns = {INDICES: pa.array(matrix.indices.astype(np.int32, copy=False)), DATA: pa.array(matrix.data)}
    counts = np.diff(matrix.indptr).astype("<i8").tobytes()
    table = pa.table(columns).replace_schema_metadata({_COUNTS: counts})
    with appearing(path) as unfinished:
        feather.write_feather(table, unfinished, compression="lz4", chunksize=2**20)


def _counts_of(path: Path) -> Ints:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        return np.frombuffer(pa.ipc.open_file(file).schema.metadata[_COUNTS], "<i8")


def _load(path: Path, name: str) -> NDArray[Any]:
    from pyarrow import feather

    loaded: NDArray[Any] = feather.read_table(path, columns=[name], memory_map=True).column(name).to_numpy()
    return loaded


def rows_of_part(nnz_per_row: float, budget: int) -> int:
    """Return how many rows a part has, so that what is decoded of it, and its copies, keep within `budget` bytes."""
    copies = 4  # decoded, packed, as columns of a file, compressed
    return max(64, min(_MOST_ROWS, int(budget / (copies * _VALUE_BYTES * max(1.0, nnz_per_row)))))


def packing_jobs(matrix: StagedMatrix, indptr: Ints, step: int, fill: Fill) -> Sequence[Job]:
    """Return the jobs that pack a staged matrix: `fill(name, begin, part)` is called for every `step` values."""
    return [
        Job(f"packed-{begin:015d}", partial(_pack, list(matrix.pieces(begin, begin + step, indptr)), begin, fill))
        for begin in range(0, int(indptr[-1]), step)
    ]


def _pack(pieces: Sequence[Piece], begin: int, fill: Fill) -> None:
    for name, dtype in DTYPES.items():  # one after the other: half the memory
        part = np.empty(pieces[-1].to.stop, dtype)
        for path, own, to in pieces:
            part[to] = _load(path, name)[own]
        fill(name, begin, part)
