"""From what the structure reader found in a batch of cells to where everything is: codes of layouts, and lists."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.layout import Component
from cellnet_sd.sources.allowance import MAX_INFLATION, no_array, too_large
from cellnet_sd.sources.locations import CHUNK_COLUMNS, Filter, Layout, Located, Place, Ragged
from cellnet_sd.sources.native.codes import Kind, Reason, Storage
from cellnet_sd.sources.native.columns import Objects
from cellnet_sd.sources.native.scan import Batch, NativeScan
from cellnet_sd.sources.native_attributes import AttributeSet, BatchAttributes
from cellnet_sd.sources.native_grouping import combined, combined_lists, runs_of_equals
from cellnet_sd.sources.native_values import Bytes, damage

Ints = NDArray[np.int64]
_STORAGE: Final = {
    Storage.NONE: "none",
    Storage.COMPACT: "compact",
    Storage.CONTIGUOUS: "contiguous",
    Storage.SINGLE: "single",
    Storage.CHUNKED: "chunked",
}
_OUTSIDE: Final = {
    Reason.EXTERNAL_STORAGE: "external storage (bytes in another file) is not followed",
    Reason.EXTERNAL_IMAGES: "'images' is a link to another file, which is not followed",
    Reason.VIRTUAL: "a virtual dataset points to other datasets, which is not followed",
}
UNKNOWN_ATTRIBUTES: Final = "attributes of a type that is not known"
"""Why h5py reads an object that is known but for its attributes."""
_NAME: Final = 64
"""Bytes that a name takes in memory at least."""
_COPIES: Final = 4
"""Of the lists of a sparse matrix, while its entries are checked and sorted."""


@dataclass(frozen=True)
class LocatedBatch:
    """The objects of a batch of cells, as columns of places.

    Parameters
    ----------
    scan, batch
        The file, and what was found in it.
    stored
        Its bytes.
    """

    scan: NativeScan
    batch: Batch
    stored: Bytes

    def __len__(self) -> int:
        return len(self.batch.groups)

    @cached_property
    def attributes(self) -> BatchAttributes:
        """The HDF5 attributes of the cells and of all that lies in them."""
        return BatchAttributes(self.scan.known, self.batch, self.stored)

    def located(self, component: Component) -> Located:
        """Return where a component of every cell is."""
        objects, slot = self.batch.components[component], 1 + list(Component).index(component)
        n = len(self)
        attrs = self.attributes.sets.of_slot[slot * n : (slot + 1) * n]
        names = self._member_names[0][slot * n : (slot + 1) * n]
        return self._located(objects, slot, attrs, names, component)

    def own(self) -> Located:
        """Return where the objects are that stand for cells; of groups, without what lies in them."""
        none = np.full(len(self), -1, np.int32)
        return self._located(self.batch.groups, 0, none, none, "object")

    def _located(
        self, objects: Objects, slot: int, attrs: NDArray[np.int32], names: NDArray[np.int32], what: str
    ) -> Located:
        rows = self._rows_of(slot)
        keep_attrs = what == Component.CCC
        layouts, code = self._layouts(objects, attrs, names, what, keep_attrs=keep_attrs)
        known = dict(zip(layouts, range(len(layouts)), strict=True))
        inside = self.batch.members.objects.take(rows)
        members = self._members(slot, rows, inside, known, keep_attrs=keep_attrs) if len(rows) else None
        address, size = self._place(objects)
        chunks, address = self._chunks(objects, slot, rows, inside, address)
        if members is not None and chunks is not None:
            members = _with_chunks(members, inside)
        return Located(tuple(known), code, address, size, self._names, members, chunks)

    def loose(self, rows: NDArray[np.intp]) -> list[Place | None]:
        """Return where members are that lie in cells without being a component."""
        objects = self.batch.members.objects.take(rows)
        none = np.full(len(rows), -1, np.int32)
        layouts, code = self._layouts(objects, none, none, "member", keep_attrs=False)
        columns = {name: getattr(self.batch.chunks, name) for name in CHUNK_COLUMNS}
        address, size = self._place(objects)
        places = zip(code.tolist(), address.tolist(), size.tolist(), strict=True)
        return [Place(layouts[at], where, n, columns) if at >= 0 else None for at, where, n in places]

    # --- layouts -----------------------------------------------------------------------------------------------------

    def _layouts(
        self, objects: Objects, attrs: NDArray[np.int32], names: NDArray[np.int32], what: str, *, keep_attrs: bool
    ) -> tuple[list[Layout], NDArray[np.int32]]:
        """Return the distinct layouts of objects, and each one's code; -1 where there is none."""
        is_group = objects.kind == Kind.GROUP
        attrs = np.where(is_group | keep_attrs, attrs, -1)
        keys = (objects.kind, objects.reason, objects.storage, objects.dtype, objects.shape, objects.fill)
        more = (objects.filters, objects.chunk_shape, objects.mask, objects.text_size >= 0, attrs, names)
        codes, firsts = combined(*keys, *more)
        layouts = [self._layout(objects, int(at), int(attrs[at]), int(names[at]), what) for at in firsts]
        codes = self._too_large(objects, codes, layouts, what)
        known: dict[Layout, int] = {}
        final = [-1 if layout is None else known.setdefault(layout, len(known)) for layout in layouts]
        return list(known), np.array([*final, -1], np.int32)[codes]

    def _layout(self, objects: Objects, at: int, attrs: int, names: int, what: str) -> Layout | None:
        kind, reason = Kind(int(objects.kind[at])), Reason(int(objects.reason[at]))
        if kind is Kind.ABSENT:
            return None
        if kind is Kind.EXTERNAL:
            link = f"{what.rpartition('/')[2]!r} is a link to another file, which is not followed"
            return Layout("unreadable", reason=_OUTSIDE.get(reason, link))
        if kind is Kind.DAMAGED:
            return Layout("unreadable", reason=damage(reason.name))
        stated = self.attributes.sets.sets[attrs] if attrs >= 0 else ()
        if kind is Kind.FALLBACK or stated is None:
            return Layout("h5py", reason=reason.name if kind is Kind.FALLBACK else UNKNOWN_ATTRIBUTES)
        if kind is Kind.GROUP:
            return Layout("group", attrs=stated, members=self._member_names[1][names] if names >= 0 else ())
        return self._dataset_layout(objects, at, stated)

    def _dataset_layout(self, objects: Objects, at: int, attrs: AttributeSet) -> Layout:
        known = self.scan.known
        dtype, shape = known.dtypes.values[objects.dtype[at]], known.shapes.values[objects.shape[at]]
        assert dtype is not None  # else it is left to libhdf5
        fill, steps, chunk = int(objects.fill[at]), int(objects.filters[at]), int(objects.chunk_shape[at])
        filters = (known.filters.values[steps] or ()) if steps >= 0 else ()
        return Layout(
            "text" if objects.text_size[at] >= 0 else _STORAGE[Storage(int(objects.storage[at]))],
            dtype.kind,
            dtype.dtype.str,
            shape,
            (known.fills.values[fill] or b"") if fill >= 0 else b"",
            tuple(Filter(step.number, step.values) for step in filters),
            int(objects.mask[at]),
            known.chunk_shapes.values[chunk] if chunk >= 0 else (),
            attrs,
            reason=no_array(shape, dtype.dtype.itemsize),
        )

    def _too_large(
        self, objects: Objects, codes: NDArray[np.int32], layouts: list[Layout | None], what: str
    ) -> NDArray[np.int32]:
        """Give datasets that are larger than their stored bytes can be a layout of their own, which says so.

        WSI images, which cells are meant to share, count once; entries of matrices as often as they are copied.
        """
        declared = np.array([0 if layout is None else self._declared(layout) for layout in layouts], np.float64)[codes]
        stored, file_size = objects.size, self.stored.buf.size
        own = ~pd.Series(objects.header).duplicated().to_numpy() if what == Component.WSI_PATCH else None
        copies = _COPIES if what == "member" else 1
        for row in np.flatnonzero(too_large(declared, stored, file_size, own=own, copies=copies)).tolist():
            layout = layouts[codes[row]]
            assert layout is not None  # it declares something
            reason = f"{int(declared[row]):,} bytes are declared but only {int(stored[row]):,} are stored"
            if declared[row] <= MAX_INFLATION * min(stored[row], file_size):
                reason = f"with those of other cells, more bytes are declared than a file of {file_size:,} bytes stores"
            layouts.append(Layout("unreadable", layout.kind, layout.dtype, layout.shape, reason=reason))
            codes[row] = len(layouts) - 1
        return codes

    def _declared(self, layout: Layout) -> int:
        """Return how many bytes a dataset decodes to; names are objects of Python, each larger than it is stored."""
        if layout.storage in ("group", "h5py", "unreadable") or layout.shape is None:
            return 0
        is_reference = layout.kind.startswith("vlen")
        width = self.stored.reference_size if is_reference else np.dtype(layout.dtype).itemsize
        is_name = (is_reference or layout.kind == "text") and layout.n_elements > 1
        return math.prod(layout.shape) * (max(width, _NAME) if is_name else width)

    def _place(self, objects: Objects) -> tuple[Ints, Ints]:
        """Return address and size of objects; of those in several chunks, the first and the number of their chunks."""
        text = objects.text_size >= 0
        several = objects.storage == Storage.CHUNKED
        address = np.where(text, objects.text, np.where(several, objects.chunk_start, objects.address))
        size = np.where(text, objects.text_size, np.where(several, objects.chunk_count, objects.size))
        is_stored = (objects.kind == Kind.DATASET) & (text | (objects.storage != Storage.NONE))
        return np.where(is_stored, address, 0), np.where(is_stored, size, 0)

    # --- members -----------------------------------------------------------------------------------------------------

    @cached_property
    def _owner_and_depth(self) -> tuple[Ints, Ints]:
        """Of each member, the component it lies in, as `slot * n + cell`, and how deep."""
        parent = self.batch.members.parent
        owner, depth = parent.copy(), np.zeros(len(parent), np.int64)
        while (inner := np.flatnonzero(owner < 0)).size:
            owner[inner] = parent[-1 - owner[inner]]  # one level up at a time, or the depth is not counted
            depth[inner] += 1
        return owner, depth

    @property
    def _owner(self) -> Ints:
        return self._owner_and_depth[0]

    @cached_property
    def _sorted(self) -> NDArray[np.intp]:
        """Members by owner, parents first; those of one group as they were made where that is tracked, else by name."""
        owner, depth = self._owner_and_depth
        members = self.batch.members
        rank = np.argsort(np.argsort(np.array(self.scan.known.names.values, object)))
        within = np.where(members.order >= 0, members.order, rank[members.name])
        return np.lexsort((within, members.parent, depth, owner))

    @cached_property
    def _ends(self) -> Ints:
        """Where the members in each component of all cells begin among the sorted ones, and the last end."""
        return np.searchsorted(self._owner[self._sorted], np.arange(len(Component) + 2) * len(self))

    def _rows_of(self, slot: int) -> NDArray[np.intp]:
        """Return the members in one component of all cells, cell by cell."""
        return self._sorted[self._ends[slot] : self._ends[slot + 1]]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(name.decode(errors="replace") for name in self.scan.known.names.values)

    @cached_property
    def _member_names(self) -> tuple[NDArray[np.int32], list[tuple[str, ...]]]:
        """Return, per component of each cell, the code of the set of names in it, -1 for none; and the sets."""
        members = self.batch.members
        direct = np.flatnonzero(members.parent >= len(self))
        order = direct[np.lexsort((members.name[direct], members.parent[direct]))]
        parents, counts = runs_of_equals(members.parent[order])
        codes, firsts = combined_lists(counts, members.name[order].astype(np.int64))
        of_parent = np.full((1 + len(Component)) * len(self), -1, np.int32)
        of_parent[parents] = codes
        starts = np.cumsum(counts) - counts
        lists = [members.name[order[starts[at] : starts[at] + counts[at]]] for at in firsts]
        return of_parent, [tuple(sorted(self._names[code] for code in names)) for names in lists]

    def _members(
        self, slot: int, rows: NDArray[np.intp], objects: Objects, known: dict[Layout, int], *, keep_attrs: bool
    ) -> Ragged:
        """Return the members at `rows`, which are `objects`, cell by cell; add their layouts to the `known` ones."""
        members = self.batch.members
        attrs = self.attributes.sets.of_member[rows]
        layouts, code = self._layouts(objects, attrs, np.full(len(rows), -1, np.int32), "member", keep_attrs=keep_attrs)
        final = np.array([*(known.setdefault(layout, len(known)) for layout in layouts), -1], np.int32)
        cell = self._owner[rows] - slot * len(self)
        offsets = np.searchsorted(cell, np.arange(len(self) + 1))
        place = np.full(len(members.parent), -1, np.int64)
        place[rows] = np.arange(len(rows)) - offsets[cell]
        parent = members.parent[rows]
        inside = parent < 0
        above = np.where(inside, place[np.where(inside, -1 - parent, 0)], -1)
        address, size = self._place(objects)
        columns = {"name": members.name[rows], "parent": above.astype(np.int32), "code": final[code]}
        return Ragged(offsets.astype(np.int64), {**columns, "address": address, "size": size})

    # --- chunks ------------------------------------------------------------------------------------------------------

    def _chunks(
        self, objects: Objects, slot: int, rows: NDArray[np.intp], members: Objects, address: Ints
    ) -> tuple[Ragged | None, Ints]:
        """Return the chunks of a component and its members, cell by cell, and the addresses that count in them."""
        several, inside = objects.in_chunks(), members.in_chunks()
        if not len(several) and not len(inside):
            return None, address
        owner = np.concatenate([several, self._owner[rows[inside]] - slot * len(self)])
        start = np.concatenate([objects.chunk_start[several], members.chunk_start[inside]])
        count = np.concatenate([objects.chunk_count[several], members.chunk_count[inside]])
        order = np.argsort(owner, kind="stable")
        owner, start, count = owner[order], start[order], count[order]
        at = np.repeat(start - (np.cumsum(count) - count), count) + np.arange(count.sum())
        offsets = np.searchsorted(np.repeat(owner, count), np.arange(len(self) + 1)).astype(np.int64)
        columns = {name: getattr(self.batch.chunks, name)[at] for name in CHUNK_COLUMNS}
        address[several] = 0  # a component's own chunks come first
        return Ragged(offsets, columns), address


def _with_chunks(members: Ragged, objects: Objects) -> Ragged:
    """Return members, which are `objects`, whose addresses count in their cell's list of chunks."""
    inside = objects.in_chunks()
    cell = np.searchsorted(members.offsets, inside, side="right") - 1
    count = objects.chunk_count[inside]
    before = np.cumsum(count) - count
    first = np.searchsorted(cell, cell, side="left")
    address = members.columns["address"].copy()
    address[inside] = before - before[first] if len(inside) else 0
    return Ragged(members.offsets, {**members.columns, "address": address})
