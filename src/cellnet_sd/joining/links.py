"""CCC of several files as that of one: no cell has links to cells of another file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellnet_sd.components.ccc import CCCTables
from cellnet_sd.errors import LayoutError
from cellnet_sd.matrix import GeneColumns

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def joined_links(tables: Sequence[CCCTables | None], sizes: Sequence[int], files: str) -> CCCTables:
    """Return the CCC of several files as that of one.

    Parameters
    ----------
    tables
        What is selected of each file, `None` where it has no CCC.
    sizes
        Cells of each file.
    files
        What messages call the files.

    Raises
    ------
    LayoutError
        If some files store links and others scores, or scores of pairs without names.
    """
    there = [table for table in tables if table is not None]
    has_links = there[0].total is not None
    if any((table.total is not None) != has_links for table in there):
        msg = f"{files}: some store links between cells, others scores without receivers. Pass ccc=False."
        raise LayoutError(msg)
    pairs = tuple(dict.fromkeys(pair for table in there for pair in table.pairs))
    by_pair = dict.fromkeys(pair for table in there for pair in table.by_pair)
    return CCCTables(
        total=_blocks([table and table.total for table in tables], sizes) if has_links else None,
        by_pair={pair: _blocks([table and table.by_pair.get(pair) for table in tables], sizes) for pair in by_pair},
        scores=None if has_links else _scores(tables, sizes, pairs, files),
        pairs=pairs,
        n_dropped=sum(table.n_dropped for table in there),
        n_unstored=sum(table.n_unstored for table in there),
    )


def _blocks(matrices: Sequence["csr_matrix | None"], sizes: Sequence[int]) -> "csr_matrix":
    from scipy import sparse

    filled = [
        sparse.csr_matrix((size, size), dtype=np.float32) if matrix is None else matrix
        for matrix, size in zip(matrices, sizes, strict=True)
    ]
    return sparse.csr_matrix(sparse.block_diag(filled, format="csr"))


def _scores(tables: Sequence[CCCTables | None], sizes: Sequence[int], pairs: Sequence[str], files: str) -> "csr_matrix":
    """Return scores with a column per pair of any file."""
    from scipy import sparse

    place = {pair: at for at, pair in enumerate(pairs)}
    blocks = []
    for table, size in zip(tables, sizes, strict=True):
        if table is None or table.scores is None:
            blocks.append(sparse.csr_matrix((size, len(pairs)), dtype=np.float32))
            continue
        if len(table.pairs) != table.scores.shape[1]:
            msg = f"{files}: scores of pairs that are named nowhere cannot be joined. Pass ccc=False."
            raise LayoutError(msg)
        to = np.array([place[pair] for pair in table.pairs], dtype=np.int32)
        blocks.append(GeneColumns(len(pairs), None, to).of(table.scores))
    return sparse.csr_matrix(sparse.vstack(blocks, format="csr"))
