"""The cover: few windows that show all that any window shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellnet_sd.components.images.cover import Windows, choose_cover


def _shown_plainly(windows: Windows, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels any window shows, window by window."""
    seen = np.zeros(shape, bool)
    for top, left in zip(windows.top.tolist(), windows.left.tolist(), strict=True):
        seen[max(0, top) : max(0, top + windows.height), max(0, left) : max(0, left + windows.width)] = True
    return seen


@st.composite
def _layouts(draw: st.DrawFn) -> tuple[Windows, tuple[int, int]]:
    shape = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    corners = st.tuples(st.integers(-50, 100), st.integers(-50, 100))
    chosen = np.array(draw(st.lists(corners, max_size=60)), np.int64).reshape(-1, 2)
    return Windows(chosen[:, 0], chosen[:, 1], height, width), shape


@given(layout=_layouts())
def test_a_cover_shows_what_all_windows_show_and_each_of_its_windows_shows_something(
    layout: tuple[Windows, tuple[int, int]],
) -> None:
    windows, shape = layout
    shown = _shown_plainly(windows, shape)
    np.testing.assert_array_equal(windows.times_shown(shape) > 0, shown)
    cover = choose_cover(windows, shape)
    assert len(set(cover.tolist())) == len(cover)
    np.testing.assert_array_equal(_shown_plainly(windows.take(cover), shape), shown)
    before = np.zeros(shape, bool)
    for at in cover.tolist():  # none is taken for nothing
        added = _shown_plainly(windows.take(np.array([at])), shape) & ~before
        assert added.any()
        before |= added


@pytest.mark.parametrize(("per_cell", "side"), [(100, 8192), (900, 4096)])
def test_little_more_is_read_than_is_shown(per_cell: int, side: int) -> None:
    """At one cell per 100 µm² and per 900 µm², with 200 px windows at 1 µm per pixel, over a round tissue.

    What is read in vain is read at the border, where windows show slivers that no other shows: the smaller the tissue,
    the larger its share.
    """
    rng = np.random.default_rng(0)
    window, block = 200, 1024
    spots = rng.integers(0, side, (side * side // per_cell, 2))
    spots = spots[np.hypot(*(spots - side / 2).T) < side / 2.2]
    windows = Windows(spots[:, 0] - window // 2, spots[:, 1] - window // 2, window, window)
    read = shown = 0
    for top in range(0, side, block):
        for left in range(0, side, block):
            here = windows.moved(-top, -left)
            reaching = (here.top > -window) & (here.top < block) & (here.left > -window) & (here.left < block)
            here = here.take(np.flatnonzero(reaching))
            read += len(choose_cover(here, (block, block))) * window**2
            shown += int((here.times_shown((block, block)) > 0).sum())
    assert read / shown <= 3
    if per_cell == 100:
        assert read / window**2 / len(windows) <= 0.03


@given(layout=_layouts())
def test_windows_that_alone_show_a_pixel_are_told(layout: tuple[Windows, tuple[int, int]]) -> None:
    windows, shape = layout
    times = sum((_shown_plainly(windows.take(np.array([at])), shape).astype(int) for at in range(len(windows))), 0)
    alone = np.asarray(times == 1) & np.ones(shape, bool)
    expected = [int(_shown_plainly(windows.take(np.array([at])), shape)[alone].sum()) for at in range(len(windows))]
    assert windows.shown_of(alone).tolist() == expected
    assert set(np.flatnonzero(expected)) <= set(choose_cover(windows, shape).tolist())


def test_a_ragged_border_takes_few_more_than_any_cover_must_have() -> None:
    rng = np.random.default_rng(1)
    spots = rng.integers(0, 900, (8_000, 2))
    spots = spots[np.hypot(*(spots - 450).T) < 450 + 60 * np.sin(np.arange(len(spots)))]
    windows, shape = Windows(spots[:, 0], spots[:, 1], 100, 100), (1024, 1024)
    must = np.count_nonzero(windows.shown_of(windows.times_shown(shape) == 1))
    interior = (windows.times_shown(shape) > 0).sum() / 100**2
    assert must > interior
    assert len(choose_cover(windows, shape)) <= must + 2 * interior
