"""How many bytes stored values may decode to: what a file declares costs it nothing."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_INFLATION: Final = 1032
"""Bytes that a byte of deflate stands for at most (zlib technical details)."""
ALWAYS_ALLOWED: Final = 16 * 2**20
"""Bytes that a value may decode to whatever is stored: one that was never written is all fill value."""
MAX_PATH: Final = 1024
"""Bytes of the path of a group that holds cells: all that lies in it is called by it, again and again."""

_REFERENCE: Final = 16
"""Bytes of an element whose length varies."""
_BEYOND_ARRAYS: Final = 2**63
_SPARE_NAMES: Final = 20_000
_BYTES_PER_NAME: Final = 16
"""Half of the least that a member takes in the file, with the object it names: h5py lists some of them twice."""


def no_array(shape: tuple[int, ...] | None, width: int) -> str:
    """Say why there is no array of this shape, `width` bytes an element; empty if there is."""
    if shape is None:
        return "an empty (null) dataspace is stored"
    # NumPy counts the bytes without the dimensions of length zero
    if math.prod(filter(None, shape)) * max(width, _REFERENCE) >= _BEYOND_ARRAYS:
        return f"no array has the shape {shape}"
    return ""


def listed_in_all(file_size: int) -> int:
    """Return how many members of cells may be listed, an attribute as several: many cells can name one group."""
    return _SPARE_NAMES + file_size // _BYTES_PER_NAME


def allowed_in_all(file_size: int) -> int:
    """Return how many bytes all values that are not stored may decode to: a file can name any number of them."""
    return max(ALWAYS_ALLOWED, MAX_INFLATION * file_size)


def most_in_all(file_size: int) -> int:
    """Return how many bytes texts, and values that references name, may be all together, where they may be the same."""
    return max(ALWAYS_ALLOWED, file_size)


def beyond_the_file(sizes: NDArray[np.int64], file_size: int) -> NDArray[np.intp]:
    """Return which values that references name are more than the file can hold, all together.

    Many references can name one long value: they would be as many copies of it. HDF5 stores a value for each.

    Parameters
    ----------
    sizes
        Bytes of each value.
    file_size
        Bytes of the file.
    """
    return np.flatnonzero(np.cumsum(sizes) > most_in_all(file_size))


def too_large(
    declared: NDArray[Any],
    stored: NDArray[Any],
    file_size: int,
    *,
    own: NDArray[np.bool_] | None = None,
    copies: int = 1,
) -> NDArray[np.bool_]:
    """Return which values of a batch declare more bytes than can be stored.

    Parameters
    ----------
    declared, stored
        Bytes of each value, decoded and as stored.
    file_size
        Bytes of the file.
    own
        Which values are decoded on their own account, all for `None`: one that many cells share may be decoded once.
    copies
        How often what is decoded is in memory until it is what users get.
    """
    stored = np.minimum(stored, file_size)  # chunks can be the same bytes again and again
    is_unstored = declared > MAX_INFLATION * stored
    is_small = declared <= ALWAYS_ALLOWED
    few = declared[is_unstored & is_small].sum() <= allowed_in_all(file_size)
    refused = np.asarray(is_unstored & ~is_small if few else is_unstored)
    counted = ~refused if own is None else ~refused & own
    in_all = copies * np.cumsum(np.where(counted, declared, 0))
    return np.asarray(refused | (counted & (in_all > allowed_in_all(file_size))))
