"""Reading many cells at once from where their bytes are known to be: in file order, on several threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import batched, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.layout import Component
from cellnet_sd.sources.access import pool
from cellnet_sd.sources.base import Compressed, Packed, Raw, Unreadable
from cellnet_sd.sources.hdf5_objects import ObjectError
from cellnet_sd.sources.locations import Layout, Located, flags_of
from cellnet_sd.sources.native_packing import PackedRows
from cellnet_sd.sources.native_values import (
    DEFLATE,
    Bytes,
    NeedsLibhdf5Error,
    inflated,
    is_decoded,
    mapped,
    undone,
)

if TYPE_CHECKING:
    from cellnet_sd.buffers import Buffer
    from cellnet_sd.sources.native_ranges import PutRows, RemoteBytes

Ints = NDArray[np.int64]
_BLOCK: Final = 64
"""Cells that a thread takes at a time, if they are few."""
_LARGEST: Final = 256
"""Cells that it takes of very many: threads that begin something new wait for each other."""
_TURNS: Final = 4
"""Blocks for each thread at least, unless they are of few cells: no thread waits long for one that began last."""
_GAP: Final = 2**16
"""Bytes between two runs that are still fetched from the disk as one."""
_RUN: Final = 2**22
"""Bytes that are read at once, where one run is not more."""
_NUMBERS: Final = frozenset(np.dtype(code).str for code in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4"))
"""Dtypes of profiles that compiled code packs: little-endian on all machines that Numba knows."""


class Left(NamedTuple):
    """A value that only libhdf5 can read."""


LEFT: Final = Left()
Fetched = Raw | Unreadable | Left | None


@dataclass(frozen=True)
class NativeReader:
    """One component of a file, read without libhdf5.

    Parameters
    ----------
    path
        The file.
    component, located
        What is read, and where it is in every cell.
    state
        What following references begins with; see `Bytes`.
    n_threads
        How many cells are decoded at the same time.
    remote
        The bytes of a file that is not on this machine.
    """

    path: Path
    component: Component
    located: Located
    state: tuple[int, ...]
    n_threads: int
    remote: "RemoteBytes | None" = None

    def fetch(self, rows: Ints) -> list[Fetched]:
        """Return the stored values at `rows`, in the order asked; see `Source.fetch`."""
        self._bring(rows)
        located = self.located.take(rows)
        stored = Bytes(self._mapped(), np.array(self.state, np.int64))
        one = partial(self._one, stored, located)
        order = np.argsort(located.address, kind="stable")
        values: list[Fetched] = [None] * len(rows)
        for block, found in zip(_blocks(order), self._spread(_each(one), _blocks(order)), strict=True):
            for at, value in zip(block.tolist(), found, strict=True):
                values[at] = value
        return values

    def _one(self, stored: Bytes, located: Located, row: int) -> Fetched:
        try:
            return stored.raw(located, row, with_attrs=self.component is Component.CCC)
        except NeedsLibhdf5Error:
            return LEFT
        except (ObjectError, ValueError, MemoryError) as error:
            return Unreadable(error)

    def _spread[B, T](self, work: Callable[[B], T], blocks: Sequence[B]) -> list[T]:
        """Return the result of each block, in order; on this thread alone if there is little to do.

        Threads take one block after the other by themselves: whoever waited for each would want the GIL as often.
        """
        if self.n_threads == 1 or len(blocks) == 1:
            return list(map(work, blocks))
        left = deque(enumerate(blocks))
        found: dict[int, T] = {}

        def run() -> None:
            for number, block in _taken_from(left):
                found[number] = work(block)

        threads = [pool(self.n_threads).submit(run) for _ in range(min(self.n_threads, len(blocks)))]
        try:
            wait(threads, return_when=FIRST_EXCEPTION)
        finally:
            left.clear()  # after an error, nothing more is begun
            wait(threads)
        while threads:  # an error's traceback would keep them, and they it
            threads.pop().result()
        return [found[number] for number in range(len(blocks))]

    def _large_blocks(self, order: NDArray[Any]) -> list[Ints]:
        return _blocks(order, min(_LARGEST, max(_BLOCK, len(order) // (_TURNS * self.n_threads))))

    def fetch_compressed(self, rows: Ints) -> Compressed:
        """Return the sparse matrices at `rows` that are stored plainly; see `Source.fetch_compressed`."""
        from cellnet_sd.sources.native_sparse import compressed, plain_cells

        located = self.located.take(rows)
        if self.remote is not None:
            self.remote.bring(located.take(plain_cells(located)))
        return compressed(Bytes(self._mapped(), np.array(self.state, np.int64)), located)

    def _mapped(self) -> NDArray[np.uint8]:
        return mapped(self.path) if self.remote is None else self.remote.buf

    def _bring(self, rows: Ints) -> None:
        """See that the bytes of some cells are at hand: those of a remote file are fetched all at once."""
        if self.remote is not None:
            self.remote.bring(self.located.take(rows))

    # --- plain arrays ------------------------------------------------------------------------------------------------

    def fetch_arrays(self, rows: Ints, shape: tuple[int, ...], out: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Fill `out[i]` for the rows that store a plain uint8 array of `shape`; return which those are."""
        fits = self._fitting(lambda layout: layout.shape == shape and layout.dtype == "|u1" and layout.kind == "number")
        codes = flags_of(self.located.code[rows], fits)
        self._bring(rows[codes])
        done = np.zeros(len(rows), bool)
        flat = out.reshape(len(rows), -1, copy=False)
        whole = flags_of(self.located.code[rows], (not layout.filters for layout in self.located.layouts))
        self._copy(rows, np.flatnonzero(codes & whole), flat, done)
        order = np.flatnonzero(codes & ~whole)
        order = order[np.argsort(self.located.address[rows[order]], kind="stable")]

        def work(block: Ints) -> None:
            for at, array in self._inflated(rows, block):
                flat[at] = array
                done[at] = True

        self._spread(work, self._large_blocks(order))
        return done

    def _copy(self, rows: Ints, at: NDArray[np.intp], flat: NDArray[np.uint8], done: NDArray[np.bool_]) -> None:
        """Copy the arrays that are stored as they are, straight to where they go."""
        address = self.located.address[rows[at]]
        order = np.argsort(address, kind="stable")
        with rows_of(self.path, flat) if self.remote is None else self.remote.rows_of(flat) as put:

            def work(block: Ints) -> None:
                chosen = order[block]
                n = put(address[chosen], at[chosen])
                done[at[chosen[:n]]] = True

            self._spread(work, _blocks(np.arange(len(at)), 16 * _BLOCK))

    def fetch_packed(self, rows: Ints, length: int) -> Packed:
        """Return the rows that store a plain vector of `length` numbers, packed without their zeros."""
        fits = self._fitting(lambda layout: _is_vector(layout, length) and layout.dtype in _NUMBERS)
        order = np.flatnonzero(flags_of(self.located.code[rows], fits))
        order = order[np.argsort(self.located.address[rows[order]], kind="stable")]
        self._bring(rows[order])
        counts = np.full(len(rows), -1, np.int64)
        unwritten = [_is_vector(layout, length) and _is_all_zero(layout) for layout in self.located.layouts]
        counts[flags_of(self.located.code[rows], unwritten)] = 0
        blocks = self._large_blocks(order)
        packed = PackedRows(len(blocks))
        work = partial(self._pack, rows, length, counts, local(), packed)
        n_inexact = sum(self._spread(work, list(enumerate(blocks))))
        return Packed(counts, *packed.in_order(order, counts), n_inexact)

    def _pack(
        self, rows: Ints, length: int, counts: Ints, scratch: local, packed: PackedRows, numbered: tuple[int, Ints]
    ) -> int:
        """Pack the rows at positions `numbered[1]`, block `numbered[0]`; return how many values were rounded."""
        from cellnet_sd.sources.native.instructions import LANES
        from cellnet_sd.sources.native.kernels import PACKED, pack

        number, block = numbered
        room = PACKED * length + LANES  # which `pack` needs beyond what it keeps
        if not hasattr(scratch, "indices"):  # a thread's own, used block after block: memory that is new costs more
            n = len(block) * length // 8 + room
            scratch.indices, scratch.values = np.empty(n, np.int32), np.empty(n, np.float32)
        done: list[int] = []
        end, found = 0, np.empty((len(block) + PACKED, 2), np.int64)
        for at, arrays in _some(self._inflated(rows, block), PACKED):
            if scratch.indices.size - end < room:
                size = 2 * scratch.indices.size
                scratch.indices = _larger(scratch.indices, end, size)
                scratch.values = _larger(scratch.values, end, size)
            end = pack(arrays, end, scratch.indices, scratch.values, found, len(done))
            done += at
        counts[done] = found[: len(done), 0]
        packed.put(number, scratch.indices[:end], scratch.values[:end])
        return int(found[: len(done), 1].sum())

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _fitting(self, fits: Callable[[Layout], bool]) -> NDArray[np.bool_]:
        """Return per layout whether its bytes are one run that is decoded here, and it fits."""
        kinds = ("single", "contiguous", "compact")
        return np.array(
            [
                layout.storage in kinds
                and not layout.reason
                and is_decoded(layout)
                and _is_one_run(layout)
                and fits(layout)
                for layout in self.located.layouts
            ],
            bool,
        )

    def _inflated(self, rows: Ints, block: Ints) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the decoded arrays of the rows at positions `block`; those that cannot be decoded are left out."""
        decoders = [_decoder(layout) for layout in self.located.layouts]
        codes = self.located.code[rows[block]].tolist()
        address, size = self.located.address[rows[block]], self.located.size[rows[block]]
        runs = runs_of(self.path, address, size) if self.remote is None else self.remote.runs(address, size)
        for at, code, data in zip(block.tolist(), codes, runs, strict=True):
            decode, nbytes, dtype = decoders[code]
            try:
                whole = decode(data)
            except ObjectError:
                continue  # it is fetched again on its own, which says what is wrong
            if len(whole) == nbytes:
                yield at, np.frombuffer(whole, dtype)


def _decoder(layout: Layout) -> "tuple[Callable[[memoryview], Buffer], int, np.dtype[Any]]":
    """Return what undoes the filters of a layout's one run of bytes, how many bytes it makes, and of what."""
    dtype = np.dtype(layout.dtype or "u1")
    nbytes = layout.n_elements * dtype.itemsize
    if not layout.filters:
        return itemgetter(slice(nbytes)), nbytes, dtype
    if [step.number for step in layout.filters] == [DEFLATE] and not layout.mask:
        return partial(inflated, size=nbytes), nbytes, dtype
    return partial(undone, filters=layout.filters, mask=layout.mask, nbytes=nbytes), nbytes, dtype


