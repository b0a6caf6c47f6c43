"""Packed rows of a matrix, put one after another by several threads."""

from collections.abc import Iterator
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Packs = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Indices and values of packed rows."""
_ROOM: Final = 2**28
"""Values that memory is taken for on a guess: the system gives it when it is written to."""


class _Segment:
    """Memory for packed rows, and how much of it is taken."""

    def __init__(self, size: int) -> None:
        self.indices, self.values = np.empty(size, np.int32), np.empty(size, np.float32)
        self.end = 0


class PackedRows:
    """The packed rows of blocks, in the order of the blocks, whichever is done first.

    Parameters
    ----------
    n_blocks
        How many blocks there are.
    """

    def __init__(self, n_blocks: int) -> None:
        self._segments: list[_Segment] = []
        self._n_blocks, self._next = n_blocks, 0
        self._done: dict[int, Packs] = {}
        self._lock = Lock()

    def put(self, block: int, indices: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        """Put the rows of a block in their place, once: where blocks before it are not done, a copy waits for them.

        Whoever calls this may write to the arrays afterwards.
        """
        with self._lock:
            is_early = block != self._next
        rows = (indices.copy(), values.copy()) if is_early else (indices, values)
        with self._lock:
            self._done[block] = rows
            places = self._places()
        while places:  # copies are let go of as soon as they are in their place
            (own_indices, own_values), (done_indices, done_values) = places.pop(0)
            own_indices[...], own_values[...] = done_indices, done_values

    def _places(self) -> list[tuple[Packs, Packs]]:
        """Give memory to the block whose turn it is, if it is done, and to those after it that are."""
        found: list[tuple[Packs, Packs]] = []
        while (rows := self._done.pop(self._next, None)) is not None:
            found.append((self._taken(len(rows[0])), rows))
            self._next += 1
        return found

    def _taken(self, n: int) -> Packs:
        """Take memory, for the blocks to come as well: as much as is guessed from this one."""
        if not self._segments or self._segments[-1].end + n > len(self._segments[-1].indices):
            taken = sum(segment.end for segment in self._segments)
            to_come = self._n_blocks - self._next - 1
            self._segments.append(_Segment(n + min(n * to_come * 5 // 4, max(_ROOM, taken))))
        last = self._segments[-1]
        own = slice(last.end, last.end + n)
        last.end = own.stop
        return last.indices[own], last.values[own]

    def in_order(self, order: Ints, counts: Ints) -> Packs:
        """Return indices and values of the rows as they were asked for; `order` is that of the blocks."""
        found = self._whole()
        if not (order[:-1] > order[1:]).any():
            return found.indices, found.values
        sorted_ = _Segment(found.end)
        for target, source in _runs(order, counts, np.cumsum(np.maximum(counts, 0))):
            sorted_.indices[target], sorted_.values[target] = found.indices[source], found.values[source]
        return sorted_.indices, sorted_.values

    def _whole(self) -> _Segment:
        """Return all that was taken as one."""
        if len(self._segments) == 1:
            found = self._segments.pop()
            found.indices.resize(found.end, refcheck=False)  # whoever filled parts of it is done
            found.values.resize(found.end, refcheck=False)
            return found
        found = _Segment(sum(segment.end for segment in self._segments))
        while self._segments:
            segment = self._segments.pop(0)  # let go of as soon as it is copied
            own = slice(found.end, found.end + segment.end)
            found.indices[own], found.values[own] = segment.indices[: segment.end], segment.values[: segment.end]
            found.end = own.stop
        return found


def _runs(block: Ints, counts: Ints, ends: Ints) -> Iterator[tuple[slice, slice]]:
    """Yield where the packed rows at positions `block` go, and where they are, one after the other; `ends` is of all.

    All at once where they are asked for one after the other, as in a pass over the file.
    """
    done = block[counts[block] >= 0]
    if not len(done):
        return
    stops = ends[done]
    starts, own = stops - counts[done], np.cumsum(counts[done])
    if (np.diff(done) == 1).all():
        yield slice(starts[0], stops[-1]), slice(0, own[-1])
        return
    lengths = counts[done].tolist()
    for start, stop, end, n in zip(starts.tolist(), stops.tolist(), own.tolist(), lengths, strict=True):
        yield slice(start, stop), slice(end - n, end)
