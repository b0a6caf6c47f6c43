"""CCC of the two real files: links, reach, and the stored form again."""

import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from ccc_cells import context_of, problems_of, raw_of
from cellnet_sd.components.ccc import CCCLinks, annotate, decode, detect, encode, reach, select


def real_cells(path: Path, container: str, slide_size: int):
    """Return the stored CCC of a file, the context, and the positions in µm."""
    with h5py.File(path) as file:
        group = file[container]
        names = list(group)
        raws = [raw_of(group[name]["CCC"]) for name in names]
        places = [json.loads(group[name]["attributes.json"][()])["Position_in_WSI"].strip("()") for name in names]
        pairs = group.attrs.get("ccc_pairs")
        mpp = file.attrs.get("mpp", 200 / 274)
    slides = np.arange(len(names)) // slide_size
    context = context_of(slides.tolist(), names, pair_names=None if pairs is None else tuple(pairs))
    return raws, context, np.array([[float(v) for v in place.split(",")] for place in places]) * mpp


def check_round_trip(raws, tables):
    adata = ad.AnnData(sp.csr_matrix((len(raws), 1), dtype=np.float32))
    annotate(adata, tables)
    for matrix, raw in zip(encode(adata), raws, strict=True):
        for name in ("data", "indices", "indptr"):
            assert getattr(matrix, name).tobytes() == raw.members[name].value.tobytes()
        assert matrix.shape == tuple(raw.attrs["shape"])


def test_her2st_is_one_row_over_the_file(her2st):
    raws, context, um = real_cells(her2st, "/", 110)
    rows = np.arange(220)
    layout = detect(raws[::20], rows[::20], context)
    assert layout.describe() == "the signal of the cell to all cells of the file (ccc_layout='cells')"
    links = decode(raws, rows, layout, context, problems_of())
    found = reach(links, um, context.slide_of_row)
    assert (found.n_known, found.n_across, found.share) == (len(links), 0, 1.0)
    assert found.longest < 215
    tables = select(links, rows)
    assert tables.total.shape == (220, 220)
    assert tables.total.nnz == sum(len(raw.members["data"].value) for raw in raws) > 0
    check_round_trip(raws, tables)


def test_lung_is_seven_pairs_over_the_file(lung):
    raws, context, um = real_cells(lung, "NCBI858", 200)
    rows = np.arange(200)
    layout = detect(raws[::20], rows[::20], context)
    assert layout.describe() == "7 pairs by all cells of the file (ccc_layout='pairs_by_cells')"
    links = decode(raws, rows, layout, context, problems_of())
    assert links.pairs[4] == "HLA-DRA-CD4"
    assert reach(links, um, context.slide_of_row).longest <= 200
    tables = select(links, rows, pairs=True)
    dense = np.stack(
        [
            sp.csr_matrix(tuple(raw.members[k].value for k in ("data", "indices", "indptr")), shape=(7, 200)).toarray()
            for raw in raws
        ],
        axis=1,
    )
    for matrix, expected in zip(tables.by_pair.values(), dense, strict=True):
        np.testing.assert_array_equal(matrix.toarray(), expected)
    np.testing.assert_allclose(tables.total.toarray(), dense.sum(axis=0), rtol=1e-6)
    check_round_trip(raws, tables)


def test_another_order_of_rows_is_out_of_reach(lung):
    raws, context, um = real_cells(lung, "NCBI858", 200)
    links = decode(raws, np.arange(200), detect(raws, range(200), context), context, problems_of())
    wrong = np.random.default_rng(0).permutation(200)
    assert reach(links, um[wrong], context.slide_of_row).share < 0.9


def test_reach_counts_what_it_cannot_judge():
    links = CCCLinks(
        rows=np.arange(4),
        sender=np.array([0, 0, 1, 2, 3]),
        receiver=np.array([1, 2, 3, 2, -1]),
        pair=np.full(5, -1, np.int32),
        value=np.ones(5, np.float32),
        pairs=(),
        n_file=4,
    )
    um = np.array([[0, 0], [300, 0], [0, 30], [np.nan, 0]])
    found = reach(links, um, np.array([0, 0, 1, 0]))
    assert (found.n_links, found.n_known, found.n_across, found.n_within, found.longest) == (4, 2, 1, 1, 300)
    assert found.share == pytest.approx(1 / 3)
    nothing = reach(links, np.full((4, 2), np.nan), np.zeros(4, int))
    assert np.isnan(nothing.longest)
    assert np.isnan(nothing.share)
