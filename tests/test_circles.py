"""Circles that are written some at a time are those that SpatialData writes at once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import spatialdata
from geopandas.testing import assert_geodataframe_equal

from cellnet_sd import circles
from cellnet_sd.circles import Circles
from cellnet_sd.findings import SlideFinding


@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
@pytest.mark.parametrize("n", [1, 7, 8])
def test_written_in_pieces_is_written_at_once(
    n: int, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circles, "_AT_ONCE", 4)
    monkeypatch.setattr(spatialdata.settings, "shapes_geometry_encoding", encoding)
    rng = np.random.default_rng(n)
    slide = SlideFinding(name="a", original="a", n_cells=n, mpp=0.5)
    names = pd.Index([f"cell {number}" for number in range(n)], dtype="str")
    found = Circles(slide, rng.normal(size=(n, 2)), rng.uniform(1, 5, n), names)
    written = {}
    for name, part in {"pieces": slice(1), "whole": slice(None)}.items():
        spatialdata.SpatialData(shapes={"a": found.frame(part)}).write(tmp_path / name)
        written[name] = tmp_path / name / "shapes" / "a" / "shapes.parquet"
    found.write(written["pieces"])

    pieces, whole = (spatialdata.read_zarr(tmp_path / name)["a"] for name in ("pieces", "whole"))
    assert_geodataframe_equal(pieces, whole)
    assert_geodataframe_equal(pieces, found.frame())
    assert pq.read_schema(written["pieces"]).equals(pq.read_schema(written["whole"]), check_metadata=True)
    assert pq.ParquetFile(written["pieces"]).num_row_groups == -(-n // 4)
    assert sorted(path.name for path in written["pieces"].parent.iterdir()) == ["shapes.parquet", "zarr.json"]
