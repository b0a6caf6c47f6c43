"""Laziness: which rows are read for which view, and how image elements survive a round trip through Zarr."""

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellnet_sd.components.images.decode import Frame
from cellnet_sd.components.images.lazy import (
    PatchStack,
    patch_array,
    patch_stack_element,
    stack_image,
    wsi_element,
)
from cellnet_sd.errors import CellNetWarning, MalformedCellError
from cellnet_sd.layout import Component
from cellnet_sd.settings import settings
from cellnet_sd.sources.base import Fetches, Raw

CELL = Component.CELL_PATCH
N = 150
FRAME = Frame(8, 6, 3, "uint8", ("(H, W, C) arrays",))
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 8, 6, 3), dtype=np.uint8)
NAMES = [f"Cell_{i}" for i in range(N)]


@dataclass
class CountingSource:
    """A source in memory that notes every row it is asked for."""

    patches: list[Any] = field(default_factory=lambda: list(PIXELS))
    path: Path = Path("toy.h5")
    index: Any = None
    calls: list[list[int]] = field(default_factory=list)

    def fetch(self, component: Component, rows: Sequence[int]) -> list[Raw | None]:
        assert component is CELL
        self.calls.append([int(row) for row in rows])
        return [None if self.patches[row] is None else Raw(self.patches[row]) for row in rows]

    @property
    def fetched(self) -> list[int]:
        return [row for call in self.calls for row in call]


def lazy_array(rows: Any = None) -> tuple[CountingSource, Any]:
    rows = np.arange(N) if rows is None else rows
    source = CountingSource()
    return source, patch_array(source, CELL, rows, [NAMES[i] for i in rows], FRAME)


def test_the_fake_has_what_the_protocol_asks():
    fake: Fetches = CountingSource()
    assert all(hasattr(fake, name) for name in ("path", "fetch"))


# --- patch_array -----------------------------------------------------------------------------------------------------


def test_building_and_showing_reads_nothing():
    source, array = lazy_array()
    assert repr(array)
    assert array._repr_html_()
    assert array.dims == ("cell", "y", "x", "c")
    assert array.shape == (N, 8, 6, 3)
    assert array.dtype == np.uint8
    assert array["cell"].values.tolist() == NAMES
    assert array["c"].values.tolist() == ["r", "g", "b"]
    assert source.calls == []


def test_random_rows_read_those_rows_once():
    source, array = lazy_array()
    rows = np.random.default_rng(1).choice(N, 100, replace=False)
    np.testing.assert_array_equal(array[rows].values, PIXELS[rows])
    assert len(source.calls) == 1
    assert sorted(source.fetched) == sorted(rows.tolist())


def test_repeated_rows_are_read_once():
    source, array = lazy_array()
    np.testing.assert_array_equal(array[[5, 5, 2, 5]].values, PIXELS[[5, 5, 2, 5]])
    assert source.fetched == [2, 5]


def test_rows_of_the_source_are_those_given():
    rows = np.array([40, 7, 100])
    source, array = lazy_array(rows)
    np.testing.assert_array_equal(array[1:].values, PIXELS[[7, 100]])
    assert sorted(source.fetched) == [7, 100]
    assert array["cell"].values.tolist() == ["Cell_40", "Cell_7", "Cell_100"]


def keys_of(n: int) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.integers(-n, n - 1),
        st.slices(n),
        st.lists(st.integers(-n, n - 1), max_size=6).map(lambda rows: np.array(rows, dtype=int)),
        st.lists(st.booleans(), min_size=n, max_size=n).map(np.array),
    )


@given(cell=keys_of(N), y=keys_of(8), x=keys_of(6), c=keys_of(3))
def test_outer_indexing_equals_numpy_and_reads_no_more_rows(cell, y, x, c):
    source, array = lazy_array()
    want = PIXELS
    for axis, key in ((3, c), (2, x), (1, y), (0, cell)):
        want = want[(slice(None),) * axis + (key,)]
    np.testing.assert_array_equal(array[cell, y, x, c].values, want)
    assert sorted(source.fetched) == np.unique(np.arange(N)[cell]).tolist()


