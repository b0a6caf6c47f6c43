"""`cn.patches(..., from_slide=True)`: what is cut from the rebuilt slide is what was stored; nothing else is read."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import shapely
import spatialdata as sd
from spatialdata import bounding_box_query
from spatialdata.transformations import Affine, Translation, get_transformation, set_transformation

import cellnet_sd as cn
from cellnet_sd.components.images import Block
from cellnet_sd.errors import CellNetWarning, LayoutError, SourceMovedError
from cellnet_sd.layout import Component
from counting import counted, store_reads
from truth_checks import quiet

CELL, TISSUE = 64, 200
ONE_PIXEL_EACH = {"images": ("wsi", "tissue")}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> cn.datasets.SyntheticTissue:
    """Return a tissue of two slides of a few blocks each."""
    path = tmp_path_factory.mktemp("cuts") / "tissue.h5"
    return cn.datasets.synthetic(
        path, n_cells=300, n_genes=20, n_slides=2, mpp=1.0, cell_area_um2=6000.0, progress=False
    )


@pytest.fixture(scope="module")
def store(truth: cn.datasets.SyntheticTissue) -> Path:
    """Return it converted, each pixel stored once: no stack of patches."""
    return cn.convert(truth.path, truth.path.parent / "tissue.zarr", expression=False, ccc=False, **ONE_PIXEL_EACH)


@pytest.fixture
def stored(store: Path) -> sd.SpatialData:
    """Return the store, reopened, to be changed."""
    return cn.open_store(store)


def cut(sdata: sd.SpatialData, level: str = "cell") -> np.ndarray:
    """Return all patches, cut from the slides."""
    return cn.patches(sdata, level, from_slide=True).values


def plain(path: Path, cells: Any, level: str) -> np.ndarray:
    """Return the patches that are stored, by plain h5py."""
    with h5py.File(path) as root:
        return np.stack([root[f"{c.slide}/{c.name}/images/{level}_patch"][()] for c in cells.itertuples()])


# --- equal to what was stored ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["cell", "tissue"])
def test_they_are_the_stored_ones_with_the_file_and_all_stacks_gone(
    truth: cn.datasets.SyntheticTissue, stored: sd.SpatialData, level: str
) -> None:
    assert set(stored.images) == {f"slide_{n}_{what}" for n in (1, 2) for what in ("wsi", "tissue")}
    expected = plain(truth.path, truth.cells, level)
    with counted() as reads:
        got = cn.patches(stored, level, from_slide=True)
        assert got.dims == ("cell", "y", "x", "c")
        assert got["cell"].values.tolist() == stored["table"].obs_names.tolist()
        assert got["c"].values.tolist() == ["r", "g", "b"]
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got.values, expected)
    assert reads.nothing, "the source is not opened"


def test_they_follow_their_cells_through_a_subset(truth: cn.datasets.SyntheticTissue, stored: sd.SpatialData) -> None:
    rows = np.random.default_rng(0).permutation(len(truth.cells))[:40]
    stored.tables["chosen"] = stored["table"][rows].copy()
    got = cn.patches(stored, "cell", from_slide=True, table="chosen")
    np.testing.assert_array_equal(got.values, plain(truth.path, truth.cells.iloc[rows], "cell"))
    np.testing.assert_array_equal(got[[7, 2], 5:9, ::-1].values, got.values[[7, 2], 5:9, ::-1])


def test_they_are_cut_from_what_is_read_too(truth: cn.datasets.SyntheticTissue) -> None:
    sdata = cn.read(truth.path, expression=False, ccc=False, images=("tissue",))
    np.testing.assert_array_equal(cut(sdata), plain(truth.path, truth.cells, "cell"))


@pytest.mark.parametrize("name", ["lung", "her2st"])
def test_those_of_real_files_are_the_stored_ones(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = request.getfixturevalue(name)
    with quiet():
        stored = cn.open_store(cn.convert(path, tmp_path / "out.zarr", expression=False, ccc=False, **ONE_PIXEL_EACH))
    for level in ("cell", "tissue"):
        np.testing.assert_array_equal(cut(stored, level), cn.patches(path, level).values)


def test_those_of_files_with_patches_of_different_sizes_are_padded(
    truth: cn.datasets.SyntheticTissue, tmp_path: Path
) -> None:
    path = tmp_path / "small.h5"
    path.write_bytes(truth.path.read_bytes())
    with h5py.File(path, "r+") as file:
        for cell in (cell for slide in ("slide_1", "slide_2") for cell in file[slide].values()):
            centre = cell["images/cell_patch"][16:48, 16:48]
            del cell["images/cell_patch"]
            cell["images/cell_patch"] = centre
    with quiet():
        sdata = cn.read([truth.path, path], expression=False, ccc=False, images=("tissue",))
    with pytest.warns(CellNetWarning, match=r"64 by 64 px in \w*tissue and 1 more, 32 by 32 px.* to 64 by 64 px"):
        got = cut(sdata)
    expected = plain(truth.path, truth.cells, "cell")
    n = len(expected)
    assert got.shape == (2 * n, CELL, CELL, 3)
    np.testing.assert_array_equal(got[:n], expected)
    np.testing.assert_array_equal(got[n:, 16:48, 16:48], expected[:, 16:48, 16:48])
    assert (got[n:, :16] == 255).all()
    assert (got[n:, :, 48:] == 255).all()
    with quiet():
        np.testing.assert_array_equal(got, cn.patches(sdata).values)


def _every_other_pixel(truth: cn.datasets.SyntheticTissue, path: Path) -> Path:
    """Write the file with windows resized to half, and cell patches that are their centres."""
    path.write_bytes(truth.path.read_bytes())
    with h5py.File(path, "r+") as file:
        for cell in (cell for slide in ("slide_1", "slide_2") for cell in file[slide].values()):
            half = cell["images/tissue_patch"][()][::2, ::2]
            for level, patch in (("tissue", half), ("cell", half[34:66, 34:66])):
                del cell[f"images/{level}_patch"]
                cell[f"images/{level}_patch"] = patch
    return path


def test_cells_of_resized_windows_keep_to_the_centres_of_these(
    truth: cn.datasets.SyntheticTissue, tmp_path: Path
) -> None:
    path = _every_other_pixel(truth, tmp_path / "half.h5")
    with quiet():
        sdata = cn.read(path, expression=False, ccc=False, mpp=1.0, images=("tissue",))
        cells, windows = cut(sdata, "cell"), cut(sdata, "tissue")
    assert cells.shape[1:] == (32, 32, 3)
    np.testing.assert_array_equal(cells, windows[:, 34:66, 34:66])


# --- lazily ----------------------------------------------------------------------------------------------------------


def test_rows_read_only_the_chunks_they_lie_in(truth: cn.datasets.SyntheticTissue, stored: sd.SpatialData) -> None:
    rows = [3, 70, 150, 280]
    lazy = cn.patches(stored, "cell", from_slide=True)
    with store_reads() as reads:
        got = lazy[rows].values
    np.testing.assert_array_equal(got, plain(truth.path, truth.cells.iloc[rows], "cell"))
    side = stored.images["slide_1_tissue"]["scale0"]["image"].data.chunksize[1]
    assert side > CELL
    read = [(path, size) for path, size in reads if "_tissue/" in path and "/c/" in path]
    assert 0 < len(read) <= len(rows) * 4 * 2, "at most four chunks of each, and the index of the shard of each"
    assert sum(size for _, size in read) <= len(rows) * 4 * (side * side * 3 + 300)
    assert not [path for path, _ in reads if "_wsi/" in path]


def test_a_block_is_made_once_for_all_that_reach_into_it(
    truth: cn.datasets.SyntheticTissue, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = [], Block.make

    def counting(self: Block) -> Any:
        made.append((self.corner, self.rows.tobytes()))
        return make(self)

    monkeypatch.setattr(Block, "make", counting)
    sdata = cn.read(truth.path, expression=False, ccc=False, images=("tissue",))
    lazy = cn.patches(sdata, "cell", from_slide=True)
    made.clear()
    monkeypatch.setattr(cn.settings, "batch_bytes", 2**23)
    with counted() as reads:
        values = lazy[:100].values
    np.testing.assert_array_equal(values, plain(truth.path, truth.cells[:100], "cell"))
    assert made
    assert len(made) == len(set(made))
    assert not reads.rows(Component.CELL_PATCH)


IN_ANOTHER_PROCESS = """
import pickle, sys
sys.stdout.buffer.write(pickle.dumps(pickle.load(sys.stdin.buffer)[[9, 4]].values))
"""


def test_they_are_cut_in_another_process(truth: cn.datasets.SyntheticTissue, stored: sd.SpatialData) -> None:
    sent = pickle.dumps(cn.patches(stored, "tissue", from_slide=True))
    done = subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS], input=sent, capture_output=True, check=True)
    np.testing.assert_array_equal(pickle.loads(done.stdout), plain(truth.path, truth.cells.iloc[[9, 4]], "tissue"))


# --- beyond what is shown --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The table is annotating:UserWarning")  # of the slide that the box leaves out
def test_what_a_cropped_slide_no_longer_holds_is_white_and_counted(
    truth: cn.datasets.SyntheticTissue, stored: sd.SpatialData
) -> None:
    low, high = np.array([150.0, 200.0]), np.array([700.0, 600.0])
    box = bounding_box_query(
        stored, ["x", "y"], min_coordinate=low, max_coordinate=high, target_coordinate_system="slide_1"
    )
    names = box["table"].obs["cell_id"].tolist()
    cells = truth.cells.set_index("name", drop=False).loc[names]
    position = np.floor(cells[["x", "y"]].to_numpy()).astype(int)
    begins = position - CELL // 2
    reach_out = ((begins < low) | (begins + CELL > high)).any(axis=1)
    assert 0 < reach_out.sum() < len(cells)
    with pytest.warns(CellNetWarning, match=rf"windows of {reach_out.sum()} of {len(cells)} cells reach beyond"):
        lazy = cn.patches(box, "cell", from_slide=True)
    got, expected = lazy.values, plain(truth.path, cells, "cell")
    np.testing.assert_array_equal(got[~reach_out], expected[~reach_out])
    for patch, whole, (left, top) in zip(got, expected, begins, strict=True):
        x, y = left + np.arange(CELL), top + np.arange(CELL)
        shown = ((y >= low[1]) & (y < high[1]))[:, None] & ((x >= low[0]) & (x < high[0]))
        np.testing.assert_array_equal(patch[shown], whole[shown])
        assert (patch[~shown] == 255).all()


WIDE = np.array([[150.0, 200.0], [700.0, 600.0]])


def cropped(sdata: sd.SpatialData, box: Any = WIDE, system: str = "slide_1") -> sd.SpatialData:
    """Return what is in a box, corner by corner, x then y."""
    with quiet():
        return bounding_box_query(
            sdata, ["x", "y"], min_coordinate=box[0], max_coordinate=box[1], target_coordinate_system=system
        )


def in_whole(box: sd.SpatialData, truth: cn.datasets.SyntheticTissue, low: Any, high: Any) -> tuple[Any, np.ndarray]:
    """Return the cells of a box, and which of them have all of their patch in it, as far as 2 pixels from its edge."""
    cells = truth.cells.set_index("name", drop=False).loc[box["table"].obs["cell_id"]]
    begins = np.floor(cells[["x", "y"]].to_numpy()).astype(int) - CELL // 2
    return cells, ((begins > np.asarray(low) + 2) & (begins + CELL < np.asarray(high) - 2)).all(axis=1)


def assert_exact(box: sd.SpatialData, truth: cn.datasets.SyntheticTissue, low: Any, high: Any) -> None:
    cells, whole = in_whole(box, truth, low, high)
    assert whole.sum() > 2
    with quiet() as caught:
        got = cut(box)[whole]
    assert not any("is not known" in str(each.message) for each in caught)
    np.testing.assert_array_equal(got, plain(truth.path, cells[whole], "cell"))


@pytest.mark.parametrize("by", [(0.0, 0.0), (0.3, 0.7), (0.5, 0.3), (0.0, 1.2)])
@pytest.mark.parametrize("form", ["read", "stored", "written"])
def test_those_of_boxes_between_pixels_are_the_stored_ones(
    truth: cn.datasets.SyntheticTissue, store: Path, tmp_path: Path, form: str, by: tuple[float, float]
) -> None:
    whole = cn.open_store(store) if form != "read" else cn.read(truth.path, expression=False, ccc=False)
    low, high = np.add(WIDE, by)
    box = cropped(whole, [low, high])
    if form == "written":
        box.write(tmp_path / "box.zarr")
        box = sd.read_zarr(tmp_path / "box.zarr")
    assert_exact(box, truth, low, high)


def test_those_of_a_box_in_micrometres_and_of_a_polygon_are_too(truth: cn.datasets.SyntheticTissue) -> None:
    low, high = WIDE + 0.4
    with quiet():
        sdata = cn.read(truth.path, expression=False, ccc=False, mpp=0.7, images=("tissue",))
        area = sd.polygon_query(sdata, shapely.box(*low, *high), target_coordinate_system="slide_1")
    scale = get_transformation(sdata["slide_1_tissue"], "slide_1").to_affine_matrix(("x",), ("x",))[0, 0]
    assert scale != 1
    with quiet():
        whole, names = cut(sdata), sdata["table"].obs_names
        for box in (cropped(sdata, np.array([low, high]) * 0.7, "slide_1_um"), area):
            lazy = cn.patches(box, from_slide=True)
            shown = ~(lazy.values == 255).all(axis=3).any(axis=(1, 2))
            assert shown.sum() > 2
            rows = names.get_indexer(box["table"].obs_names)
            np.testing.assert_array_equal(lazy.values[shown], whole[rows][shown])


def test_what_two_boxes_leave_is_exact_or_warned_of(truth: cn.datasets.SyntheticTissue, stored: sd.SpatialData) -> None:
    low, high = np.array([[159.3, 211.7], [680.3, 580.7]])
    assert_exact(cropped(cropped(stored, np.add(WIDE, [0.7, 0.3])), [low, high]), truth, low, high)
    twice = cropped(cropped(stored, WIDE + 0.3), [low + 0.4, high])  # both too far by one: two, or none
    with quiet() as caught:
        cn.patches(twice, "cell", from_slide=True)
    said = "\n".join(str(each.message) for each in caught)
    assert re.search(r"slide_1_tissue begins is not known.*Crop the whole slide once.*leave from_slide out", said)


def test_a_crop_whose_own_coarser_levels_are_gone_is_warned_of_and_not_written(
    truth: cn.datasets.SyntheticTissue, own: Path, tmp_path: Path
) -> None:
    with quiet():
        sdata = cn.open_store(cn.convert(own, tmp_path / "own.zarr", expression=False, ccc=False, **ONE_PIXEL_EACH))
    own.unlink()
    box = cropped(sdata, WIDE + 0.3)
    cells, whole = in_whole(box, truth, *WIDE)
    box.tables["table"] = box["table"][whole].copy()
    _, said = rewritten(box, tmp_path / "out.h5")
    assert "cell patches are cut from the rebuilt slide" in said
    np.testing.assert_array_equal(cn.patches(tmp_path / "out.h5").values, plain(truth.path, cells[whole], "cell"))
    image = box["slide_1_tissue"]["scale0"]["image"]
    for broken in (image, _with_noise(box["slide_1_tissue"])):
        box.images["slide_1_tissue"] = broken
        with pytest.warns(CellNetWarning, match="cropped image slide_1_tissue begins is not known"):
            cn.patches(box, "cell", from_slide=True)
        _, said = rewritten(box, tmp_path / "out.h5")
        assert "cell patches are not written" in said


def _with_noise(element: Any) -> Any:
    """Return an image whose coarser level is not its own."""
    element = element.copy(deep=True)
    coarse = element["scale1"]["image"]
    coarse.data = coarse.data ^ 1
    return element


def test_an_image_moved_by_part_of_a_pixel_is_refused(stored: sd.SpatialData) -> None:
    set_transformation(stored["slide_1_tissue"], Translation([3.4, 2.0], axes=("y", "x")), "slide_1")
    with pytest.raises(LayoutError, match="'slide_1_tissue' no longer lies"):
        cn.patches(stored, "cell", from_slide=True)


def test_a_cell_without_a_position_is_white_and_counted_and_one_without_a_patch_is_cut(
    truth: cn.datasets.SyntheticTissue, tmp_path: Path
) -> None:
    path = tmp_path / "gaps.h5"
    path.write_bytes(truth.path.read_bytes())
    first, second = (f"{cell.slide}/{cell.name}" for cell in truth.cells.iloc[:2].itertuples())
    with h5py.File(path, "r+") as file:
        document = json.loads(file[first]["attributes.json"][()]) | {"Position_in_WSI": None}
        del file[first]["attributes.json"], file[second]["images/cell_patch"]
        file[first]["attributes.json"] = json.dumps(document)
    with quiet():
        sdata = cn.read(path, expression=False, ccc=False, images=("tissue",))
    with pytest.warns(CellNetWarning, match=r"windows of 1 of 300 cells"):
        lazy = cn.patches(sdata, "cell", from_slide=True)
    assert (lazy[0].values == 255).all()
    np.testing.assert_array_equal(lazy[1:4].values, plain(truth.path, truth.cells[1:4], "cell"))


def test_a_cell_where_no_patch_shows_anything_is_counted(stored: sd.SpatialData) -> None:
    image = stored.images["slide_1_tissue"]["scale0"]["image"]
    image.data = image.data * 0 + 255
    lazy = cn.patches(stored, "cell", from_slide=True)
    with pytest.warns(CellNetWarning, match="1 cells lie where the image of their slide shows nothing but white"):
        lazy[:1].values  # noqa: B018


# --- written back ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(truth: cn.datasets.SyntheticTissue, tmp_path: Path) -> Path:
    """Return a copy of the file, to be changed or to go."""
    return Path(shutil.copy(truth.path, tmp_path / "own.h5"))


def assert_same_patches(found: Path, truth: cn.datasets.SyntheticTissue) -> None:
    for level in ("cell", "tissue"):
        np.testing.assert_array_equal(plain(found, truth.cells, level), plain(truth.path, truth.cells, level))
    np.testing.assert_array_equal(cn.patches(found, "wsi")[::99].values, cn.patches(truth.path, "wsi")[::99].values)


def rewritten(obj: Any, path: Path) -> tuple[Path, str]:
    """Write an object; return the file and what was warned of."""
    with quiet() as caught:
        out = cn.write(obj, path, overwrite=True)
    return out, "\n".join(str(each.message) for each in caught if issubclass(each.category, CellNetWarning))


def test_all_patches_of_an_object_without_a_stack_are_written_from_the_file(
    truth: cn.datasets.SyntheticTissue, stored: sd.SpatialData, tmp_path: Path
) -> None:
    read = cn.read(truth.path, ccc=False, **ONE_PIXEL_EACH)
    for obj in (read, read["table"], stored):
        out, said = rewritten(obj, tmp_path / "out.h5")
        assert_same_patches(out, truth)
        assert "images/" not in said
        assert "patches are" not in said


def test_patches_are_written_from_the_slide_when_the_file_is_gone(
    truth: cn.datasets.SyntheticTissue, own: Path, tmp_path: Path
) -> None:
    with quiet():
        sdata = cn.open_store(cn.convert(own, tmp_path / "own.zarr", expression=False, ccc=False, **ONE_PIXEL_EACH))
    own.unlink()
    with pytest.raises(SourceMovedError, match=r"is gone.* Or pass from_slide=True, which cuts cell patches"):
        cn.patches(sdata, "cell")
    with pytest.raises(SourceMovedError, match=r"is gone.* images\['slide_1_wsi'\] and 1 more"):
        cn.patches(sdata, "wsi")
    out, said = rewritten(sdata, tmp_path / "out.h5")
    assert_same_patches(out, truth)
    for level in ("cell", "tissue"):
        assert f"{level} patches are cut from the rebuilt slide, which gives one to cells that had none" in said
    assert "patches are not written" not in said
    with pytest.raises(SourceMovedError, match=r"elsewhere\.h5.*is gone"):
        cn.write(sdata, tmp_path / "out.h5", source=tmp_path / "elsewhere.h5", overwrite=True)
    out, said = rewritten(sdata["table"], tmp_path / "out.h5")
    assert all(f"{level} patches are not written: {own}" in said for level in ("cell", "tissue", "wsi"))
    with h5py.File(out) as root:
        assert "images" not in next(iter(root["slide_1"].values()))


def test_what_cannot_be_cut_exactly_is_not_written_and_every_kind_is_named(own: Path, tmp_path: Path) -> None:
    with h5py.File(own, "r+") as file:
        for number, cell in enumerate(file["slide_1"].values()):
            cell["images/tissue_patch"][...] = np.roll(cell["images/tissue_patch"][()], number % 7, axis=0)
    with quiet():
        sdata = cn.read(own, expression=False, ccc=False, mpp=1.0, **ONE_PIXEL_EACH)
        sdata.images["slide_1_wsi"].load()
        sdata.images["slide_2_wsi"].load()
    own.unlink()
    _, said = rewritten(sdata, tmp_path / "out.h5")
    assert "cell patches are not written" in said
    assert "tissue patches are not written" in said
    assert "wsi patches" not in said


def test_a_cropped_overview_is_not_written_as_that_of_the_slide(own: Path, tmp_path: Path) -> None:
    with quiet():
        sdata = cn.open_store(cn.convert(own, tmp_path / "own.zarr", expression=False, ccc=False, **ONE_PIXEL_EACH))
        expected = sdata.images["slide_1_wsi"].values
        box = {"min_coordinate": [200, 200], "max_coordinate": [900, 900]}
        crop = sd.bounding_box_query(sdata, ("x", "y"), target_coordinate_system="slide_1", **box)
    assert crop.images["slide_1_wsi"].shape < expected.shape
    out, _ = rewritten(crop, tmp_path / "out.h5")
    with quiet():
        again = cn.read(out, expression=False, ccc=False)
    np.testing.assert_array_equal(again.images["slide_1_wsi"].values, expected)
    own.unlink()
    out, said = rewritten(crop, tmp_path / "out.h5")
    assert "wsi patches are not written" in said
    with h5py.File(out) as root:
        assert "WSI_patch" not in next(iter(root["slide_1"].values())).get("images", ())


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda sdata: sdata, {"level": "wsi"}, "level='wsi' is no such patch"),
        (lambda sdata: sdata["table"], {}, "an AnnData holds no slide"),
        (lambda sdata: sdata.path, {}, "a path holds no slide"),
        (lambda sdata: sdata, {"source": "elsewhere.h5"}, "source= names a file"),
    ],
)
def test_only_cells_and_tissue_of_a_spatialdata_are_cut(
    stored: sd.SpatialData, change: Callable[[Any], Any], options: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=f"from_slide=True cuts cell and tissue patches .*: {words}\\."):
        cn.patches(change(stored), from_slide=True, **options)


def test_cell_patches_of_another_scale_are_refused(truth: cn.datasets.SyntheticTissue, tmp_path: Path) -> None:
    path = tmp_path / "magnified.h5"
    path.write_bytes(truth.path.read_bytes())
    with h5py.File(path, "r+") as file:
        for cell in (cell for slide in ("slide_1", "slide_2") for cell in file[slide].values()):
            patch = cell["images/cell_patch"]
            patch[...] = patch[16:48, 16:48].repeat(2, axis=0).repeat(2, axis=1)
    with quiet():
        sdata = cn.read(path, expression=False, ccc=False, images=("tissue",))
    with pytest.raises(LayoutError, match=r"at the same scale.*none of \d+ was.*leave from_slide out"):
        cn.patches(sdata, "cell", from_slide=True)
    np.testing.assert_array_equal(cut(sdata, "tissue"), plain(truth.path, truth.cells, "tissue"))


def _without_image(sdata: sd.SpatialData) -> None:
    del sdata.images["slide_2_tissue"]


def _turned(sdata: sd.SpatialData) -> None:
    turn = Affine([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    set_transformation(sdata.images["slide_2_tissue"], turn, "slide_2")


def _in_micrometres(sdata: sd.SpatialData) -> None:
    sdata["table"].obsm["spatial"] *= 0.5


def _without_provenance(sdata: sd.SpatialData) -> None:
    sdata.attrs = {}
    del sdata["table"].uns["cellnet_sd"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_image, "no image 'slide_2_tissue'"),
        (_turned, "'slide_2_tissue' no longer lies"),
        (_in_micrometres, "does not hold the centres"),
        (_without_provenance, "size of cell patches of slide_1 is not known"),
    ],
)
def test_what_no_longer_tells_where_patches_lie_is_refused_with_the_way_out(
    stored: sd.SpatialData, change: Callable[[sd.SpatialData], None], words: str
) -> None:
    change(stored)
    with pytest.raises(LayoutError, match=words) as caught:
        cn.patches(stored, "cell", from_slide=True)
    assert "from_slide" in str(caught.value) or "from the circles" in str(caught.value)


def test_a_slide_that_its_patches_disagree_about_is_warned_of(
    truth: cn.datasets.SyntheticTissue, tmp_path: Path
) -> None:
    path = tmp_path / "rolled.h5"
    path.write_bytes(truth.path.read_bytes())
    with h5py.File(path, "r+") as file:
        for number, cell in enumerate(file["slide_1"].values()):
            cell["images/tissue_patch"][...] = np.roll(cell["images/tissue_patch"][()], number % 7, axis=0)
    with quiet():
        sdata = cn.read(path, expression=False, ccc=False, mpp=1.0, images=("tissue",))
    with pytest.warns(CellNetWarning, match="Tissue patches of slide_1 disagree"):
        cn.patches(sdata, "tissue", from_slide=True)
