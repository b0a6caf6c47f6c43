"""CCC on an AnnData: scanpy, squidpy and COMMOT find it."""

import json
import re

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from ccc_cells import random_links
from cellnet_sd.components.ccc import CCCLinks, CCCTables, annotate, select, split_pair

N = 60
GENES = ["VEGFA", "KDR", "HLA-DRA", "CD4", "TGFB1", "TGFBR1", "TGFBR2", "MIF"]
PAIRS = ("VEGFA-KDR", "HLA-DRA-CD4", "TGFB1-(TGFBR1+TGFBR2)", "wnt signalling", "WNT signalling", "a/b: c")


def links_of(dense, pairs):
    pair, sender, receiver = np.nonzero(dense)
    return CCCLinks(
        rows=np.arange(dense.shape[1]),
        sender=sender,
        receiver=receiver,
        pair=pair.astype(np.int32),
        value=dense[pair, sender, receiver],
        pairs=pairs,
        n_file=dense.shape[1],
    )


@pytest.fixture
def dense():
    return np.abs(random_links(N, len(PAIRS), density=0.05))


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(
        sp.csr_matrix(rng.random((N, len(GENES)), dtype=np.float32)),
        obs=pd.DataFrame({"kind": pd.Categorical(rng.choice(list("ab"), N))}, index=[f"c{i}" for i in range(N)]),
        var=pd.DataFrame(index=GENES),
    )
    adata.obsm["spatial"] = rng.random((N, 2)) * 100
    return adata


@pytest.fixture
def annotated(table, dense):
    annotate(table, select(links_of(dense, PAIRS), np.arange(N), pairs=True), distance_threshold=94.0)
    return table


def test_the_sum_and_the_pairs_are_where_they_should_be(annotated, dense):
    total = annotated.obsp["ccc_connectivities"]
    assert isinstance(total, sp.csr_matrix)
    assert total.dtype == np.float32
    np.testing.assert_array_equal(total.toarray(), dense.sum(axis=0))
    assert annotated.uns["ccc_pairs"].tolist() == list(PAIRS)
    pair_keys = json.loads(annotated.uns["ccc_pair_keys"])
    assert list(pair_keys) == list(PAIRS)
    for (pair, key), matrix in zip(pair_keys.items(), dense, strict=True):
        assert key.startswith("ccc-")
        assert key.endswith("_connectivities")
        np.testing.assert_array_equal(annotated.obsp[key].toarray(), matrix, err_msg=pair)
    assert pair_keys["HLA-DRA-CD4"] == "ccc-HLA-DRA-CD4_connectivities"


def test_distances_are_those_of_the_linked_cells(annotated):
    total, found = annotated.obsp["ccc_connectivities"], annotated.obsp["ccc_distances"]
    np.testing.assert_array_equal(total.indices, found.indices)
    row, col = total.nonzero()
    xy = annotated.obsm["spatial"]
    np.testing.assert_allclose(found[row, col].A1, np.hypot(*(xy[row] - xy[col]).T), rtol=1e-6)
    assert not np.shares_memory(total.indices, found.indices)


def test_without_positions_there_are_no_distances(table, dense):
    del table.obsm["spatial"]
    annotate(table, select(links_of(dense, PAIRS), np.arange(N)))
    assert set(table.obsp) == {"ccc_connectivities"}


def test_scanpy_runs_on_the_links(annotated):
    sc = pytest.importorskip("scanpy")
    sc.tl.leiden(annotated, neighbors_key="ccc", flavor="igraph", n_iterations=2, directed=False)
    sc.tl.umap(annotated, neighbors_key="ccc", maxiter=5)
    sc.tl.diffmap(annotated, neighbors_key="ccc", n_comps=3)
    sc.tl.paga(annotated, groups="kind", neighbors_key="ccc")
    assert annotated.obs["leiden"].notna().all()
    assert annotated.obsm["X_umap"].shape == (N, 2)
    assert annotated.uns["paga"]["connectivities"].shape == (2, 2)
    np.testing.assert_allclose(
        sc.metrics.morans_i(annotated.obsp["ccc_connectivities"], np.arange(N, dtype=float)),
        sc.metrics.morans_i(annotated, vals=np.arange(N, dtype=float), use_graph="ccc_connectivities"),
    )


def test_squidpy_runs_on_the_links(annotated):
    sq = pytest.importorskip("squidpy")
    sq.gr.nhood_enrichment(annotated, "kind", connectivity_key="ccc", n_perms=5, show_progress_bar=False, seed=0)
    sq.gr.interaction_matrix(annotated, "kind", connectivity_key="ccc", weights=True)
    sq.gr.centrality_scores(annotated, "kind", connectivity_key="ccc", show_progress_bar=False)
    sq.gr.spatial_autocorr(annotated, connectivity_key="ccc_connectivities", n_perms=None, show_progress_bar=False)
    kinds = annotated.obs["kind"] == "a"
    total = annotated.obsp["ccc_connectivities"].toarray()
    expected = [[total[np.ix_(a, b)].sum() for b in (kinds, ~kinds)] for a in (kinds, ~kinds)]
    np.testing.assert_allclose(annotated.uns["kind_interactions"], expected)
    assert annotated.uns["kind_nhood_enrichment"]["zscore"].shape == (2, 2)
    assert np.isfinite(annotated.uns["moranI"]["I"]).all()