@given(first=keys_of(N).filter(lambda key: not isinstance(key, int)), data=st.data())
def test_chained_indexing_equals_numpy_and_reads_the_last_view_only(first, data):
    source, array = lazy_array()
    once = PIXELS[first]
    if not len(once):
        return
    second = data.draw(keys_of(len(once)))
    np.testing.assert_array_equal(array[first][second].values, once[second])
    assert sorted(source.fetched) == np.unique(np.arange(N)[first][second]).tolist()


def test_reversed_and_empty_views():
    source, array = lazy_array()
    np.testing.assert_array_equal(array[::-1, ::-1, ::-2, ::-1].values, PIXELS[::-1, ::-1, ::-2, ::-1])
    np.testing.assert_array_equal(array[4::-1][::-1].values, PIXELS[:5])
    source.calls.clear()
    assert array[[]].values.shape == (0, 8, 6, 3)
    assert array[3:3].values.shape == (0, 8, 6, 3)
    assert source.fetched == []


def test_pointwise_indexing_and_labels():
    from xarray import DataArray

    source, array = lazy_array()
    cells, ys = DataArray([3, 9, 3], dims="p"), DataArray([0, 1, 2], dims="p")
    np.testing.assert_array_equal(array.isel(cell=cells, y=ys).values, PIXELS[[3, 9, 3], [0, 1, 2]])
    np.testing.assert_array_equal(array.sel(cell=["Cell_9", "Cell_2"], c="g").values, PIXELS[[9, 2], ..., 1])
    assert set(source.fetched) == {2, 3, 9}


def test_it_pickles_without_reading():
    source, array = lazy_array()
    again = pickle.loads(pickle.dumps(array[10:13]))
    assert source.calls == []
    np.testing.assert_array_equal(again.values, PIXELS[10:13])


def test_large_reads_go_in_batches_of_the_size_that_is_set():
    source, array = lazy_array()
    with settings.override(batch_bytes=40 * FRAME.nbytes):
        np.testing.assert_array_equal(array[:, 2:4, 1].values, PIXELS[:, 2:4, 1])
    assert [len(call) for call in source.calls] == [40, 40, 40, 30]


def test_cells_without_a_patch_are_white_and_counted():
    source, array = lazy_array()
    source.patches[3] = source.patches[4] = None
    with pytest.warns(CellNetWarning, match=r"toy\.h5: 2 cells have no images/cell_patch; theirs are white"):
        out = array[2:6].values
    assert (out[1:3] == 255).all()
    np.testing.assert_array_equal(out[[0, 3]], PIXELS[[2, 5]])


def test_a_malformed_patch_names_its_cell_when_read():
    rows = np.array([9, 4])
    source, array = lazy_array(rows)
    source.patches[4] = np.zeros((3, 3), bool)
    np.testing.assert_array_equal(array[0].values, PIXELS[9])
    with pytest.raises(MalformedCellError, match="cell 'Cell_4', images/cell_patch"):
        array.load()


# --- image elements --------------------------------------------------------------------------------------------------


def test_a_stack_reads_the_chunks_it_shows():
    source = CountingSource()
    stack = stack_image(PatchStack(source, CELL, np.arange(N), NAMES, FRAME))
    assert stack.chunks == ((3,), (64, 64, 22), (8,), (6,))
    assert source.calls == []
    np.testing.assert_array_equal(stack[:, 70].compute(scheduler="sync"), np.moveaxis(PIXELS[70], -1, 0))
    assert source.calls == [list(range(64, 128))]
    np.testing.assert_array_equal(stack.compute(scheduler="sync"), np.moveaxis(PIXELS, -1, 0))


def test_a_stack_pickles_task_by_task():
    stack = stack_image(PatchStack(CountingSource(), CELL, np.array([5, 2]), ["Cell_5", "Cell_2"], FRAME))
    again = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(again.compute(scheduler="sync"), np.moveaxis(PIXELS[[5, 2]], -1, 0))


def test_stacks_of_other_rows_have_other_names():
    first, second = (stack_image(PatchStack(CountingSource(), CELL, np.array([i]), ["a"], FRAME)) for i in (0, 1))
    assert first.name != second.name


def round_trip(path: Path, images: dict[str, Any]) -> Any:
    """Write and read images; assert that they are equal, transformations included."""
    import spatialdata as sd
    from spatialdata.testing import assert_spatial_data_objects_are_identical

    sdata = sd.SpatialData(images=images)
    sdata.write(path)
    again = sd.read_zarr(path)
    assert_spatial_data_objects_are_identical(sdata, again)
    return again


