"""The memory of a long conversion: what a part no longer needs goes back to the system.

Left to themselves, the allocators of glibc and Arrow keep what hundreds of parts on several threads have freed: in the
end more than is in use. See mallopt(3), malloc_trim(3), and `MALLOC_TRIM_THRESHOLD_` in dask's documentation.
"""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 2**20
"""Bytes from which memory is the system's again as soon as it is freed."""
_LARGE_BY_DEFAULT: Final = 2**25
"""To which glibc raises that size where large arrays are freed."""


@cache
def _glibc() -> Any | None:
    """Return the C library, if it is one that keeps memory and can be told not to."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


@contextmanager
def frugal() -> Iterator[None]:
    """Have large arrays, and all of Arrow's, taken from the system and given back to it, for the length of a block."""
    import pyarrow as pa

    pool, library = pa.default_memory_pool(), _glibc()
    pa.set_memory_pool(pa.system_memory_pool())
    if library is not None:
        _set_thresholds(library, _LARGE)
    try:
        yield
    finally:
        pa.set_memory_pool(pool)
        if library is not None:
            _set_thresholds(library, _LARGE_BY_DEFAULT)


def _set_thresholds(library: Any, large: int) -> None:
    """Set from which size memory is taken from the system, and from which a heap shrinks: twice that, as in glibc.

    Who sets the one has to set the other: glibc stops adapting both, and would give back a heap's last 128 KiB and
    take them anew for every array.
    """
    library.mallopt(_M_MMAP_THRESHOLD, large)
    library.mallopt(_M_TRIM_THRESHOLD, 2 * large)


def let_go() -> None:
    """Return to the system what is no longer in use, objects that hold on to each other among it, as tables do."""
    gc.collect()
    give_back()


def give_back() -> None:
    """Return to the system what small objects have left."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)
