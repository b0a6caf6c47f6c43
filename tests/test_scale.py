"""What is large, once: a tissue of 100,000 cells, converted and compared with what is read in memory."""

from pathlib import Path

import pytest
import spatialdata as sd

import cellnet_sd as cn
from same_data import assert_same_data, assert_true_slides

MPP = 2.0


@pytest.mark.slow
def test_the_store_of_100_000_cells_is_what_is_read_and_its_slides_are_true(tmp_path: Path) -> None:
    truth = cn.datasets.synthetic(tmp_path / "tissue.h5", n_cells=100_000, mpp=MPP, progress=False)
    out = cn.convert(truth.path, tmp_path / "out.zarr", memory="500MB")
    stored = sd.read_zarr(out)
    assert len(stored["table"]) == 100_000
    assert_same_data(stored, cn.read(truth.path))
    assert_true_slides(stored, truth, side=round(200 / MPP))
