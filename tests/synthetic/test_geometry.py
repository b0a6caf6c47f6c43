"""Where things lie on a synthetic slide."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from cellnet_sd.synthetic.catalogue import CELL_TYPES, DOMAINS, MIXTURES
from cellnet_sd.synthetic.cells import place_cells
from cellnet_sd.synthetic.geometry import block_side, ellipse_radius, make_tissue, whole_blocks

N = 3_000


@pytest.fixture(scope="module", params=[1.0, 0.5])
def placed(request):
    tissue = make_tissue(np.random.default_rng(1), N, 100.0, request.param)
    return tissue, place_cells(np.random.default_rng(2), tissue, N, request.param), request.param


def test_mixtures_are_shares():
    np.testing.assert_allclose(np.sum(MIXTURES, axis=1), 1)
    assert np.shape(MIXTURES) == (len(DOMAINS), len(CELL_TYPES))


def test_the_tissue_is_one_piece_of_the_area_asked(placed):
    tissue, _, mpp = placed
    assert ndimage.label(tissue.inside)[1] == 1
    area = tissue.inside.mean() * tissue.shape[0] * tissue.shape[1] * mpp**2
    assert area == pytest.approx(N * 100, rel=0.15)


def test_the_outline_is_no_rectangle(placed):
    tissue, _, _ = placed
    rows, columns = np.nonzero(tissue.inside)
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert 0.4 < tissue.inside.sum() / box < 0.85


def test_every_domain_is_there(placed):
    _, cells, _ = placed
    shares = np.bincount(cells.domain, minlength=len(DOMAINS)) / N
    assert shares.min() > 0.1


def test_cells_lie_in_the_tissue_apart_and_out_of_vessels(placed):
    tissue, cells, mpp = placed
    near = ndimage.binary_dilation(tissue.inside, iterations=2)  # rounding to pixels may cross the outline
    assert tissue.at(near, cells.xy).all()
    distance = cKDTree(cells.xy).query(cells.xy, k=[2])[0] * mpp
    assert distance.min() > 2
    assert np.quantile(distance, 0.02) > 6
    assert (ellipse_radius(cells.xy, tissue.vessels) > 0.9).all()


def test_cells_are_in_scan_order(placed):
    _, cells, _ = placed
    order = np.lexsort((cells.xy[:, 0], cells.xy[:, 1]))
    np.testing.assert_array_equal(order, np.arange(N))


def test_domains_mix_types_as_the_catalogue_says(placed):
    _, cells, _ = placed
    for domain, mixture in enumerate(MIXTURES):
        here = cells.kind[cells.domain == domain]
        shares = np.bincount(here, minlength=len(CELL_TYPES)) / len(here)
        np.testing.assert_allclose(shares, mixture, atol=0.12)  # vessels' rims are endothelial


@pytest.mark.parametrize(("height", "width"), [(100, 200), (256, 256), (257, 100), (3001, 2777)])
def test_slides_are_whole_blocks(height, width):
    shape = whole_blocks(height, width)
    block = block_side(shape)
    assert all(length % block == 0 for length in shape)
    assert max(shape) // block <= 256
    assert 0 <= shape[0] - height < block
    assert 0 <= shape[1] - width < block
