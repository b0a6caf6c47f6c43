"""Memory of a conversion goes back to the system, and afterwards arrays are made as fast as before."""

import resource

import pytest

from cellnet_sd.conversion.frugal import frugal

N, SIZE = 500, 150_000
"""Bytes as an inflated profile has them: more than glibc takes from a heap by default."""


def _pages_taken() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(N):
        bytearray(SIZE)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.parametrize("within", [True, False])
def test_small_arrays_are_not_taken_from_the_system_one_by_one(within: bool) -> None:
    with frugal():
        taken = _pages_taken()
    if not within:
        taken = _pages_taken()
    assert taken < N, f"{taken} pages for {N} arrays, one after the other in the same place"
