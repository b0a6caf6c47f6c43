"""Locations as Arrow columns, and back: how an index, and the parts of one that is being built, keep them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from cellnet_sd.layout import Component
from cellnet_sd.sources.locations import CHUNK_COLUMNS, MEMBER_COLUMNS, Layout, Located, Ragged

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX: Final = "at:"
_FLAT: Final = {"code": np.int32, "address": np.int64, "size": np.int64}


class LocatedWords(msgspec.Struct, frozen=True):
    """What is not columnar of where a component is."""

    layouts: tuple[Layout, ...]
    names: tuple[str, ...] = ()


def words_of(located: Located) -> LocatedWords:
    """Return what is not columnar."""
    return LocatedWords(located.layouts, located.names)


def arrow_columns(component: Component, located: Located) -> dict[str, "pa.Array"]:
    """Return the columns of where a component is, by name."""
    import pyarrow as pa

    start = f"{PREFIX}{component}:"
    columns = {f"{start}{name}": pa.array(getattr(located, name)) for name in _FLAT}
    for what, ragged in (("member", located.members), ("chunk", located.chunks)):
        if ragged is not None:
            offsets = pa.array(ragged.offsets)
            columns |= {
                f"{start}{what}:{name}": pa.LargeListArray.from_arrays(offsets, pa.array(column))
                for name, column in ragged.columns.items()
            }
    return columns


def is_of(component: Component) -> Callable[[str], bool]:
    """Return whether a column of this name says where a component is."""
    return lambda name: name.startswith(f"{PREFIX}{component}:")


def located_from(component: Component, table: "pa.Table", words: LocatedWords) -> Located:
    """Return where a component is, from its columns."""
    start = f"{PREFIX}{component}:"
    flat = {name: table.column(f"{start}{name}").to_numpy().astype(dtype, copy=False) for name, dtype in _FLAT.items()}
    members = _ragged(table, f"{start}member:", MEMBER_COLUMNS)
    chunks = _ragged(table, f"{start}chunk:", CHUNK_COLUMNS)
    return Located(words.layouts, flat["code"], flat["address"], flat["size"], words.names, members, chunks)


def _ragged(table: "pa.Table", start: str, columns: Mapping[str, Any]) -> Ragged | None:
    names = [f"{start}{name}" for name in columns]
    if names[0] not in table.column_names:
        return None
    lists = [_one(table.column(name)) for name in names]
    offsets = np.asarray(lists[0].offsets).astype(np.int64) if len(lists[0]) else np.zeros(1, np.int64)
    values = {
        name: np.asarray(each.values).astype(dtype, copy=False)[offsets[0] : offsets[-1]]
        for (name, dtype), each in zip(columns.items(), lists, strict=True)
    }
    return Ragged(offsets - offsets[0], values)


def _one(column: "pa.ChunkedArray") -> "pa.Array":
    combined = column.combine_chunks()
    return combined.chunk(0) if hasattr(combined, "num_chunks") and combined.num_chunks else combined
