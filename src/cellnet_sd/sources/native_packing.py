"""Packed rows of a matrix, put one after another by several threads."""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from threading import Condition
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_ROOM: Final = 2**28
"""Values that memory is taken for on a guess: the system gives it when it is written to."""


class _Segment:
    """Memory for packed rows, and how much of it is taken."""

    def __init__(self, size: int) -> None:
        self.indices, self.values = np.empty(size, np.int32), np.empty(size, np.float32)
        self.end = 0


class PackedRows:
    """The packed rows of blocks, one after another: each block is given memory in its turn, and fills it itself.

    Parameters
    ----------
    n_blocks
        How many blocks there are. Later ones wait for earlier ones: if one fails, the whole is to be abandoned.
    """

    def __init__(self, n_blocks: int) -> None:
        self._segments: list[_Segment] = []
        self._n_blocks, self._next = n_blocks, 0
        self._is_abandoned, self._turn = False, Condition()

    @contextmanager
    def or_none(self) -> Iterator[None]:
        """Abandon all blocks if one fails: those that wait for their turn would wait for ever."""
        is_whole = False
        try:
            yield
            is_whole = True
        finally:
            if not is_whole:
                with self._turn:
                    self._is_abandoned = True
                    self._turn.notify_all()

    def room(self, block: int, n: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return memory for `n` indices and values, once the blocks before have theirs.

        Raises
        ------
        CancelledError
            If another block has failed.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._is_abandoned or self._next == block)
            if self._is_abandoned:
                raise CancelledError
            found = self._taken(n)
            self._next += 1
            self._turn.notify_all()
            return found

    def _taken(self, n: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Take memory, for the blocks to come as well: as much as is guessed from this one."""
        if not self._segments or self._segments[-1].end + n > len(self._segments[-1].indices):
            taken = sum(segment.end for segment in self._segments)
            to_come = self._n_blocks - self._next - 1
            self._segments.append(_Segment(n + min(n * to_come * 5 // 4, max(_ROOM, taken))))
        last = self._segments[-1]
        own = slice(last.end, last.end + n)
        last.end = own.stop
        return last.indices[own], last.values[own]

    def in_order(self, order: Ints, counts: Ints) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
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