def _some(arrays: Iterator[tuple[int, NDArray[Any]]], n: int) -> Iterator[tuple[list[int], tuple[NDArray[Any], ...]]]:
    """Yield positions and arrays, of one dtype and `n` at a time: where fewer are left, there are empty ones."""
    for dtype, alike in groupby(arrays, key=lambda one: one[1].dtype):
        for some in batched(alike, n):
            own = [_for_compiled(array) for _, array in some]
            own += [_for_compiled(np.empty(0, dtype)) for _ in range(n - len(own))]
            yield [at for at, _ in some], tuple(own)


def _for_compiled(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as compiled code was made to take it: stored as it is, it may lie at any address."""
    whole = array if array.flags.aligned else array.copy()
    whole.setflags(write=False)
    return whole


def runs_of(path: Path, address: Ints, size: Ints) -> Iterator[memoryview]:
    """Yield runs of bytes of a file, given in file order; less of one that the file does not hold all of.

    Raises
    ------
    OSError
        If the system cannot read one.
    """
    size = np.maximum(size, 0)
    with path.open("rb") as file:
        for some in _at_once(size.tolist()):
            yield from _read(file.fileno(), address[some], size[some])


def _read(descriptor: int, address: Ints, size: Ints) -> list[memoryview]:
    from cellnet_sd.sources.native.kernels import read_runs

    offsets = np.concatenate([[0], np.cumsum(size)])
    out = np.empty(offsets[-1], np.uint8)
    view = memoryview(out)
    runs = [view[start:stop] for start, stop in pairwise(offsets.tolist())]
    _announce(descriptor, address, address + size)
    done = 0
    while (done := done + read_runs(descriptor, address[done:], offsets[done:], out)) < len(runs):
        runs[done] = memoryview(os.pread(descriptor, len(runs[done]), int(address[done])))  # or an error that says why
        done += 1
    return runs


def _at_once(sizes: list[int]) -> Iterator[slice]:
    """Yield which runs of so many bytes are few enough to be read at once."""
    start = total = 0
    for at, size in enumerate(sizes):
        total += size
        if at > start and total > _RUN:
            yield slice(start, at)
            start, total = at, size
    yield slice(start, len(sizes))


def _announce(descriptor: int, begins: Ints, ends: Ints) -> None:
    """Have the system fetch runs of bytes from the disk, those that are near each other in one go."""
    if not hasattr(os, "posix_fadvise"):  # on macOS and Windows
        return
    first = np.flatnonzero(np.concatenate([[True], begins[1:] > ends[:-1] + _GAP]))
    last = np.append(first[1:], len(begins)) - 1
    several = first < last
    for start, stop in zip(begins[first[several]].tolist(), ends[last[several]].tolist(), strict=True):
        os.posix_fadvise(descriptor, start, max(0, stop - start), os.POSIX_FADV_WILLNEED)


@contextmanager
def rows_of(path: Path, flat: NDArray[np.uint8]) -> "Iterator[PutRows]":
    """Give what reads rows of `flat` from a file, which is opened once: another may take its name meanwhile.

    It raises `OSError` if the system cannot read a row that is there.
    """
    from cellnet_sd.sources.native.kernels import read_rows

    out, size = flat.reshape(-1, copy=False), flat.shape[1]
    with path.open("rb") as file:
        descriptor = file.fileno()

        def put(address: Ints, at: NDArray[np.intp]) -> int:
            n = read_rows(descriptor, address, size, at, out)
            if n < len(address) and address[n] >= 0:
                os.pread(descriptor, size, int(address[n]))  # this says so if more is wrong than its end
            return n

        yield put


def _blocks(order: NDArray[Any], size: int = _BLOCK) -> list[Ints]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _taken_from[T](left: deque[T]) -> Iterator[T]:
    """Yield what is left, one after the other, while other threads take of it as well."""
    while True:
        try:
            one = left.popleft()
        except IndexError:
            return
        yield one


def _each[T](one: Callable[[int], T]) -> Callable[[Ints], list[T]]:
    return lambda block: [one(at) for at in block.tolist()]


def _is_one_run(layout: Layout) -> bool:
    return layout.storage != "single" or layout.chunk == layout.shape


def _is_vector(layout: Layout, length: int) -> bool:
    shape = layout.shape or ()
    return layout.kind == "number" and layout.n_elements == length and len(shape) in (1, 2) and max(shape) == length


def _is_all_zero(layout: Layout) -> bool:
    return layout.storage == "none" and not layout.reason and not any(layout.fill)


def _larger[T: np.generic](array: NDArray[T], used: int, size: int) -> NDArray[T]:
    larger = np.empty(size, array.dtype)
    larger[:used] = array[:used]
    return larger