def test_commot_finds_its_own_names(annotated, dense):
    """As `commot.tl.spatial_communication` of COMMOT 0.0.3 writes them."""
    labels = ["VEGFA-KDR", "HLA-DRA-CD4", "TGFB1-TGFBR1_TGFBR2"]
    for label, matrix in zip(labels, dense, strict=False):
        np.testing.assert_array_equal(annotated.obsp[f"commot-cellnet-{label}"].toarray(), matrix)
    np.testing.assert_array_equal(annotated.obsp["commot-cellnet-total-total"].toarray(), dense.sum(axis=0))
    for side, letter, axis in (("sender", "s", 1), ("receiver", "r", 0)):
        frame = annotated.obsm[f"commot-cellnet-sum-{side}"]
        assert list(frame.columns[:3]) == [f"{letter}-{label}" for label in labels]
        assert frame.columns[-1] == f"{letter}-total-total"
        assert (frame.dtypes == np.float64).all()
        assert (frame.index == annotated.obs_names).all()
        np.testing.assert_allclose(frame[f"{letter}-HLA-DRA-CD4"], dense[1].sum(axis=axis))
        np.testing.assert_allclose(frame[f"{letter}-total-total"], dense.sum(axis=(0, axis + 1)))
    info = annotated.uns["commot-cellnet-info"]
    assert info["distance_threshold"] == 94.0
    assert list(info["df_ligrec"].columns) == ["ligand", "receptor", "pathway"]
    assert info["df_ligrec"].iloc[1].tolist() == ["HLA-DRA", "CD4", "HLA-DRA-CD4"]
    assert info["df_ligrec"].iloc[2].tolist() == ["TGFB1", "TGFBR1_TGFBR2", "TGFB1-TGFBR1_TGFBR2"]
    # communication_impact looks up a column for each pathway of df_ligrec, and plot_cell_communication for each pair.
    assert {f"s-{pathway}" for pathway in info["df_ligrec"]["pathway"]} <= set(
        annotated.obsm["commot-cellnet-sum-sender"].columns
    )


def test_pairs_that_do_not_split_are_counted_and_keep_their_whole_name(table, dense):
    notes = annotate(table, select(links_of(dense, PAIRS), np.arange(N), pairs=True), database="my db")
    assert notes.unsplit == PAIRS[3:]
    assert "commot-my_db-wnt_signalling" in table.obsp
    assert len(table.uns["commot-my_db-info"]["df_ligrec"]) == 3
    assert "distance_threshold" not in table.uns["commot-my_db-info"]


def test_genes_left_out_of_the_table_still_split_pairs(table, dense):
    small = table[:, :1].copy()
    notes = annotate(small, select(links_of(dense, PAIRS), np.arange(N), pairs=True), genes=GENES)
    assert notes.unsplit == PAIRS[3:]


def test_every_key_is_legal_for_spatialdata_and_survives_writing(annotated, tmp_path):
    from spatialdata.models import TableModel

    TableModel.parse(annotated)
    for mapping in (annotated.obsp, annotated.obsm, annotated.uns):
        assert all(re.fullmatch(r"[\w.-]+", key) for key in mapping)
        assert len({key.lower() for key in mapping}) == len(mapping)
    annotated.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    assert json.loads(back.uns["ccc_pair_keys"]) == json.loads(annotated.uns["ccc_pair_keys"])
    assert list(back.uns["ccc_pairs"]) == list(PAIRS)
    pd.testing.assert_frame_equal(
        back.uns["commot-cellnet-info"]["df_ligrec"].reset_index(drop=True).astype(object),
        annotated.uns["commot-cellnet-info"]["df_ligrec"].astype(object),
        check_column_type=False,
    )


def test_scores_go_to_obsm_and_nothing_else_is_written(table):
    scores = sp.csr_matrix(np.eye(N, 2, dtype=np.float32))
    annotate(table, CCCTables(None, {}, scores, ("a", "b")))
    assert table.obsm["ccc_pairs"] is scores or (table.obsm["ccc_pairs"] != scores).nnz == 0
    assert list(table.uns) == ["ccc_pairs"]
    assert list(table.obsp) == []


def test_notes_tell_what_was_left_out(table, dense):
    tables = select(links_of(dense, PAIRS), np.arange(N))
    half = select(links_of(dense, PAIRS), np.arange(N // 2))
    assert annotate(table, tables).n_dropped == 0
    assert annotate(table[: N // 2].copy(), half).n_dropped == np.count_nonzero(dense[:, : N // 2, N // 2 :])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("VEGFA-KDR", ("VEGFA", "KDR")),
        ("VEGFA_KDR", ("VEGFA", "KDR")),
        ("VEGFA|KDR", ("VEGFA", "KDR")),
        ("VEGFA -> KDR", ("VEGFA", "KDR")),
        ("VEGFA - KDR", ("VEGFA", "KDR")),
        ("HLA-DRA-CD4", ("HLA-DRA", "CD4")),
        ("CD4-HLA-DRA", ("CD4", "HLA-DRA")),
        ("HLA-DRA_CD4", ("HLA-DRA", "CD4")),
        ("TGFB1-TGFBR1_TGFBR2", ("TGFB1", "TGFBR1_TGFBR2")),
        ("TGFB1 - (TGFBR1+TGFBR2)", ("TGFB1", "TGFBR1_TGFBR2")),
        ("MIF-MIF", ("MIF", "MIF")),
        ("TGFB1_TGFBR1_TGFBR2", None),
        ("VEGFA-KDR-MIF", None),
        ("VEGFA", None),
        ("WNT-FZD", None),
        ("VEGFA-", None),
        ("", None),
    ],
)
def test_a_pair_splits_where_both_sides_are_genes_and_only_one_way_is_open(name, expected):
    assert split_pair(name, frozenset(GENES)) == expected
