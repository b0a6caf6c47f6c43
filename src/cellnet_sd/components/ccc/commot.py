"""COMMOT's names for the links, so that its downstream functions run on the table.

They follow `commot.tl.spatial_communication` of COMMOT 0.0.3.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from cellnet_sd.naming import legal_name, legal_names

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

_SEPARATORS: Final = ("->", "→", "|", "~", "^", "&", ":", "/", "-", "_")
"""What may stand between ligand and receptor, the least ambiguous first."""

_COMPLEX: Final = re.compile(r"[_+]")
_DELIMITER: Final = "_"
_TOTAL: Final = "total-total"


class LigandReceptor(NamedTuple):
    """A ligand and a receptor; the subunits of a complex are joined by `_`, as COMMOT does."""

    ligand: str
    receptor: str


def split_pair(name: str, genes: Collection[str]) -> LigandReceptor | None:
    """Return ligand and receptor of a pair, `None` unless there is exactly one way to split its name.

    Both sides must be a gene, or a complex (`A_B`, `(A+B)`) of genes only: `HLA-DRA-CD4` is HLA-DRA and CD4.
    """
    for separator in _SEPARATORS:
        ways = _splits(name, separator, genes)
        if ways:
            return ways[0] if len(ways) == 1 else None
    return None


def _splits(name: str, separator: str, genes: Collection[str]) -> list[LigandReceptor]:
    parts = name.split(separator)
    sides = ((separator.join(parts[:i]), separator.join(parts[i:])) for i in range(1, len(parts)))
    found = ((_subunits(ligand, genes), _subunits(receptor, genes)) for ligand, receptor in sides)
    return [LigandReceptor(ligand, receptor) for ligand, receptor in found if ligand and receptor]


def _subunits(side: str, genes: Collection[str]) -> str | None:
    side = side.strip().removeprefix("(").removesuffix(")")
    if side in genes:
        return side
    subunits = [unit.strip() for unit in _COMPLEX.split(side)]
    return _DELIMITER.join(subunits) if all(unit in genes for unit in subunits) else None


def annotate_commot(
    adata: "AnnData",
    total: "sparse.csr_matrix",
    by_pair: Mapping[str, "sparse.csr_matrix"],
    *,
    genes: Iterable[str],
    database: str,
    distance_threshold: float | None = None,
) -> tuple[str, ...]:
    """Write the links to `adata` under COMMOT's names; return the pairs that could not be split.

    Written are

    - `obsp["commot-{db}-{L}-{R}"]` and `obsp["commot-{db}-total-total"]`: the very matrices given, no copies;
    - `obsm["commot-{db}-sum-sender"]` and `obsm["commot-{db}-sum-receiver"]`: data frames, float64, with the columns
      `s-{L}-{R}` and `s-total-total`, or `r-{L}-{R}` and `r-total-total`;
    - `uns["commot-{db}-info"]`: `df_ligrec` (`ligand`, `receptor`, `pathway`) and, if known, `distance_threshold`.

    A pair that is not split stands under its whole name, as COMMOT's pathways do, and not in `df_ligrec`. A split pair
    is the only one of its pathway, `{L}-{R}`: pathways are not stored.
    """
    known = frozenset(genes)
    split = {pair: split_pair(pair, known) for pair in by_pair}
    labels = _labels(split)
    prefix = f"commot-{legal_name(database)}"
    for pair, matrix in by_pair.items():
        adata.obsp[f"{prefix}-{labels[pair]}"] = matrix
    adata.obsp[f"{prefix}-{_TOTAL}"] = total
    matrices = {labels[pair]: matrix for pair, matrix in by_pair.items()}
    adata.obsm[f"{prefix}-sum-sender"] = _sums(adata, matrices, "s", axis=1)
    adata.obsm[f"{prefix}-sum-receiver"] = _sums(adata, matrices, "r", axis=0)
    info: dict[str, Any] = {"df_ligrec": _ligrec(split, labels)}
    if distance_threshold is not None:
        info["distance_threshold"] = float(distance_threshold)
    adata.uns[f"{prefix}-info"] = info
    return tuple(pair for pair, found in split.items() if found is None)


def _labels(split: Mapping[str, LigandReceptor | None]) -> dict[str, str]:
    """Return the name of each pair in COMMOT's keys: `{L}-{R}` if split, legal and unique."""
    names = [pair if found is None else f"{found.ligand}-{found.receptor}" for pair, found in split.items()]
    return dict(zip(split, legal_names(names, taken=(_TOTAL,)), strict=True))


def _sums(adata: "AnnData", matrices: Mapping[str, "sparse.csr_matrix"], letter: str, *, axis: int) -> "pd.DataFrame":
    import pandas as pd

    sums = {
        f"{letter}-{label}": np.asarray(matrix.sum(axis=axis, dtype=np.float64)).reshape(-1)
        for label, matrix in matrices.items()
    }
    frame = pd.DataFrame(sums, index=adata.obs_names)
    frame[f"{letter}-{_TOTAL}"] = frame.sum(axis=1)
    return frame


def _ligrec(split: Mapping[str, LigandReceptor | None], labels: Mapping[str, str]) -> "pd.DataFrame":
    import pandas as pd

    rows = [(*found, labels[pair]) for pair, found in split.items() if found is not None]
    return pd.DataFrame(rows, columns=["ligand", "receptor", "pathway"], dtype=object)
