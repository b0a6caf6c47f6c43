"""Links between cells: the one form that every reading of CCC is decoded to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.layout import CCC_REACH_UM

if TYPE_CHECKING:
    from scipy import sparse

NO_RECEIVER: Final = -1
"""Stands for the receiver of a score that is stored without one."""

NO_PAIR: Final = -1
"""Stands for the pair of a signal that is stored without one."""

REACH_LIMIT_UM: Final = 1.1 * CCC_REACH_UM
"""Links longer than this, in µm, are out of reach: the published radius with some slack."""


def _none() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class CCCLinks:
    """Signals from cell to cell, one per stored entry, explicit zeros included.

    Parameters
    ----------
    rows
        Rows in the file of the cells that were decoded.
    sender, receiver
        Rows in the file, int32, of which memory holds twice as many. `NO_RECEIVER` for scores, which have none.
    pair
        int32 code into `pairs`, or `NO_PAIR`.
    value
        float32; float64 if a value is stored so, or is an integer that float32 cannot hold.
    pairs
        Names of the pairs.
    mentioned
        Keys (`sender * n_file + receiver`) of the links that a cell stores of other cells, each once, ascending.
    n_file
        Number of cells of the file.
    n_inexact
        Number of stored values that float64 may not hold exactly: integers beyond 2**53, longer floats.
    is_scores
        Whether the entries are scores of cells, without receivers.
    """

    rows: NDArray[np.int64]
    sender: NDArray[np.int32]
    receiver: NDArray[np.int32]
    pair: NDArray[np.int32]
    value: NDArray[Any]
    pairs: tuple[str, ...]
    n_file: int
    mentioned: NDArray[np.int64] = field(default_factory=_none)
    n_inexact: int = 0
    is_scores: bool = False

    def __len__(self) -> int:
        return len(self.sender)

    @property
    def n_unstored(self) -> int:
        """Number of links that only another cell stores: their sender was decoded and does not have them."""
        if not len(self.mentioned):
            return 0
        told = self.mentioned[np.isin(self.mentioned // self.n_file, self.rows)]
        return len(np.setdiff1d(told, self.sender.astype(np.int64) * self.n_file + self.receiver))


def concat(parts: Sequence[CCCLinks]) -> CCCLinks:
    """Return the links of several batches of one file as one; pairs are matched by name.

    Raises
    ------
    ValueError
        If `parts` is empty.
    """
    codes: dict[str, int] = {}
    for part in parts:
        for name in part.pairs:
            codes.setdefault(name, len(codes))
    return CCCLinks(
        rows=np.concatenate([part.rows for part in parts]),
        sender=np.concatenate([part.sender for part in parts]),
        receiver=np.concatenate([part.receiver for part in parts]),
        pair=np.concatenate([_recoded(part, codes) for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        pairs=tuple(codes),
        n_file=max((part.n_file for part in parts), default=0),
        mentioned=np.unique(np.concatenate([part.mentioned for part in parts])),
        n_inexact=sum(part.n_inexact for part in parts),
        is_scores=any(part.is_scores for part in parts),
    )


def _recoded(part: CCCLinks, codes: Mapping[str, int]) -> NDArray[np.int32]:
    # The last place answers for NO_PAIR, which is -1.
    lookup = np.array([*(codes[name] for name in part.pairs), NO_PAIR], dtype=np.int32)
    return lookup[part.pair]


# --- onto a selection of cells ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CCCTables:
    """The links among selected cells, as matrices whose rows send and whose columns receive.

    Parameters
    ----------
    total
        Sum over the pairs, CSR `(n, n)`; `None` for scores.
    by_pair
        One CSR `(n, n)` per pair, by name; empty unless asked for.
    scores
        CSR `(n, pairs)` of scores without receivers; `None` for links.
    pairs
        Names of the pairs.
    n_dropped
        Number of links from selected cells to cells left out.
    n_unstored
        Number of links of decoded cells that only other cells store; they are not in the matrices.
    """

    total: "sparse.csr_matrix | None"
    by_pair: Mapping[str, "sparse.csr_matrix"]
    scores: "sparse.csr_matrix | None"
    pairs: tuple[str, ...]
    n_dropped: int = 0
    n_unstored: int = 0


def select(links: CCCLinks, rows: Sequence[int] | NDArray[np.int64], *, pairs: bool = False) -> CCCTables:
    """Return `links` as matrices over the cells at `rows`, in that order.

    Links whose receiver is left out are dropped and counted; explicit zeros stay.

    Parameters
    ----------
    links
        What was decoded.
    rows
        Rows in the file, each once, in any order.
    pairs
        Whether to make a matrix for each pair beside the sum.
    """
    position = _positions(rows, links.n_file)
    sender = position[links.sender]
    if links.is_scores:
        kept = sender >= 0
        scores = _csr(links.value[kept], sender[kept], links.pair[kept], (len(rows), len(links.pairs)))
        return CCCTables(None, {}, scores, links.pairs)
    receiver = position[links.receiver]
    kept = (sender >= 0) & (receiver >= 0)
    n_dropped = int(np.count_nonzero((sender >= 0) & (receiver < 0)))
    inside = (links.value[kept], sender[kept], receiver[kept])
    total = _csr(*inside, (len(rows), len(rows)))
    by_pair = _by_pair(*inside, links.pair[kept], links.pairs, len(rows)) if pairs else {}
    return CCCTables(total, by_pair, None, links.pairs, n_dropped, links.n_unstored)


def _positions(rows: Sequence[int] | NDArray[np.int64], n_file: int) -> NDArray[np.int32]:
    position = np.full(n_file, -1, dtype=np.int32)
    position[np.asarray(rows, dtype=np.int64)] = np.arange(len(rows), dtype=np.int32)
    return position


def _csr(value: NDArray[Any], row: NDArray[Any], col: NDArray[Any], shape: tuple[int, int]) -> "sparse.csr_matrix":
    from scipy import sparse

    matrix = sparse.coo_matrix((value, (row, col)), shape=shape).tocsr()
    matrix.sort_indices()
    return matrix


def _by_pair(
    value: NDArray[Any],
    sender: NDArray[np.int32],
    receiver: NDArray[np.int32],
    pair: NDArray[np.int32],
    names: Sequence[str],
    n: int,
) -> dict[str, "sparse.csr_matrix"]:
    order = np.argsort(pair, kind="stable")
    ends = np.searchsorted(pair[order], np.arange(len(names) + 1))
    parts = [order[start:end] for start, end in pairwise(ends)]
    return {
        name: _csr(value[part], sender[part], receiver[part], (n, n)) for name, part in zip(names, parts, strict=True)
    }


# --- how far they reach ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reach:
    """How far links reach.

    Parameters
    ----------
    n_links
        Number of links with a receiver.
    n_known
        Number of those between cells of one slide, both with a position.
    n_across
        Number of links from one slide to another.
    n_within
        Number of known links no longer than the limit.
    longest
        Longest known distance, in the unit of the positions; NaN if none is known.
    """

    n_links: int
    n_known: int
    n_across: int
    n_within: int
    longest: float

    @property
    def share(self) -> float:
        """Share of the links that can be judged, those across slides among them, which are within the limit."""
        judged = self.n_known + self.n_across
        return self.n_within / judged if judged else float("nan")


def reach(
    links: CCCLinks,
    positions: NDArray[np.float64],
    slide_of_row: NDArray[np.int32],
    *,
    limit: float = REACH_LIMIT_UM,
) -> Reach:
    """Return how many links are within `limit`: with another order of rows than the file's, few are.

    Parameters
    ----------
    links
        What was decoded.
    positions
        Positions of all cells of the file, float64 `(n_file, 2)`, in µm for the default limit; NaN where unknown.
    slide_of_row
        Slide code of each row.
    limit
        Longest plausible distance, in the unit of `positions`.
    """
    linked = links.receiver != NO_RECEIVER
    sender, receiver = links.sender[linked], links.receiver[linked]
    across = slide_of_row[sender] != slide_of_row[receiver]
    distance = np.linalg.norm(positions[sender] - positions[receiver], axis=1)[~across]
    distance = distance[np.isfinite(distance)]
    return Reach(
        n_links=len(sender),
        n_known=len(distance),
        n_across=int(np.count_nonzero(across)),
        n_within=int(np.count_nonzero(distance <= limit)),
        longest=float(distance.max(initial=-np.inf)) if len(distance) else float("nan"),
    )
