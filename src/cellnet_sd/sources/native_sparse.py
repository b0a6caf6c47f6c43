"""Sparse matrices of many cells at once, where each is a group of plainly stored lists, as AnnData has them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.sources.base import Compressed
from cellnet_sd.sources.locations import MEMBER_COLUMNS, Layout, Located, flags_of
from cellnet_sd.sources.native_values import Bytes

Ints = NDArray[np.int64]
Members = Mapping[str, Mapping[str, NDArray[Any]]]
"""Codes and addresses of the lists of each name, an entry per cell."""
LISTS: Final = ("data", "indices", "indptr")


def compressed(stored: Bytes, located: Located) -> Compressed:
    """Return the matrices of those cells of a batch that hold three lists as they are, of the same three types.

    Parameters
    ----------
    stored
        The file.
    located
        Where the component is in each cell of the batch.
    """
    at = _with_three_members(located)
    members = _lists_of(located, at)
    at, members = _alike(located.layouts, at, members)
    if not len(at):
        return Compressed.none()
    lists = [_gathered(stored, located.layouts, members, name) for name in LISTS]
    attrs = [{name: value.value() for name, value in layout.attrs} for layout in located.layouts]
    (data, n_data), (indices, n_indices), (indptr, n_indptr) = lists
    return Compressed(at, located.code[at], attrs, data, n_data, indices, n_indices, indptr, n_indptr)


def plain_cells(located: Located) -> Ints:
    """Return which cells of a batch `compressed` takes, which it knows before it looks at their bytes."""
    at = _with_three_members(located)
    return _alike(located.layouts, at, _lists_of(located, at))[0]


def _with_three_members(located: Located) -> Ints:
    """Return the cells whose component is a group of three members, and sound."""
    if located.members is None:
        return np.empty(0, np.int64)
    is_group = flags_of(located.code, (each.storage == "group" and not each.reason for each in located.layouts))
    return np.flatnonzero(is_group & (np.diff(located.members.offsets) == len(LISTS)))


def _lists_of(located: Located, at: Ints) -> Members:
    """Return where the list of each name is in each cell, as columns; -1 as its code where there is none."""
    if located.members is None:
        return {}
    number = {name: code for code, name in enumerate(located.names)}
    rows = located.members.offsets[:-1][at][:, None] + np.arange(len(LISTS))
    columns = {name: located.members.columns[name][rows] for name in MEMBER_COLUMNS}
    found = {}
    for name in LISTS:
        here = (columns["name"] == number.get(name, -1)) & (columns["parent"] < 0)
        place = np.arange(len(at)), here.argmax(axis=1)
        own = {key: columns[key][place] for key in ("code", "address")}
        found[name] = own | {"code": np.where(here.any(axis=1), own["code"], -1)}
    return found


def _alike(layouts: Sequence[Layout], at: Ints, members: Members) -> tuple[Ints, Members]:
    """Keep the cells whose lists are all plain, and of the types that the first such cell has."""
    kinds = {dtype: kind for kind, dtype in enumerate(dict.fromkeys(map(_plain_dtype, layouts)))}
    kind = np.array([*(kinds[_plain_dtype(layout)] for layout in layouts), -1])
    kind[:-1][[_plain_dtype(layout) == "" for layout in layouts]] = -1
    types = np.array([kind[own["code"]] for own in members.values()]).reshape(len(members), len(at))
    kept = (types >= 0).all(axis=0)
    if kept.any():
        kept &= (types == types[:, [int(np.argmax(kept))]]).all(axis=0)
    chosen = {name: {key: column[kept] for key, column in own.items()} for name, own in members.items()}
    return at[kept], chosen


def _plain_dtype(layout: Layout) -> str:
    """Return the type of a list of numbers that is stored as it is, or has no elements; else nothing."""
    whole = layout.storage in ("compact", "contiguous") or (layout.storage == "none" and not layout.n_elements)
    is_list = layout.kind == "number" and layout.shape is not None and len(layout.shape) == 1
    return layout.dtype if whole and is_list and not layout.reason else ""


def _gathered(stored: Bytes, layouts: Sequence[Layout], members: Members, name: str) -> tuple[NDArray[Any], Ints]:
    """Return the elements of one list of each cell, one after the other, and how many each has."""
    code, address = (members[name][key] for key in ("code", "address"))
    n_elements = _by_layout(layouts, lambda layout: layout.n_elements)[code]
    dtype = np.dtype(layouts[int(code[0])].dtype)
    address = np.where(n_elements > 0, address, 0)
    data, _ = stored.gathered(address, n_elements * dtype.itemsize)
    return data.view(dtype), n_elements


def _by_layout(layouts: Sequence[Layout], value: Callable[[Layout], int]) -> Ints:
    return np.array([value(layout) for layout in layouts], np.int64)
