"""The order of the rows: what every index into a file counts by."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.errors import LayoutError
from cellnet_sd.layout import ORDER_KEYS
from cellnet_sd.natural_order import natural_order
from cellnet_sd.sources.facts import Stated

CellOrder = Literal["creation", "stored", "natural", "name"]
"""`creation`: tracked by the file; `stored`: a list of names in it; `natural`: `Cell_9`, `Cell_10`; `name`: plain."""

WORDS: Mapping[str, str] = {
    "creation": "the order the cells were written in, which the file tracks",
    "stored": "the order of a list of names in the file",
    "natural": "natural order of names (Cell_9 before Cell_10); the file tracks no order",
    "name": "plain order of names",
}


def row_order(
    path: Path,
    names: Sequence[str] | pd.Series,
    containers: Sequence[str] | pd.Categorical,
    stated: Mapping[str, Stated],
    override: CellOrder | None = None,
) -> tuple[NDArray[np.int64], CellOrder]:
    """Return the rows of a walk in the order of the file, and what that order is.

    Parameters
    ----------
    path
        The file, for messages.
    names, containers
        Of each cell, in the order of the walk: tracked order where it is tracked, natural order elsewhere.
    stated
        What the root and each container state.
    override
        The caller's `cell_order=`.

    Raises
    ------
    LayoutError
        If the order asked for is not in the file.
    """
    if override is not None and override not in get_args(CellOrder):
        msg = f"cell_order={override!r} is not one of {', '.join(map(repr, get_args(CellOrder)))}."
        raise LayoutError(msg)
    containers = pd.Categorical(containers, categories=pd.unique(np.asarray(containers, dtype=object)))
    is_tracked = [stated[container].tracked for container in containers.categories]
    tracked = all(is_tracked)
    stored = None if tracked and override is None else _stored_rows(names, containers, stated)
    order = override or ("creation" if tracked else "natural" if stored is None else "stored")
    if (order == "creation" and not tracked) or (order == "stored" and stored is None):
        msg = f"{path} holds no {order} order of its cells: leave cell_order= out, or pass 'natural' or 'name'."
        raise LayoutError(msg)
    if order == "creation":
        return np.arange(len(names), dtype=np.int64), order
    if order == "stored" and stored is not None:
        return stored, order
    if override is None and not any(is_tracked):  # the walk sorted them
        return np.argsort(containers.codes, kind="stable").astype(np.int64), order
    return _by_name(names, containers, plain=order == "name"), order


def _by_name(names: Sequence[str] | pd.Series, containers: pd.Categorical, *, plain: bool) -> NDArray[np.int64]:
    """Return the rows sorted by name within each container, containers as they were met."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pa.array(names, pa.large_string())
    texts = pa.concat_arrays(texts.chunks) if isinstance(texts, pa.ChunkedArray) else texts
    order = pc.sort_indices if plain else natural_order
    parts = [rows[np.asarray(order(texts.take(rows)))] for _, rows in _rows_of(containers)]
    return np.concatenate([*parts, np.empty(0, np.int64)]).astype(np.int64)


def _stored_rows(
    names: Sequence[str] | pd.Series, containers: pd.Categorical, stated: Mapping[str, Stated]
) -> NDArray[np.int64] | None:
    """Return the rows in the order of a list at the root, or of one list in each container."""
    if at_root := _lists(stated.get("", Stated(tracked=False))):
        bare = list(names)
        paths = [f"{container}/{name}".lstrip("/") for container, name in zip(containers, bare, strict=True)]
        for listed in at_root:
            for labels in (paths, bare):
                if (rows := _permutation(listed, labels)) is not None:
                    return rows
    if not all(_lists(stated[container]) for container in containers.categories):
        return None
    names = list(names)
    parts = [_within(rows, names, stated[container]) for container, rows in _rows_of(containers)]
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found and len(found) == len(parts) else None


def _within(rows: NDArray[np.int64], names: Sequence[str], stated: Stated) -> NDArray[np.int64] | None:
    for listed in _lists(stated):
        if (order := _permutation(listed, [names[row] for row in rows])) is not None:
            return rows[order]
    return None


def _rows_of(containers: pd.Categorical) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield each container with its rows, containers as they were met."""
    rows = np.argsort(containers.codes, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(containers.codes, minlength=len(containers.categories)))
    yield from zip(containers.categories, np.split(rows, ends[:-1]), strict=False)


def _lists(stated: Stated) -> list[list[str]]:
    return [value for key in ORDER_KEYS if isinstance(value := stated.values.get(key), list)]


def _permutation(listed: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64] | None:
    """Return where each of `listed` stands among `labels`, if the two are the same names, each once."""
    at = {label: row for row, label in enumerate(labels)}
    if len(listed) != len(labels) or len(at) != len(labels) or at.keys() != set(listed):
        return None
    return np.array([at[label] for label in listed], dtype=np.int64)
