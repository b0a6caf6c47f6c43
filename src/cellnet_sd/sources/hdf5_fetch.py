"""Reading components of cells through h5py: the reference that every faster way is held against."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py

from cellnet_sd.layout import Component
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.hdf5_objects import DAMAGE, open_file, open_member, read_object


def fetch_cells(path: Path, component: Component, groups: Sequence[str]) -> list[Raw | Unreadable | None]:
    """Return the stored values of a component of the cells whose groups are at `groups`; see `Source.fetch`."""
    if not groups:
        return []
    return list(each_cell(path, component, groups))


def each_cell(path: Path, component: Component, groups: Sequence[str]) -> Iterator[Raw | Unreadable | None]:
    """Yield what `fetch_cells` returns, one value after the other."""
    with open_file(path) as file:
        for group in groups:
            yield _read(file, f"{group}/{component}")


def _read(file: h5py.File, path: str) -> Raw | Unreadable | None:
    try:
        node = open_member(h5py.h5g.open(file.id, b"/"), path)
        return None if node is None else read_object(node, with_attrs=path.endswith(Component.CCC))
    except DAMAGE as error:
        return Unreadable(error)
