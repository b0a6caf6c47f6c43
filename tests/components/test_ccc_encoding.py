"""CCC back into its stored form, and round again."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from ccc_cells import context_of, csr_raw, problems_of, random_links
from cellnet_sd.components.ccc import annotate, decode, detect, encode, select
from cellnet_sd.errors import CellNetWarning, LayoutError

PARTS = ("data", "indices", "indptr")


def table_of(raws, *, pairs, context, rows=None):
    every = np.arange(len(raws))
    links = decode(raws, every, detect(raws, every, context), context, problems_of())
    rows = every if rows is None else rows
    adata = ad.AnnData(sp.csr_matrix((len(rows), 1), dtype=np.float32))
    annotate(adata, select(links, rows, pairs=pairs))
    return adata


def stored_parts(raw):
    return {name: raw.members[name].value for name in PARTS}


def same(encoded, raw):
    expected = stored_parts(raw)
    for name in PARTS:
        found = getattr(encoded, name)
        assert found.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
    assert encoded.shape == tuple(raw.attrs["shape"])


def canonical_cells(n, n_pairs, seed):
    """Return cells in the canonical form, some of whose stored values are zero."""
    links = random_links(n, n_pairs, seed=seed)
    zeros = np.random.default_rng(seed).random(links.shape) < 0.05
    raws = []
    for row in range(n):
        stored = (links[:, row] != 0) | zeros[:, row]
        matrix = sp.csr_matrix(stored.astype(np.float32))
        matrix.data = links[:, row][stored]
        raws.append(csr_raw(matrix))
    return raws


@given(n=st.integers(2, 9), n_pairs=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_canonical_cells_come_back_byte_for_byte(n, n_pairs, seed):
    names = None if n_pairs == 1 else tuple(f"p{i}" for i in range(n_pairs))
    override = "cells" if n_pairs == 1 else "pairs_by_cells"
    raws = canonical_cells(n, n_pairs, seed)
    adata = table_of(raws, pairs=True, context=context_of([0] * n, pair_names=names, override=override))
    encoded = encode(adata)
    assert len(encoded) == n
    assert encoded.layout == override
    assert encoded.pairs == names
    for matrix, raw in zip(encoded, raws, strict=True):
        same(matrix, raw)


@given(seed=st.integers(0, 2**31), n_pairs=st.integers(1, 3))
def test_what_is_written_from_a_selection_reads_as_the_selection(seed, n_pairs):
    n = 7
    names = None if n_pairs == 1 else tuple(f"p{i}" for i in range(n_pairs))
    raws = canonical_cells(n, n_pairs, seed)
    rows = np.random.default_rng(seed).permutation(n)[:4]
    adata = table_of(raws, pairs=True, context=context_of([0] * n, pair_names=names), rows=rows)
    encoded = encode(adata)
    context = context_of([0] * 4, pair_names=encoded.pairs, override=encoded.layout)
    again = table_of([csr_raw(matrix) for matrix in encoded], pairs=True, context=context)
    assert set(again.obsp) == set(adata.obsp)
    for key in adata.obsp:
        np.testing.assert_array_equal(again.obsp[key].toarray(), adata.obsp[key].toarray())


def test_the_sum_alone_is_stored_as_one_row():
    raws = canonical_cells(5, 3, 1)
    adata = table_of(raws, pairs=False, context=context_of([0] * 5, pair_names=("a", "b", "c")))
    encoded = encode(adata)
    assert (encoded.layout, encoded.pairs, encoded[0].shape) == ("cells", None, (1, 5))
    stacked = sp.vstack(list(encoded)).toarray()
    np.testing.assert_array_equal(stacked, adata.obsp["ccc_connectivities"].toarray())


def test_scores_go_round():
    scores = np.array([[1.0, 0, 2], [0, 0, 0], [0, 3, 0], [4, 0, 0]], np.float32)
    raws = [csr_raw(row[:, None]) for row in scores]
    context = context_of([0] * 4, pair_names=("a", "b", "c"))
    encoded = encode(table_of(raws, pairs=False, context=context))
    assert (encoded.layout, encoded.pairs) == ("scores", ("a", "b", "c"))
    for matrix, raw in zip(encoded, raws, strict=True):
        same(matrix, raw)


def test_no_ccc_is_nothing_to_encode():
    assert encode(ad.AnnData(sp.csr_matrix((3, 1)))) is None


def test_unsorted_and_repeated_entries_of_a_user_become_canonical():
    adata = ad.AnnData(sp.csr_matrix((2, 1)))
    adata.obsp["ccc_connectivities"] = sp.csr_matrix(
        (np.array([1.0, 2, 4], np.float32), np.array([1, 0, 1]), np.array([0, 3, 3])), shape=(2, 2)
    )
    first = encode(adata)[0]
    assert (first.indices.tolist(), first.data.tolist()) == ([0, 1], [2, 5])
    assert adata.obsp["ccc_connectivities"].nnz == 3


def test_values_that_float32_cannot_hold_are_rounded_and_counted():
    adata = ad.AnnData(sp.csr_matrix((2, 1)))
    adata.obsp["ccc_connectivities"] = sp.csr_matrix(np.array([[0.1, 0.5], [0, 0]]))
    with pytest.warns(CellNetWarning, match="1 values of 'ccc_connectivities' are rounded"):
        assert encode(adata)[0].dtype == np.float32


def test_pairs_that_are_gone_are_an_error_that_names_the_way_out():
    adata = table_of(canonical_cells(5, 2, 0), pairs=True, context=context_of([0] * 5, pair_names=("a", "b")))
    del adata.obsp["ccc-a_connectivities"]
    with pytest.raises(LayoutError, match=r"no 'ccc-a_connectivities' .*Delete uns\['ccc_pair_keys'\]"):
        encode(adata)


def test_scores_and_names_that_disagree_are_an_error():
    adata = ad.AnnData(sp.csr_matrix((2, 1)))
    adata.obsm["ccc_pairs"] = sp.csr_matrix(np.ones((2, 3), np.float32))
    adata.uns["ccc_pairs"] = np.array(["a", "b"], dtype=object)
    with pytest.raises(LayoutError, match=r"3 columns .* names 2 pairs"):
        encode(adata)


def test_a_cell_outside_the_table_is_an_index_error():
    adata = table_of(canonical_cells(5, 1, 0), pairs=False, context=context_of([0] * 5))
    with pytest.raises(IndexError, match="cell 5 of 5"):
        encode(adata)[5]
