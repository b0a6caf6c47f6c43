"""Memory of a conversion goes back to the system, and arrays are made no slower for it."""

import ctypes
import resource

import pytest

from cellnet_sd.conversion.frugal import frugal

N, SIZE = 300, 700_000
"""Bytes of what threads hand over in their turn: less than what is given back at once."""
TRIM_THRESHOLD, DEFAULT = -1, 2**17
"""`M_TRIM_THRESHOLD` of mallopt(3), and what it is until glibc has met larger arrays."""


def pages_taken() -> int:
    """Return how many pages arrays take that are made and let go of at the end of the heap."""
    filling = [bytearray(SIZE) for _ in range(N)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(N):
        bytearray(SIZE)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del filling
    return taken


@pytest.mark.parametrize("within", [True, False])
def test_small_arrays_are_not_taken_from_the_system_one_by_one(within: bool) -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # of another C library, nothing is set: it is as fast as it was
        library.mallopt(TRIM_THRESHOLD, DEFAULT)
    with frugal():
        taken = pages_taken()
    if not within:
        taken = pages_taken()
    assert taken < N, f"{taken} pages for {N} arrays, one after the other in the same place"
