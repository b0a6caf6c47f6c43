"""Compare objects as wholes: a store with what is read, and rebuilt slides with those that patches were cut from."""

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import spatialdata as sd
from numpy.typing import NDArray
from spatialdata.transformations import get_transformation

from cellnet_sd import keys
from cellnet_sd.datasets import SyntheticTissue


def assert_same_data(got: sd.SpatialData, expected: sd.SpatialData) -> None:
    """Compare two objects in everything that is read."""
    assert_same_table(got["table"], expected["table"])
    assert set(got.images) == set(expected.images)
    assert set(got.shapes) == set(expected.shapes)
    assert set(got.coordinate_systems) == set(expected.coordinate_systems)
    for name, image in expected.images.items():
        for stored, read in zip(_levels(got.images[name]), _levels(image), strict=True):
            assert (stored.shape, stored.dtype) == (read.shape, read.dtype)
            _assert_same_pixels(stored, read)
        assert get_transformation(got.images[name], get_all=True) == get_transformation(image, get_all=True)
    for name, circles in expected.shapes.items():
        pd.testing.assert_frame_equal(pd.DataFrame(got.shapes[name]), pd.DataFrame(circles), check_names=False)
    assert got.attrs["cellnet_sd"] == expected.attrs["cellnet_sd"]


def assert_same_table(got: ad.AnnData, expected: ad.AnnData) -> None:
    """Compare two tables in everything that is read."""
    pd.testing.assert_frame_equal(got.obs, expected.obs, check_column_type=False)
    pd.testing.assert_frame_equal(got.var, expected.var)
    assert (got.X != expected.X).nnz == 0
    assert got.X.dtype == np.float32
    for key in expected.obsm:
        np.testing.assert_array_equal(got.obsm[key], expected.obsm[key])
    assert set(got.obsp) == set(expected.obsp)
    for key in expected.obsp:
        assert (got.obsp[key] != expected.obsp[key]).nnz == 0
    assert dict(got.uns["cellnet_sd"]) == expected.uns["cellnet_sd"]
    assert got.uns["log1p"] == expected.uns["log1p"]
    assert got.uns["ccc"]["connectivities_key"] == expected.uns["ccc"]["connectivities_key"]


def _levels(image: Any) -> list[Any]:
    """Return the levels of an image, lazy."""
    return [level["image"].data for level in image.values()] if hasattr(image, "children") else [image.data]


def _assert_same_pixels(got: Any, expected: Any) -> None:
    """Compare images along their second axis, slides of rows or patches, as much at a time as memory takes well."""
    step = 2_048
    for start in range(0, got.shape[1], step):
        part = slice(start, start + step)
        np.testing.assert_array_equal(got[:, part].compute(), expected[:, part].compute())


def placed(sdata: Any, slide: str) -> tuple[NDArray[np.uint8], int, int]:
    """Return the rebuilt slide (y, x, c), and where its corner is."""
    element = sdata.images[keys.tissue_image(slide)]["scale0"]["image"]
    matrix = get_transformation(sdata.images[keys.tissue_image(slide)], slide).to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_array_equal(matrix[:2, :2], np.eye(2))
    left, top = matrix[:2, 2].astype(int).tolist()
    return np.moveaxis(element.values, 0, -1), top, left


def assert_true_slides(sdata: sd.SpatialData, truth: SyntheticTissue, *, side: int) -> None:
    """Compare every pixel that a window of `side` pixels around a cell shows with the slide it was cut from."""
    for name, slide in truth.slides.items():
        rebuilt, top, left = placed(sdata, name)
        seen = np.zeros(rebuilt.shape[:2], bool)
        for x, y in truth.cells.loc[truth.cells.slide == name, ["x", "y"]].to_numpy():
            seen[int(y) - side // 2 - top :, int(x) - side // 2 - left :][:side, :side] = True
        assert seen.any()
        assert (rebuilt[~seen] == 255).all()
        rows = np.arange(rebuilt.shape[0])[:, None] + top
        columns = np.arange(rebuilt.shape[1])[None, :] + left
        on_slide = (rows >= 0) & (rows < slide.shape[0]) & (columns >= 0) & (columns < slide.shape[1])
        expected = np.full(rebuilt.shape, 255, np.uint8)
        inside = np.nonzero(on_slide & seen)
        expected[inside] = slide[inside[0] + top, inside[1] + left]
        np.testing.assert_array_equal(rebuilt, expected)