def stored_chunks(path: Path) -> list[int]:
    """Return the chunk shape of the full-resolution array of an image on disk."""
    (meta,) = (file for file in path.rglob("zarr.json") if json.loads(file.read_text())["node_type"] == "array")
    return json.loads(meta.read_text())["chunk_grid"]["configuration"]["chunk_shape"]


def test_a_patch_stack_survives_zarr_in_chunks_of_64_cells(tmp_path):
    from spatialdata.transformations import Identity, get_transformation

    pixels = np.random.default_rng(2).integers(0, 256, (N, 64, 64, 3), dtype=np.uint8)
    frame = Frame(64, 64, 3, "uint8", ("(H, W, C) arrays",))
    source = CountingSource(patches=list(pixels))
    element = patch_stack_element(
        stack_image(PatchStack(source, CELL, np.arange(N), NAMES, frame)), slide=np.str_("s1")
    )
    assert source.calls == []
    (system,) = get_transformation(element, get_all=True)
    assert type(system) is str
    assert get_transformation(element, get_all=True) == {"s1_patches": Identity()}
    again = round_trip(tmp_path / "x.zarr", {"s1_cell_patches": element})
    np.testing.assert_array_equal(again["s1_cell_patches"].values, np.moveaxis(pixels, -1, 0))
    assert stored_chunks(tmp_path / "x.zarr" / "images") == [3, 64, 64, 64]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("is_float", [False, True])
def test_elements_of_every_channel_count_survive_zarr(tmp_path, channels, is_float):
    pixels = np.random.default_rng(3).integers(0, 256, (3, 8, 6, channels), dtype=np.uint8)
    pixels = (pixels / 255).astype("f4") if is_float else pixels
    frame = Frame(8, 6, channels, str(pixels.dtype), ("(H, W, C) arrays",))
    stack = patch_stack_element(
        stack_image(PatchStack(CountingSource(list(pixels)), CELL, np.arange(3), NAMES[:3], frame)), slide="s"
    )
    wsi = wsi_element(pixels[0], scale=7.5, slide="s", mpp=0.5)
    names = {1: ["grey"], 3: ["r", "g", "b"], 4: ["r", "g", "b", "a"]}[channels]
    again = round_trip(tmp_path / "x.zarr", {"s_cell_patches": stack, "s_wsi": wsi})
    for element in again.images.values():
        assert element["c"].values.tolist() == names
    np.testing.assert_array_equal(again["s_wsi"].values, np.moveaxis(pixels[0], -1, 0))


def corner_and_end(element: Any, system: str) -> list[float]:
    """Return (x, y) of the image's upper left corner and of its lower right one, in `system`."""
    from spatialdata import get_extent

    extent = get_extent(element, coordinate_system=system)
    return [extent["x"][0], extent["y"][0], extent["x"][1], extent["y"][1]]


def test_a_wsi_covers_its_slide_in_pixels_and_micrometres(tmp_path):
    image = np.random.default_rng(4).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    element = wsi_element(image, scale=16, slide="s", mpp=2.0)
    element = round_trip(tmp_path / "x.zarr", {"s_wsi": element})["s_wsi"]
    assert corner_and_end(element, "s") == [0, 0, 30 * 16, 20 * 16]
    assert corner_and_end(element, "s_um") == [0, 0, 30 * 32, 20 * 32]


@pytest.mark.parametrize(
    ("scale", "mpp", "systems"),
    [(None, None, {"s_wsi"}), (None, 2.0, {"s_wsi"}), (4.0, None, {"s"}), (4.0, 2.0, {"s", "s_um"})],
)
def test_a_wsi_lies_in_the_systems_that_are_known(tmp_path, scale, mpp, systems):
    from spatialdata.transformations import get_transformation

    element = wsi_element(PIXELS[0], scale=scale, slide=np.str_("s"), mpp=mpp)
    found = get_transformation(element, get_all=True)
    assert set(found) == systems
    assert {type(system) for system in found} == {str}
    round_trip(tmp_path / "x.zarr", {"s_wsi": element})


def test_a_large_wsi_is_chunked_by_1024():
    element = wsi_element(np.zeros((1500, 1100, 3), np.uint8), scale=2.0, slide="s", mpp=None)
    assert element.data.chunksize == (3, 1024, 1024)
