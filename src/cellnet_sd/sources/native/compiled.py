"""How this package's functions are compiled, and the types they take."""

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def compiled[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function when it is first called; it releases the GIL and is kept on disk for the next process.

    Compiled functions allocate nothing. Without reference counts (`_nrt`), passing arrays on costs no atomic
    operations, which took most of the time.
    """
    return numba.njit(nogil=True, cache=True, error_model="numpy", _nrt=False)(function)
