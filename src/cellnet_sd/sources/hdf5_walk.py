"""Finding the cells of an HDF5 file: every group that holds one of the layout's cell markers, at any depth."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5p

from cellnet_sd import layout
from cellnet_sd.components.text import text_list
from cellnet_sd.errors import CorruptFileError
from cellnet_sd.natural_order import natural_key
from cellnet_sd.sources.allowance import MAX_PATH
from cellnet_sd.sources.facts import Stated
from cellnet_sd.sources.hdf5_limits import attr_names
from cellnet_sd.sources.hdf5_objects import ObjectError, open_member, read_attr, read_dataset

_MAX_DEPTH = 32
STATED = frozenset(
    {
        *layout.GENE_KEYS,
        *layout.ORDER_KEYS,
        *layout.MPP_KEYS,
        *layout.WSI_SCALE_KEYS,
        *layout.PAIR_KEYS,
        layout.GENE_ID_KEY,
        layout.FEATURE_TYPE_KEY,
        layout.CCC_LAYOUT_KEY,
        layout.SLIDE_NAMES_KEY,
    }
)


class CellGroup(NamedTuple):
    """One cell: where it lies, and its open group or the reason why it cannot be opened."""

    container: str
    name: str
    group: h5g.GroupID | str


@dataclass
class Walk:
    """A walk over the groups of a file, in tracked order where a group tracks it, else in natural order of names."""

    file: h5py.File
    stated: dict[str, Stated] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    _visited: set[int] = field(default_factory=set)

    def cells(self) -> Iterator[CellGroup]:
        """Yield every cell.

        Raises
        ------
        CorruptFileError
            If groups are nested without end, or a path is too long.
        """
        yield from self._container(self.file.id, "", 0)

    def _container(self, node: Any, path: str, depth: int) -> Iterator[CellGroup]:
        group = h5g.open(node, b"/") if depth == 0 else node
        if depth > _MAX_DEPTH:
            msg = f"{self.file.filename}: groups are nested more than {_MAX_DEPTH} deep at {path!r}."
            raise CorruptFileError(msg)
        if len(path.encode()) > MAX_PATH:
            msg = f"{self.file.filename}: the path of a group is longer than {MAX_PATH:,} bytes: {path[:80]!r}…"
            raise CorruptFileError(msg)
        address = h5o.get_info(group).addr
        if address in self._visited:  # a hard link back to a group that was met before
            self.unknown[f"{path} (a second link to a group)"] += 1
            return
        self._visited.add(address)
        names, tracked = ordered_names(group)
        values, others = stated_attributes(group)
        self.stated[path] = Stated(tracked, values)
        self.unknown.update(f"attribute {name} of {path or 'the root'}" for name in others)
        for name in names:
            yield from self._child(group, path, name, depth)

    def _child(self, group: h5g.GroupID, path: str, name: bytes, depth: int) -> Iterator[CellGroup]:
        try:
            text = name.decode()
            node = None if _is_soft(group, name) else open_member(group, text)
        except UnicodeDecodeError:
            yield CellGroup(path, name.decode("latin-1"), "its name is not UTF-8")
            return
        except ObjectError as error:
            yield CellGroup(path, text, str(error))
            return
        if isinstance(node, h5d.DatasetID):
            self._note_dataset(path, text, node)
        elif not isinstance(node, h5g.GroupID):  # soft links at this level are second names
            self.unknown[f"{path}/{text}"] += 1
        elif is_cell(node):
            yield CellGroup(path, text, node)
        else:
            yield from self._container(node, f"{path}/{text}".lstrip("/"), depth + 1)

    def _note_dataset(self, path: str, name: str, dataset: h5d.DatasetID) -> None:
        if name not in STATED:
            self.unknown[f"{path}/{name}"] += 1
            return
        try:
            self.stated[path].values |= numbers_and_names({name: read_dataset(dataset)})
        except ObjectError as error:
            msg = f"{self.file.filename}: {path}/{name}: {error}."
            raise CorruptFileError(msg) from error


def is_cell(group: h5g.GroupID) -> bool:
    """Whether `group` is a cell's."""
    markers = [marker.value.encode() for marker in layout.CELL_MARKERS]
    return any(group.links.exists(marker) or h5a.exists(group, marker) for marker in markers)


def ordered_names(group: h5g.GroupID) -> tuple[list[bytes], bool]:
    """Return the names in `group` in tracked creation order, else in natural order; and whether it was tracked."""
    tracked = bool(group.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED)
    names = list(group)  # h5py iterates in creation order where it is tracked
    if not tracked:
        names.sort(key=lambda name: natural_key(name.decode(errors="replace")))
    return names, tracked


def stated_attributes(group: h5g.GroupID) -> tuple[dict[str, Any], list[str]]:
    """Return what the attributes of a container state, and the names of those that the layout does not know.

    Raises
    ------
    ObjectError
        If one that it knows cannot be read.
    """
    names = attr_names(group)
    values = {name: read_attr(group, name) for name in names if name in STATED}
    return numbers_and_names(values), [name for name in names if name not in STATED]


def stated_datasets(group: h5g.GroupID) -> dict[str, Any]:
    """Return what datasets in a container state; for containers of too many links to go through them.

    Raises
    ------
    ObjectError
        If one cannot be read.
    """
    found: dict[str, Any] = {}
    for name in sorted(STATED):
        if not group.links.exists(name.encode()) or _is_soft(group, name.encode()):
            continue
        node = open_member(group, name)
        if isinstance(node, h5d.DatasetID):
            found |= numbers_and_names({name: read_dataset(node)})
    return found


def _is_soft(group: h5g.GroupID, name: bytes) -> bool:
    return bool(group.links.get_info(name).type == h5l.TYPE_SOFT)


def numbers_and_names(values: dict[str, Any]) -> dict[str, Any]:
    """Return those of `values` that the layout knows, as plain numbers and lists of names."""
    stated: dict[str, Any] = {}
    for key in values.keys() & STATED:
        array = np.asarray(values[key])
        if array.size == 1 and array.dtype.kind in "iuf":
            value = array.item()  # a long double is no Python float, as all others are
            stated[key] = float(value) if array.dtype.kind == "f" else value
        elif (names := text_list(array)) is not None:
            stated[key] = names
    return stated
