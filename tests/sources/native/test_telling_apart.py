"""Rows and lists of integers get codes in the order in which they are met, and the first row of each code is known."""

from collections.abc import Hashable, Sequence

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from cellnet_sd.sources.native_grouping import combined, combined_lists, runs_of_equals

_NUMBERS = st.one_of(st.integers(-3, 3), st.integers(-(2**62), 2**62))


def _truth(items: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    known: dict[Hashable, int] = {}
    codes = [known.setdefault(item, len(known)) for item in items]
    return codes, [codes.index(code) for code in range(len(known))]


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[_NUMBERS] * width), min_size=1, max_size=30)))
@example([(0, 0)] * 5)
@example([(2**62, -(2**62)), (0, 0), (2**62, -(2**62))])
def test_rows_are_told_apart(rows: list[tuple[int, ...]]) -> None:
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    codes, firsts = combined(*columns)
    assert (codes.tolist(), firsts.tolist()) == _truth(rows)
    assert codes.dtype == np.int32


def test_no_rows_have_no_codes() -> None:
    codes, firsts = combined(np.empty(0, np.int32), np.empty(0, np.int64))
    assert len(codes) == len(firsts) == 0


@given(st.lists(st.lists(st.integers(-2, 2), max_size=4), max_size=20))
def test_lists_are_told_apart(lists: list[list[int]]) -> None:
    counts = np.array([len(each) for each in lists], np.int64)
    codes, firsts = combined_lists(counts, np.array([item for each in lists for item in each], np.int64))
    expected, _ = _truth([tuple(each) for each in lists])
    assert [codes.tolist().index(code) for code in codes.tolist()] == [expected.index(code) for code in expected]
    assert [codes[first] for first in firsts.tolist()] == [*range(len(set(expected)))]


@given(st.lists(st.integers(-3, 3), max_size=20))
def test_runs_of_equal_numbers_are_counted(numbers: list[int]) -> None:
    values, counts = runs_of_equals(np.sort(np.array(numbers, np.int64)))
    expected = np.unique(np.array(numbers, np.int64), return_counts=True)
    assert (values.tolist(), counts.tolist()) == tuple(each.tolist() for each in expected)
