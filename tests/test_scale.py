"""What is large, once: tissues of 100,000 and 160,000 cells; and small ones, always."""

from pathlib import Path

import pytest
import spatialdata as sd

import cellnet_sd as cn
from benchmarks import tissue
from same_data import assert_same_data, assert_true_slides

MPP = 2.0


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_store_of_100_000_cells_is_what_is_read_and_its_slides_are_true(tmp_path: Path) -> None:
    truth = cn.datasets.synthetic(tmp_path / "tissue.h5", n_cells=100_000, mpp=MPP, progress=False)
    out = cn.convert(truth.path, tmp_path / "out.zarr", memory="500MB")
    stored = sd.read_zarr(out)
    assert len(stored["table"]) == 100_000
    assert_same_data(stored, cn.read(truth.path))
    assert_true_slides(stored, truth, side=round(200 / MPP))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("few", "many"),
    [(400, 1_600), pytest.param(10_000, 160_000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])],
)
def test_converting_many_cells_takes_the_memory_that_few_take(tmp_path: Path, few: int, many: int) -> None:
    peaks = [tissue.measured(n_cells, tmp_path).peak_mib for n_cells in (few, many)]
    assert peaks[1] < 1.2 * peaks[0]
