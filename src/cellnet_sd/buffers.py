"""Bytes as NumPy arrays, and Arrow's strings as the bytes that they are made of."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview | NDArray[np.uint8]


def read_only(data: Buffer) -> NDArray[np.uint8]:
    """Return bytes as compiled code was made to take them: it would be compiled once more for a writable array."""
    array = np.frombuffer(data, np.uint8)
    array.flags.writeable = False
    return array


def bytes_of(array: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of strings one after another, read-only, and where each begins and the last ends, (n + 1,).

    Parameters
    ----------
    array
        Arrow array of `large_string`. What is null in it may have bytes all the same.
    """
    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return read_only(b""), np.zeros(len(array) + 1, np.int64)
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return read_only(data)[bounds[0] : bounds[-1]], bounds - bounds[0]
