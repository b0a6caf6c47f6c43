"""Gene expression by cell type: overdispersed counts, log-normalised, sparse throughout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.synthetic.catalogue import CELL_TYPES, MARKERS, SIGNALS, Signal

if TYPE_CHECKING:
    from scipy import sparse

_TARGET: Final = 1e4
_BATCH_VALUES: Final = 1 << 22
_MARKER_COUNT: Final = 4.0
_SIGNAL_COUNT: Final = 1.5
_LEAK: Final = 0.02
_SIGNAL_LEAK: Final = 0.008
_DISPERSION: Final = 0.4
_LIBRARY_SPREAD: Final = 0.3


@dataclass(frozen=True, slots=True)
class Panel:
    """The genes, and how much of each a cell type expresses.

    Parameters
    ----------
    genes
        Symbols: markers, then ligands and receptors, then `GENE0001` and so on.
    markers
        Genes that one cell type expresses far above all others, by cell type.
    signals
        The ligand-receptor pairs that are planted.
    counts
        (types, genes) mean count per cell.
    """

    genes: tuple[str, ...]
    markers: Mapping[str, tuple[str, ...]]
    signals: tuple[Signal, ...]
    counts: NDArray[np.float64]


def make_panel(rng: np.random.Generator, n_genes: int, n_pairs: int) -> Panel:
    """Return a panel of `n_genes`; one too small for all markers has fewer of each type.

    Raises
    ------
    ValueError
        There are not so many pairs, or not enough genes for them and one marker per type.
    """
    if not 0 <= n_pairs <= len(SIGNALS):
        msg = f"n_pairs={n_pairs} is not within 0 to {len(SIGNALS)}."
        raise ValueError(msg)
    signals = SIGNALS[:n_pairs]
    least = 2 * n_pairs + len(CELL_TYPES)
    if n_genes < least:
        msg = f"n_genes={n_genes} is too few: {n_pairs} pairs and a marker per cell type need {least}."
        raise ValueError(msg)
    per_type = (n_genes - 2 * n_pairs) // len(CELL_TYPES)
    markers = {name: MARKERS[name][:per_type] for name in CELL_TYPES}
    named = [gene for genes in markers.values() for gene in genes]
    named += [gene for signal in signals for gene in (signal.ligand, signal.receptor)]
    genes = (*named, *(f"GENE{number:04}" for number in range(1, n_genes - len(named) + 1)))
    return Panel(genes, markers, signals, _mean_counts(rng, genes, markers, signals))


def _mean_counts(
    rng: np.random.Generator,
    genes: tuple[str, ...],
    markers: Mapping[str, tuple[str, ...]],
    signals: tuple[Signal, ...],
) -> NDArray[np.float64]:
    column = {gene: number for number, gene in enumerate(genes)}
    counts = rng.lognormal(-1.2, 1.0, len(genes)) * rng.lognormal(0, 0.2, (len(CELL_TYPES), len(genes)))
    expressed = [(name, gene, _MARKER_COUNT, _LEAK) for name, own in markers.items() for gene in own]
    expressed += [(signal.sender, signal.ligand, _SIGNAL_COUNT, _SIGNAL_LEAK) for signal in signals]
    expressed += [(signal.receiver, signal.receptor, _SIGNAL_COUNT, _SIGNAL_LEAK) for signal in signals]
    for name, gene, count, leak in expressed:
        level = count * rng.lognormal(0, 0.25)
        counts[:, column[gene]] = leak * level
        counts[CELL_TYPES.index(name), column[gene]] = level
    return counts


def draw_expression(
    rng: np.random.Generator, panel: Panel, kind: NDArray[np.int8], noise: float
) -> "sparse.csr_matrix":
    """Return log-normalised expression of cells of the types `kind`, CSR float32, (n, genes)."""
    from scipy import sparse

    per_batch = max(1, _BATCH_VALUES // len(panel.genes))
    batches = [
        _log_normalised(_draw_counts(rng, panel.counts[kind[start : start + per_batch]], noise))
        for start in range(0, len(kind), per_batch)
    ]
    return sparse.vstack(batches, format="csr", dtype=np.float32)


def _draw_counts(rng: np.random.Generator, mean: NDArray[np.float64], noise: float) -> "sparse.csr_matrix":
    from scipy import sparse

    mean *= rng.lognormal(0, _LIBRARY_SPREAD, (len(mean), 1))
    if noise > 0:
        spread = _DISPERSION * noise
        mean *= rng.gamma(1 / spread, spread, mean.shape)
    return sparse.csr_matrix(rng.poisson(mean).astype(np.float32))


def _log_normalised(counts: "sparse.csr_matrix") -> "sparse.csr_matrix":
    """Return counts scaled to 10,000 per cell, then log(1 + x); a cell without counts stays empty."""
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.repeat(_TARGET / np.maximum(totals, 1), np.diff(counts.indptr))
    counts.data = np.log1p(counts.data * scale).astype(np.float32)
    return counts
