"""Markers, counts and panels."""

import numpy as np
import pytest
from scipy import sparse

from cellnet_sd.synthetic.catalogue import CELL_TYPES, SIGNALS
from cellnet_sd.synthetic.expression import draw_expression, make_panel


def make(n_genes=200, n_pairs=4, noise=1.0, n_cells=600):
    panel = make_panel(np.random.default_rng(0), n_genes, n_pairs)
    kind = np.arange(n_cells, dtype=np.int8) % len(CELL_TYPES)
    return panel, kind, draw_expression(np.random.default_rng(1), panel, kind, noise)


@pytest.mark.parametrize(("n_genes", "n_pairs"), [(6, 0), (26, 10), (60, 6), (300, 6), (2000, 10)])
def test_panels_have_the_size_asked_and_no_gene_twice(n_genes, n_pairs):
    panel = make_panel(np.random.default_rng(0), n_genes, n_pairs)
    assert len(panel.genes) == len(set(panel.genes)) == n_genes
    assert panel.signals == SIGNALS[:n_pairs]
    for signal in panel.signals:
        assert {signal.ligand, signal.receptor} <= set(panel.genes)
    for genes in panel.markers.values():
        assert genes
        assert set(genes) <= set(panel.genes)


def test_a_panel_too_small_is_refused():
    with pytest.raises(ValueError, match="need 18"):
        make_panel(np.random.default_rng(0), 17, 6)
    with pytest.raises(ValueError, match="0 to 10"):
        make_panel(np.random.default_rng(0), 300, 11)


def test_expression_is_sparse_log_normalised_float32():
    _, _, expression = make()
    assert sparse.issparse(expression)
    assert expression.format == "csr"
    assert expression.dtype == np.float32
    assert 0.05 < expression.nnz / np.prod(expression.shape) < 0.5
    np.testing.assert_allclose(np.expm1(expression.toarray()).sum(axis=1), 1e4, rtol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0])
def test_markers_are_high_in_their_type_only(noise):
    panel, kind, expression = make(noise=noise)
    for name, genes in panel.markers.items():
        own = kind == CELL_TYPES.index(name)
        for gene in genes:
            level = expression[:, [panel.genes.index(gene)]].toarray().ravel()
            assert level[own].mean() > 5 * level[~own].mean(), gene


def test_noise_spreads_the_counts():
    spread = []
    for noise in (0.0, 1.0):
        panel, kind, expression = make(noise=noise)
        own = [panel.genes.index(gene) for gene in panel.markers[CELL_TYPES[0]]]
        level = expression[kind == 0][:, own].toarray()
        spread.append(np.mean(level.std(axis=0) / level.mean(axis=0)))
    assert spread[1] > 1.2 * spread[0]
