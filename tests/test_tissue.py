"""The slide rebuilt from tissue patches: against the slide the synthetic patches were cut from, and on real files."""

import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from spatialdata import bounding_box_query
from spatialdata.transformations import get_transformation

import cellnet_sd as cn
from cellnet_sd import keys
from cellnet_sd.components.images import Frame, Mosaic
from cellnet_sd.components.images.agreement import overlapping_pairs
from cellnet_sd.datasets import SyntheticTissue
from cellnet_sd.errors import CellNetWarning
from cellnet_sd.layout import Component
from counting import counted
from same_data import assert_true_slides, placed


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> SyntheticTissue:
    """Return a tissue of two slides of a few blocks each."""
    path = tmp_path_factory.mktemp("tissue") / "tissue.h5"
    return cn.datasets.synthetic(path, n_cells=1200, n_genes=40, n_slides=2, mpp=1.0, cell_area_um2=2500.0)


@contextmanager
def warned() -> Iterator[Callable[[], str]]:
    """Collect what this package warns of, and let upstream's deprecations pass."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: "\n".join(str(each.message) for each in caught if issubclass(each.category, CellNetWarning))


def test_every_pixel_that_a_patch_shows_is_that_of_the_slide(truth: SyntheticTissue) -> None:
    assert_true_slides(cn.read(truth.path, expression=False, ccc=False), truth, side=200)


def test_agreement_with_other_patches_is_reported(truth: SyntheticTissue) -> None:
    sdata = cn.read(truth.path, expression=False, ccc=False)
    found = json.loads(sdata.attrs[keys.PROVENANCE][keys.TISSUE_AGREEMENT])
    assert set(found) == set(truth.slides)
    for each in found.values():
        assert each["patches"] > 0
        assert each["pixels"] > 0
        assert each["differing"] == 0


def test_disagreement_is_a_warning_with_the_numbers(truth: SyntheticTissue, tmp_path: Path) -> None:
    path = tmp_path / "recoloured.h5"
    path.write_bytes(truth.path.read_bytes())
    with h5py.File(path, "r+") as file:
        for number, cell in enumerate(file["slide_1"].values()):
            cell["images/tissue_patch"][...] = np.roll(cell["images/tissue_patch"][()], number % 7, axis=0)
    with warned() as said:
        sdata = cn.read(path, expression=False, ccc=False, mpp=1.0)
    assert re.search(r"slide_1, rebuilt .* differs from \d+ patches .*% of the pixels, by up to \d+", said())
    assert json.loads(sdata.attrs[keys.PROVENANCE][keys.TISSUE_AGREEMENT])["slide_1"]["differing"] > 0


def _recoloured(path: Path, truth: SyntheticTissue, chosen: Callable[[int, float], int]) -> Path:
    """Write a tissue with its patches made brighter by what `chosen` gives for the number and x of a cell."""
    path.write_bytes(truth.path.read_bytes())
    with h5py.File(path, "r+") as file:
        for number, cell in enumerate(truth.cells.itertuples()):
            patch = file[f"{cell.slide}/{cell.name}/images/tissue_patch"]
            patch[...] = (patch[()].astype(int) + chosen(number, cell.x)).clip(0, 255).astype(np.uint8)
    return path


def _agreement(path: Path) -> tuple[dict[str, Any], str]:
    with warned() as said:
        sdata = cn.read(path, expression=False, ccc=False, mpp=1.0, images=("tissue",))
    return json.loads(sdata.attrs[keys.PROVENANCE][keys.TISSUE_AGREEMENT]), said()


def test_patches_that_are_all_used_are_compared_where_they_overlap(tmp_path: Path) -> None:
    sparse = cn.datasets.synthetic(
        tmp_path / "sparse.h5", n_cells=60, n_genes=20, n_slides=2, mpp=1.0, cell_area_um2=25_000.0, progress=False
    )
    found, said = _agreement(sparse.path)
    assert all(each["patches"] > 0 for each in found.values())
    assert not any(each["differing"] for each in found.values())
    found, said = _agreement(_recoloured(tmp_path / "odd.h5", sparse, lambda number, x: number % 5 * 30))
    assert all(each["differing"] > 0 for each in found.values())
    assert re.search(r"slide_2, rebuilt .* differs from \d+ patches where others overlap them", said)


def test_patches_none_of_which_overlap_are_said_to_be_shown_as_they_are(tmp_path: Path) -> None:
    lone = cn.datasets.synthetic(
        tmp_path / "lone.h5", n_cells=400, n_genes=20, n_slides=1, mpp=1.0, cell_area_um2=10_000.0, progress=False
    )
    with warned():
        x, y = cn.read_anndata(lone.path).obsm["spatial"].T
        far = [int(np.argmin(np.hypot(x - at * x.max(), y - np.median(y)))) for at in (0, 0.5, 1)]
        sdata = cn.read(lone.path, expression=False, ccc=False, cells=np.array(far), images=("tissue",))
    found = json.loads(sdata.attrs[keys.PROVENANCE][keys.TISSUE_AGREEMENT])
    assert [each["patches"] for each in found.values()] == [0]


def test_a_part_of_the_slide_that_is_off_is_found(truth: SyntheticTissue, tmp_path: Path) -> None:
    limit = truth.cells.x.quantile(0.88)
    found, said = _agreement(_recoloured(tmp_path / "part.h5", truth, lambda number, x: 40 * (x > limit)))
    assert all(0 < each["differing"] < each["pixels"] for each in found.values())
    assert len(re.findall("rebuilt from its tissue patches, differs", said)) == 2


def test_what_is_compared_is_spread_over_the_slide_and_bounded(truth: SyntheticTissue) -> None:
    rng = np.random.default_rng(0)
    corners = np.array([[row, column] for row in range(0, 40_000, 100) for column in range(0, 8_000, 100)])
    corners = np.concatenate([corners, rng.integers(0, 900, (5_000, 2))])  # one block is full
    frame = Frame(200, 200, 3, "uint8", ("",))
    mosaic = Mosaic.of(None, frame, np.arange(len(corners)), *corners.T)
    pairs = overlapping_pairs(mosaic)
    np.testing.assert_array_equal(pairs, overlapping_pairs(mosaic))
    apart = np.abs(corners[pairs[:, 0]] - corners[pairs[:, 1]])
    assert len(pairs) == 64
    assert (apart < 200).all()
    assert (apart.max(axis=1) > 0).all()
    blocks = corners[pairs[:, 0]] // mosaic.side
    assert len(np.unique(blocks, axis=0)) > 55
    assert set(blocks[:, 1]) == set(range(mosaic.grid[1]))
    assert set(blocks[:, 0] // 5) == set(range(-(-mosaic.grid[0] // 5)))


def test_a_view_reads_only_the_patches_it_needs(truth: SyntheticTissue) -> None:
    sdata = cn.read(truth.path, expression=False, ccc=False, images=("tissue",))
    element = sdata.images["slide_1_tissue"]["scale0"]["image"]
    n_patches = int((sdata.tables["table"].obs.slide == "slide_1").sum())
    with counted() as reads:
        element[:, :50, :50].values  # noqa: B018
    assert 0 < len(reads.rows(Component.TISSUE_PATCH)) < n_patches / 3
    with counted() as reads:
        cn.read(truth.path, expression=False, ccc=False, images=("wsi",))
    assert not reads.rows(Component.TISSUE_PATCH)


def test_windows_that_were_resized_are_placed_at_their_own_resolution(truth: SyntheticTissue, tmp_path: Path) -> None:
    path = tmp_path / "resized.h5"
    path.write_bytes(truth.path.read_bytes())
    with h5py.File(path, "r+") as file:
        for cell in (cell for slide in ("slide_1", "slide_2") for cell in file[slide].values()):
            patch = cell["images/tissue_patch"][()]
            del cell["images/tissue_patch"]
            cell["images/tissue_patch"] = patch[::2, ::2]
    with warned():
        sdata = cn.read(path, expression=False, ccc=False, mpp=1.0)
    element = sdata.images["slide_1_tissue"]
    matrix = get_transformation(element, "slide_1").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(np.diag(matrix)[:2], 2.0)
    height, width = element["scale0"]["image"].shape[1:]
    positions = truth.cells.loc[truth.cells.slide == "slide_1", ["x", "y"]].to_numpy()
    low, high = positions.min(axis=0) - 100, positions.max(axis=0) + 100
    np.testing.assert_allclose(matrix[:2, 2], low, atol=2)
    np.testing.assert_allclose(matrix[:2, 2] + 2 * np.array([width, height]), high, atol=4)


def test_a_position_beyond_any_slide_is_said_and_nothing_is_laid_out(truth: SyntheticTissue, tmp_path: Path) -> None:
    path = tmp_path / "far.h5"
    path.write_bytes(truth.path.read_bytes())
    with h5py.File(path, "r+") as file:
        cell = next(iter(file["slide_1"].values()))
        document = json.loads(cell["attributes.json"][()]) | {"Position_in_WSI": "(10000000, 10000000)"}
        del cell["attributes.json"]
        cell["attributes.json"] = json.dumps(document)
    with warned() as said:
        sdata = cn.read(path, expression=False, ccc=False, images=("tissue",))
    assert re.search(r"slide_1 is not rebuilt: its cells lie over [\d,]+ by [\d,]+ px", said())
    assert set(sdata.images) == {"slide_2_tissue"}


def test_spatialdata_queries_it(truth: SyntheticTissue) -> None:
    sdata = cn.read(truth.path, expression=False, ccc=False)
    box = bounding_box_query(
        sdata, axes=("x", "y"), min_coordinate=[200, 200], max_coordinate=[420, 460], target_coordinate_system="slide_1"
    )
    cut = box.images["slide_1_tissue"]["scale0"]["image"].values
    assert cut.shape[1:] == (260, 220)
    rebuilt, top, left = placed(sdata, "slide_1")
    expected = rebuilt[200 - top : 460 - top, 200 - left : 420 - left]
    np.testing.assert_array_equal(np.moveaxis(cut, 0, -1), expected)


@pytest.mark.parametrize("name", ["lung", "her2st"])
def test_real_slides_agree_with_every_patch_over_them(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    sdata = cn.read(path, expression=False, ccc=False)
    table = sdata.tables["table"]
    patches = cn.patches(sdata, "tissue")
    height, width = patches.shape[1:3]
    for slide in table.obs.slide.cat.categories:
        rebuilt, top, left = placed(sdata, slide)
        for at in np.flatnonzero(table.obs.slide == slide).tolist():
            x, y = np.floor(table.obsm["spatial"][at]).astype(int)
            rows = slice(y - height // 2 - top, y - height // 2 - top + height)
            columns = slice(x - width // 2 - left, x - width // 2 - left + width)
            np.testing.assert_array_equal(rebuilt[rows, columns], patches[at].values)
