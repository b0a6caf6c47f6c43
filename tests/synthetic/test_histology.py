"""Nuclei: as wide as there is room, and drawn even where there is none."""

import numpy as np

from cellnet_sd.synthetic.cells import Cells
from cellnet_sd.synthetic.fields import draw
from cellnet_sd.synthetic.histology import nuclei


def test_nuclei_of_cells_at_one_pixel_are_small_and_can_be_drawn():
    xy, room = np.array([[10, 10], [10, 10], [30, 30]]), np.array([0.0, 0.0, 14.0])
    cells = Cells(xy, np.zeros(3, np.int8), np.zeros(3, np.int8), np.full(3, 9.0), np.zeros(3), room)
    outlines = nuclei(cells, 2.0)
    assert outlines.lengths[:2].tolist() == [0.6, 0.6]
    assert 0.6 < outlines.lengths[2] < 14
    canvas = np.zeros((40, 40), np.float32)
    draw(outlines, 0.5, (canvas, np.ones(3)))
    assert canvas[10, 10] == canvas[30, 30] == 1
    assert np.isfinite(canvas).all()
