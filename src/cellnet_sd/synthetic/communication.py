"""Ligand-receptor signalling between cells within reach."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.layout import CCC_REACH_UM
from cellnet_sd.synthetic.catalogue import Signal
from cellnet_sd.synthetic.expression import Panel

if TYPE_CHECKING:
    from scipy import sparse

_DECAY_UM: Final = 60.0
_RECEIVERS: Final = 12
"""A sender's ligand is taken up by so many of the nearest cells that express the receptor."""

Links = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


def signal_links(xy: NDArray[np.int64], expression: "sparse.csr_matrix", panel: Panel, mpp: float) -> list[Links]:
    """Return, for each planted pair, who sends, who receives and how strongly, within one slide.

    The signal is ligand * receptor * exp(-distance / 60 µm), from each cell that expresses the ligand to the 12 nearest
    other cells that express the receptor, up to 200 µm away. The planted types express them most, and not they alone:
    who signals to whom has to be found among weaker signals.
    """
    columns = expression.tocsc()
    return [_links((xy * mpp).astype(np.float64), columns, panel, signal) for signal in panel.signals]


def _links(um: NDArray[np.float64], columns: "sparse.csc_matrix", panel: Panel, signal: Signal) -> Links:
    from scipy.spatial import cKDTree

    ligand = _level(columns, panel.genes.index(signal.ligand))
    receptor = _level(columns, panel.genes.index(signal.receptor))
    senders, receivers = np.flatnonzero(ligand), np.flatnonzero(receptor)
    if not len(senders) or not len(receivers):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    nearest = np.arange(1, _RECEIVERS + 1)
    distance, found = cKDTree(um[receivers]).query(um[senders], k=nearest, distance_upper_bound=CCC_REACH_UM)
    sends, place = np.nonzero(np.isfinite(distance) & (distance > 0))
    i, j = senders[sends], receivers[found[sends, place]]
    strength = ligand[i] * receptor[j] * np.exp(-distance[sends, place] / _DECAY_UM)
    return i, j, strength.astype(np.float32)


def _level(columns: "sparse.csc_matrix", gene: int) -> NDArray[np.float32]:
    return columns[:, [gene]].toarray().ravel()


class SignalRows(Sequence["sparse.csr_matrix"]):
    """The signals each cell sends, as one (pairs, cells of the file) matrix per cell, made when asked for.

    Parameters
    ----------
    links
        Senders, receivers and strengths of each pair, as rows of the file.
    n_cells
        Cells of the file.
    """

    def __init__(self, links: Sequence[Links], n_cells: int) -> None:
        from scipy import sparse

        self._shape = (len(links), n_cells)
        rows = np.concatenate([sender * len(links) + pair for pair, (sender, _, _) in enumerate(links)])
        columns = np.concatenate([receiver for _, receiver, _ in links])
        strength = np.concatenate([values for _, _, values in links])
        self._all = sparse.csr_matrix((strength, (rows, columns)), shape=(len(links) * n_cells, n_cells))
        self._all.sort_indices()

    def __len__(self) -> int:
        return self._shape[1]

    @overload
    def __getitem__(self, row: int) -> "sparse.csr_matrix": ...
    @overload
    def __getitem__(self, row: slice) -> "list[sparse.csr_matrix]": ...
    def __getitem__(self, row: int | slice) -> "sparse.csr_matrix | list[sparse.csr_matrix]":
        from scipy import sparse

        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        pairs = self._shape[0]
        indptr = self._all.indptr[row * pairs : (row + 1) * pairs + 1]
        part = slice(indptr[0], indptr[-1])
        matrix = sparse.csr_matrix(self._shape, dtype=np.float32)
        matrix.data, matrix.indices, matrix.indptr = self._all.data[part], self._all.indices[part], indptr - indptr[0]
        return matrix
