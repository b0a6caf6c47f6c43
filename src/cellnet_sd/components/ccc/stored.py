"""The CCC of one cell, taken apart: its matrices, and the names stored with them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.ccc.layouts import MAX_PAIRS
from cellnet_sd.components.sparse import Coordinates, MalformedValueError, coordinates_from_raw, is_sparse_group
from cellnet_sd.components.text import text_list
from cellnet_sd.layout import LIGAND_KEYS, NEIGHBOUR_KEYS, PAIR_KEYS, RECEPTOR_KEYS
from cellnet_sd.sources.base import Raw

_MATRIX_KEYS: Final = ("matrix", "data", "values", "scores", "weights", "X")
"""Names of the one matrix of a group that holds it beside lists of names."""

LIST_KEYS: Final = frozenset((*NEIGHBOUR_KEYS, *PAIR_KEYS, *LIGAND_KEYS, *RECEPTOR_KEYS))


@dataclass(frozen=True, slots=True)
class Stored:
    """The CCC of one cell.

    Parameters
    ----------
    matrices
        One, or one per member of a group.
    members
        Name of the pair of each matrix; `None` unless CCC is a group of matrices.
    cells
        Names or numbers of the cells along the cell axis, if stored with it.
    pairs
        Names of the pairs along the pair axis, if stored with it.
    """

    matrices: tuple[Coordinates, ...]
    members: tuple[str, ...] | None = None
    cells: tuple[str, ...] | NDArray[np.int64] | None = None
    pairs: tuple[str, ...] | None = None


def stored_from_raw(raw: Raw) -> Stored:
    """Take the CCC of one cell apart.

    Raises
    ------
    MalformedValueError
        If a matrix is in no known encoding or contradicts itself.
    """
    holders = _unwrapped(raw)
    lists = {key: value for holder in reversed(holders) for key, value in _lists(holder).items()}
    cells, pairs = (_cells(lists), _pairs(lists)) if lists else (None, None)
    matrix = holders[-1]
    if _is_matrix(matrix):
        return Stored((coordinates_from_raw(matrix),), None, cells, pairs)
    members = dict(_members(matrix))
    if not members:
        msg = "the group is empty"
        raise MalformedValueError(msg)
    return Stored(tuple(members.values()), tuple(members), cells)


def _is_matrix(raw: Raw) -> bool:
    return raw.value is not None or is_sparse_group(raw)


def _unwrapped(raw: Raw) -> tuple[Raw, ...]:
    """Return a group and the one matrix it holds beside lists; the value alone if it is or holds no single matrix."""
    if _is_matrix(raw):
        return (raw,)
    matrices = [name for name, member in raw.members.items() if not _is_list(name, member)]
    if len(matrices) == 1 and matrices[0] in _MATRIX_KEYS:
        return (raw, raw.members[matrices[0]])
    return (raw,)


def _members(raw: Raw, prefix: str = "") -> Iterator[tuple[str, Coordinates]]:
    """Yield the matrices of a group by pair; below a ligand's group, by ligand-receptor."""
    for name, member in raw.members.items():
        if not prefix and _is_list(name, member):
            continue
        if not prefix and not _is_matrix(member):
            yield from _members(member, f"{name}-")
        else:
            yield prefix + name, _member(prefix + name, member)


def _member(name: str, raw: Raw) -> Coordinates:
    try:
        return coordinates_from_raw(raw)
    except MalformedValueError as error:
        msg = f"{name}: {error}"
        raise MalformedValueError(msg) from error


# --- lists stored with the matrix ------------------------------------------------------------------------------------


def _is_list(name: str, member: Raw) -> bool:
    return name in LIST_KEYS and member.value is not None


def _lists(raw: Raw) -> Mapping[str, Any]:
    attrs = {key: value for key, value in raw.attrs.items() if key in LIST_KEYS}
    members = {key: each.value for key, each in raw.members.items() if key in LIST_KEYS and not each.is_group}
    return attrs | members


def _cells(lists: Mapping[str, Any]) -> tuple[str, ...] | NDArray[np.int64] | None:
    for key in NEIGHBOUR_KEYS:
        if key in lists:
            return _names_or_numbers(key, np.asarray(lists[key]))
    return None


def _names_or_numbers(key: str, value: NDArray[Any]) -> tuple[str, ...] | NDArray[np.int64]:
    value = value.reshape(-1)
    if value.dtype.kind in "iu":
        return value.astype(np.int64)
    names = text_list(value)
    if names is None:
        msg = f"{key} holds {value.dtype}, where names of cells are expected"
        raise MalformedValueError(msg)
    return tuple(names)


def _pairs(lists: Mapping[str, Any]) -> tuple[str, ...] | None:
    for key in PAIR_KEYS:
        if key in lists:
            return _names(key, lists[key])
    ligands = next((_names(key, lists[key]) for key in LIGAND_KEYS if key in lists), None)
    receptors = next((_names(key, lists[key]) for key in RECEPTOR_KEYS if key in lists), None)
    if ligands is None or receptors is None:
        return None
    if len(ligands) * len(receptors) > MAX_PAIRS:
        msg = f"{len(ligands):,} ligands by {len(receptors):,} receptors are more than {MAX_PAIRS:,} pairs"
        raise MalformedValueError(msg)
    return tuple(f"{ligand}-{receptor}" for ligand in ligands for receptor in receptors)


def _names(key: str, value: Any) -> tuple[str, ...]:
    names = text_list(value)
    if names is None:
        msg = f"{key} is not a list of names"
        raise MalformedValueError(msg)
    return tuple(names)
