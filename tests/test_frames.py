"""Slides whose patches differ in size, in one file: each is what it was in a file of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import spatialdata as sd

import cellnet_sd as cn
from cellnet_sd.errors import CellNetWarning
from truth_checks import quiet

OPTIONS: dict[str, Any] = {"expression": False, "ccc": False, "patches": ("cell", "tissue")}


def made(path: Path, mpp: float, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Write a tissue of one slide, its cell patches smaller than those of others."""
    cn.datasets.synthetic(path, n_cells=70, n_genes=20, n_slides=1, mpp=mpp, seed=int(10 * mpp))
    with h5py.File(path, "r+") as root:
        for cell in (value for value in root.values() if "images" in value):
            tissue = change(cell["images/tissue_patch"][()])
            middle = len(tissue) // 2
            _replace(cell, "tissue_patch", tissue)
            _replace(cell, "cell_patch", tissue[middle - 16 : middle + 16, middle - 16 : middle + 16])
    return path


def _replace(cell: h5py.Group, name: str, pixels: np.ndarray) -> None:
    del cell[f"images/{name}"]
    cell[f"images/{name}"] = pixels


def read(path: Any, **options: Any) -> sd.SpatialData:
    with quiet():
        return cn.read(path, **OPTIONS, **options)


def pixels(element: Any) -> np.ndarray:
    return np.asarray((element["scale0"]["image"] if hasattr(element, "children") else element).data)


def about(sdata: sd.SpatialData, what: str) -> Any:
    return json.loads(sdata.attrs["cellnet_sd"][what])


@pytest.fixture(scope="module", params=["small", "grey"])
def apart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> sd.SpatialData:
    """Return two files as one object: of 1 and of 2 µm per pixel; the second RGB or grey."""
    folder = tmp_path_factory.mktemp("frames")
    cn.datasets.synthetic(folder / "large.h5", n_cells=70, n_genes=20, n_slides=1)
    small = made(folder / "small.h5", 2.0, lambda tissue: tissue if request.param == "small" else tissue[..., 0])
    return read([folder / "large.h5", small])


@pytest.fixture(scope="module")
def path(apart: sd.SpatialData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file that both are written to."""
    with quiet():
        return cn.write(apart, tmp_path_factory.mktemp("together") / "both.h5")


def assert_same(found: sd.SpatialData, expected: sd.SpatialData) -> None:
    for what in ("patch_sizes", "anchored", "mpp", "wsi_scale"):
        assert about(found, what) == about(expected, what), what
    for name in expected.images:
        if name in found.images or not name.endswith("tissue_patches"):
            np.testing.assert_array_equal(pixels(found.images[name]), pixels(expected.images[name]), err_msg=name)


def test_slides_are_rebuilt_from_their_own_patches_after_writing(apart: sd.SpatialData, path: Path) -> None:
    sizes = {name: each["tissue"] for name, each in about(apart, "patch_sizes").items()}
    assert sorted(sizes.values()) == [[100, 100], [200, 200]]
    again = read(path)
    assert set(again.images) == set(apart.images)
    assert_same(again, apart)


def test_so_are_those_of_a_conversion(apart: sd.SpatialData, path: Path, tmp_path: Path) -> None:
    with quiet():
        stored = cn.open_store(cn.convert(path, tmp_path / "both.zarr", **OPTIONS))
    assert_same(stored, apart)


@pytest.mark.parametrize("level", ["cell", "tissue"])
def test_patches_cut_from_the_slides_are_the_stored_ones(path: Path, level: str) -> None:
    sdata = read(path)
    with quiet():
        cut, stored = cn.patches(sdata, level, from_slide=True), cn.patches(sdata, level)
        np.testing.assert_array_equal(cut.values, stored.values)


def test_micrometres_are_measured_on_the_patches_of_each_slide(
    apart: sd.SpatialData, path: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.h5"
    bare.write_bytes(path.read_bytes())
    with h5py.File(bare, "r+") as root:
        for group in (root, *(root[name] for name in about(read(path), "slides"))):
            for key in {"mpp", "wsi_scale"} & set(group.attrs):
                del group.attrs[key]
    again = read(bare)
    assert about(again, "mpp") == about(apart, "mpp")
    assert about(again, "wsi_scale") == about(apart, "wsi_scale")


def test_they_are_sound(path: Path) -> None:
    with quiet():
        report = cn.validate(path)
    assert "smaller than" not in str(report)
    assert "fewer channels than" not in str(report)
    assert "not the centre" not in str(report)


def test_patches_smaller_than_others_of_their_slide_take_no_part_in_it(path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.h5"
    cut.write_bytes(path.read_bytes())
    with h5py.File(cut, "r+") as root:
        cell = next(value for value in root["small"].values() if "images" in value)
        _replace(cell, "tissue_patch", cell["images/tissue_patch"][1:-1, 1:-1])
    with pytest.warns(CellNetWarning, match=r"slide small: 1 tissue patches take no part .* of the slide"):
        sdata = cn.read(cut, **OPTIONS)
    assert {"small_tissue", "large_tissue"} <= set(sdata.images)
