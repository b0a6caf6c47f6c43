"""The least time that the work can take: inflating the stored bytes on all cores, or copying them.

The bytes are in memory beforehand, and nothing is looked up, decoded or kept. Inflation uses the faster of isal and
zlib-ng, as measured on the very bytes; copies go to memory that has been written before.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import cores

Inflate = Callable[[bytes, int], bytes]

_LIBRARIES: Final = (("isal", "isal_zlib"), ("zlib_ng", "zlib_ng"))
_SAMPLE: Final = 200
_MOST_BYTES: Final = 2**30
_CACHED: Final = 2**18


class Stored(NamedTuple):
    """The stored bytes of arrays: deflated chunks with their inflated size, or arrays as they are."""

    deflated: list[tuple[bytes, int]]
    arrays: list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Floor:
    """A floor to run: `words` says what it does, `cells` to how many."""

    words: str
    cells: int
    run: Callable[[], object]


def floor_of(path: Path, cells: Sequence[Sequence[str]]) -> Floor:
    """Return the floor of reading datasets.

    Parameters
    ----------
    path
        The file.
    cells
        Paths of each cell's datasets. What is more than 1 GiB is left out: `Floor.cells` tells.
    """
    stored, n_cells = _stored(path, cells)
    parts = [part for part in _parts(stored) if any(part)]
    pool = ThreadPoolExecutor(cores())
    if stored.deflated:
        words, inflate = _fastest(stored.deflated[:_SAMPLE])
        return Floor(f"inflate, {words}", n_cells, lambda: list(pool.map(lambda part: _inflate(inflate, part), parts)))
    blocks = [_blocks(part) for part in parts]
    return Floor("memcpy", n_cells, lambda: list(pool.map(_copy, blocks)))


def _stored(path: Path, cells: Sequence[Sequence[str]]) -> tuple[Stored, int]:
    stored, n_cells, n_bytes = Stored([], []), 0, 0
    with h5py.File(path) as file:
        for datasets in cells:
            for name in datasets:
                n_bytes += _add(stored, file[name])
            n_cells += 1
            if n_bytes > _MOST_BYTES:
                break
    return stored, n_cells


def _add(stored: Stored, dataset: h5py.Dataset) -> int:
    if dataset.chunks is None:
        stored.arrays.append(dataset[()])
        return dataset.nbytes
    _, chunk = dataset.id.read_direct_chunk((0,) * dataset.ndim)
    stored.deflated.append((chunk, dataset.nbytes))
    return len(chunk)


def _parts(stored: Stored) -> Iterator[Stored]:
    """Yield an equal part of the bytes for each core."""
    n = cores()
    for at in range(n):
        yield Stored(*(items[len(items) * at // n : len(items) * (at + 1) // n] for items in stored))


def _fastest(sample: Sequence[tuple[bytes, int]]) -> tuple[str, Inflate]:
    """Return the library that inflates `sample` fastest, and its function."""
    found = dict(_inflaters())
    times = {words: min(_timed(inflate, sample) for _ in range(3)) for words, inflate in found.items()}
    words = min(times, key=times.__getitem__)
    return words, found[words]


def _inflaters() -> Iterator[tuple[str, Inflate]]:
    yield "zlib", lambda chunk, size: zlib.decompress(chunk, bufsize=size)
    for package, module in _LIBRARIES:
        if find_spec(package) is not None:
            decompress = import_module(f"{package}.{module}").decompress
            yield package, lambda chunk, size, decompress=decompress: decompress(chunk, bufsize=size)


def _timed(inflate: Inflate, sample: Sequence[tuple[bytes, int]]) -> float:
    start = time.perf_counter()
    for chunk, size in sample:
        inflate(chunk, size)
    return time.perf_counter() - start


def _inflate(inflate: Inflate, part: Stored) -> None:
    for chunk, size in part.deflated:
        inflate(chunk, size)


class _Block(NamedTuple):
    """Arrays of one shape to copy, and where to, a few at a time: the target stays in the cache."""

    source: NDArray[Any]
    target: NDArray[Any]


def _blocks(part: Stored) -> list[_Block]:
    shapes = dict.fromkeys(array.shape for array in part.arrays)
    sources = [np.stack([array for array in part.arrays if array.shape == shape]) for shape in shapes]
    return [_Block(source, np.zeros_like(source[: max(1, _CACHED // source[0].nbytes)])) for source in sources]


def _copy(blocks: Sequence[_Block]) -> None:
    for source, target in blocks:
        for start in range(0, len(source), len(target)):
            taken = source[start : start + len(target)]
            np.copyto(target[: len(taken)], taken)
