"""HDF5 attributes of a batch of cells: of their own groups, of components, and of what lies in these."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.text import is_utf8
from cellnet_sd.layout import Component
from cellnet_sd.sources.allowance import beyond_the_file, no_array
from cellnet_sd.sources.locations import NULL, StoredValue, flags_of
from cellnet_sd.sources.native.columns import Known
from cellnet_sd.sources.native.scan import Batch
from cellnet_sd.sources.native_grouping import combined, combined_lists, distinct_runs, runs_of_equals
from cellnet_sd.sources.native_values import Bytes, up_to_nul

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
NamedValue = tuple[str | None, StoredValue | None]
"""An attribute. Its name is `None` where that is not UTF-8, its value where it is not known here, or cannot be read."""
AttributeSet = tuple[tuple[str, StoredValue], ...]
"""All attributes of one object that have a value."""


class AttributeSets(NamedTuple):
    """Sets of attributes, and which of them each object has."""

    of_slot: Codes
    """Code of the set of each cell's group and components, by slot, then cell; -1 for none."""
    of_member: Codes
    """Code of the set of each member, -1 for none."""
    sets: list[AttributeSet | None]
    """What codes stand for, `None` where an attribute's type is not known here."""


@dataclass(frozen=True)
class BatchAttributes:
    """The HDF5 attributes of a batch of cells.

    Parameters
    ----------
    known, batch
        What codes of the file stand for, and what was found in the batch.
    stored
        The bytes of the file.
    """

    known: Known
    batch: Batch
    stored: Bytes

    @cached_property
    def sets(self) -> AttributeSets:
        """The sets of attributes of components and members."""
        parent, n = self.batch.attributes.parent, len(self.batch.groups)
        chosen = np.flatnonzero((parent >= n) | (parent < 0))
        chosen = chosen[np.argsort(parent[chosen], kind="stable")]
        values, value_of = self._values(chosen)
        parents, counts = runs_of_equals(parent[chosen])
        codes, firsts = combined_lists(counts, values.astype(np.int64))
        of_slot = np.full((1 + len(Component)) * n, -1, np.int32)
        of_member = np.full(len(self.batch.members.parent), -1, np.int32)
        is_member = parents < 0
        of_slot[parents[~is_member]] = codes[~is_member]
        of_member[-1 - parents[is_member]] = codes[is_member]
        starts = np.cumsum(counts) - counts
        lists = [values[starts[at] : starts[at] + counts[at]].tolist() for at in firsts]
        return AttributeSets(of_slot, of_member, [_set([value_of[code] for code in own]) for own in lists])

    def of_cells(self) -> Iterator[tuple[int, list[NamedValue]]]:
        """Yield each cell whose own group has attributes, with them."""
        parent = self.batch.attributes.parent
        rows = np.flatnonzero((parent >= 0) & (parent < len(self.batch.groups)))
        rows = rows[np.argsort(parent[rows], kind="stable")]
        codes, values = self._values(rows)
        cells, counts = runs_of_equals(parent[rows])
        ends = np.cumsum(counts)
        for cell, start, end in zip(cells.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
            yield cell, [values[code] for code in codes[start:end].tolist()]

    def _values(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.int32], list[NamedValue]]:
        """Return a code for the name and value of each attribute at `rows`, and what the codes stand for."""
        attributes, dtypes = self.batch.attributes, self.known.dtypes.values
        varying = flags_of(attributes.dtype[rows], (d is not None and d.kind.startswith("vlen") for d in dtypes))
        found = attributes.text_size[rows] >= 0  # one value each, followed as its cell was read
        varying &= ~found
        size = np.where(found, attributes.text_size[rows], attributes.size[rows])
        counts = np.where(varying, size // self.stored.reference_size, 1)
        positions = np.repeat(np.where(found, attributes.text[rows], attributes.address[rows]), counts)
        sizes = np.repeat(np.where(varying, 0, size), counts)
        bad = self._resolve(rows[varying], np.repeat(varying, counts), positions, sizes)
        beyond = beyond_the_file(sizes, self.stored.buf.size)
        sizes[beyond] = 0
        bad = np.union1d(bad, beyond)
        data, offsets = self.stored.gathered(positions, sizes)
        flat, _ = distinct_runs(data, offsets)
        lists, _ = combined_lists(counts, flat.astype(np.int64))
        starts = np.cumsum(counts) - counts
        unknown = np.zeros(len(rows), bool)
        unknown[np.searchsorted(starts, bad, side="right") - 1] = True
        keys = (attributes.name[rows], attributes.dtype[rows], attributes.shape[rows], lists, unknown)
        codes, firsts = combined(*keys)
        values = []
        for at in firsts.tolist():
            runs = [data[offsets[i] : offsets[i + 1]].tobytes() for i in range(starts[at], starts[at] + counts[at])]
            values.append(self._value(int(rows[at]), None if unknown[at] else runs))
        return codes, values

    def _resolve(self, rows: NDArray[np.intp], at: NDArray[np.bool_], positions: Ints, sizes: Ints) -> Ints:
        """Follow the references of attributes of variable length; return which elements cannot be found."""
        if not len(rows):
            return np.empty(0, np.int64)
        attributes, dtypes = self.batch.attributes, self.known.dtypes.values
        counts = attributes.size[rows] // self.stored.reference_size
        references, _ = self.stored.gathered(attributes.address[rows], counts * self.stored.reference_size)
        item = np.array([1 if d is None or d.kind == "vlen text" else d.dtype.itemsize for d in dtypes])
        items = np.repeat(item[attributes.dtype[rows]], counts)
        where = np.flatnonzero(at)
        positions[where], sizes[where], reasons = self.stored.resolve(references, items.astype(np.int64))
        return where[np.array(sorted(reasons), np.int64)]

    def _value(self, row: int, runs: Sequence[bytes] | None) -> NamedValue:
        attributes, known = self.batch.attributes, self.known
        stored = known.names.values[attributes.name[row]]
        if not is_utf8(stored):
            return None, None
        name = stored.decode()
        dtype, shape = known.dtypes.values[attributes.dtype[row]], known.shapes.values[attributes.shape[row]]
        if dtype is None or runs is None:
            return name, None
        if shape is None:
            return name, StoredValue(NULL)
        if no_array(shape, dtype.dtype.itemsize):
            return name, None
        if dtype.kind == "vlen text":
            return name, StoredValue(shape, items=tuple(map(up_to_nul, runs)))
        if dtype.kind == "vlen":
            return name, StoredValue(shape, dtype.dtype.str, items=tuple(runs))
        return name, StoredValue(shape, dtype.dtype.str, runs[0])


def _set(attributes: Sequence[NamedValue]) -> AttributeSet | None:
    known = [(name, value) for name, value in attributes if name is not None and value is not None]
    if len(known) < len(attributes):
        return None
    return tuple((name, value) for name, value in known if value.shape != NULL)
