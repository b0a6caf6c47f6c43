"""Crops against an independent padded copy of the slide."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellnet_sd.synthetic.patches import Crops, shrink

SLIDE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
PADDED = np.pad(SLIDE, ((200, 200), (200, 200), (0, 0)), constant_values=255)


@given(x=st.integers(0, 59), y=st.integers(0, 39), side=st.integers(1, 150))
def test_a_crop_is_the_window_of_the_padded_slide(x, y, side):
    top, left = 200 + y - side // 2, 200 + x - side // 2
    window = Crops(SLIDE, np.array([[x, y]]), side)[0]
    np.testing.assert_array_equal(window, PADDED[top : top + side, left : left + side])


def test_a_slice_holds_its_cells():
    crops = Crops(SLIDE, np.array([[5, 5], [20, 20], [50, 30]]), 8)
    assert len(crops) == 3
    np.testing.assert_array_equal(crops[1:][1], crops[2])


def test_shrinking_takes_block_means():
    small = shrink(SLIDE, 4)
    assert small.shape == (10, 15, 3)
    assert small.dtype == np.uint8
    assert small[2, 3, 1] == np.rint(SLIDE[8:12, 12:16, 1].astype(np.float32).mean())
