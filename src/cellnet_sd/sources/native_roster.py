"""Which cells a file has, in what order, and what its root and containers state: the first step of a native scan."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.errors import CorruptFileError
from cellnet_sd.rows import CellOrder, row_order
from cellnet_sd.sources.facts import Stated
from cellnet_sd.sources.hdf5_objects import ObjectError
from cellnet_sd.sources.hdf5_walk import STATED, numbers_and_names
from cellnet_sd.sources.native.codes import Kind, Reason
from cellnet_sd.sources.native.objects import objects_at
from cellnet_sd.sources.native.scan import NativeScan
from cellnet_sd.sources.native.walk import Other
from cellnet_sd.sources.native_batch import LocatedBatch
from cellnet_sd.sources.native_left import stated_left
from cellnet_sd.sources.native_values import Bytes, NeedsLibhdf5Error, damage

_NOT_UTF8: Final = "its name is not UTF-8"
NO_HEADER: Final = -1


@dataclass
class Roster:
    """The cells of a file in row order.

    Parameters
    ----------
    names, containers
        As in `Facts`.
    headers
        Where the header of each cell's group is, -1 for those that cannot be read at all.
    order
        What the order is.
    stated, unknown
        As in `Facts`.
    faults
        Why cells cannot be read at all, by row.
    left
        Rows that are left to h5py as a whole.
    n_left_containers
        How many containers are there of which h5py says what they state.
    """

    names: pd.Series
    containers: pd.Categorical
    headers: NDArray[np.int64]
    order: CellOrder
    stated: dict[str, Stated]
    unknown: Counter[str]
    faults: dict[int, str]
    left: tuple[int, ...] = ()
    n_left_containers: int = 0

    def __len__(self) -> int:
        return len(self.headers)


@dataclass
class _Found:
    """Cells that are no cells to the structure reader, at their places in the walk."""

    at: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    containers: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def read_roster(scan: NativeScan, stored: Bytes) -> Roster:
    """Return the cells of a file.

    Raises
    ------
    CorruptFileError
        If something that the root or a container states cannot be read.
    LayoutError
        If the order of the cells cannot be told.
    """
    paths = [container.path.decode(errors="replace") for container in scan.containers]
    unknown: Counter[str] = Counter()
    stated, n_left_containers = _stated(scan, stored, paths, unknown)
    odd = _odd_ones(scan, paths, unknown)
    names, not_utf8 = _names(scan)
    at = np.array(odd.at, np.int64)
    headers = np.insert(scan.cells.header, at, NO_HEADER)
    codes = np.insert(scan.cells.container, at, np.array(odd.containers, np.int32))
    names = pd.Series(np.insert(names.to_numpy(object), at, odd.names), dtype="str") if len(at) else names
    where = at + np.arange(len(at))
    reasons = dict(zip(where.tolist(), odd.reasons, strict=True))
    shift = np.searchsorted(at, not_utf8, side="right")
    reasons |= dict.fromkeys((not_utf8 + shift).tolist(), _NOT_UTF8)
    headers[list(reasons)] = NO_HEADER
    met = pd.unique(codes)
    containers = pd.Categorical.from_codes(codes, categories=paths).set_categories([paths[code] for code in met])
    rows, order = row_order(scan.path, names, containers, stated)
    row_of = np.empty(len(rows), np.int64)
    row_of[rows] = np.arange(len(rows))
    faults = {int(row_of[row]): reason for row, reason in reasons.items()}
    if not np.array_equal(rows, np.arange(len(rows))):
        names, containers, headers = names.iloc[rows].reset_index(drop=True), containers.take(rows), headers[rows]
    left = tuple(row for row, reason in faults.items() if not reason)
    return Roster(names, containers, headers, order, stated, unknown, faults, left, n_left_containers)


def _names(scan: NativeScan) -> tuple[pd.Series, NDArray[np.int64]]:
    """Return the names of the cells, and which of them are not UTF-8."""
    import pyarrow as pa

    cells = scan.cells
    buffers = [None, pa.py_buffer(cells.offsets.astype(np.int64)), pa.py_buffer(cells.names)]
    names = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(cells), buffers)
    try:
        return pd.Series(names.cast(pa.large_string()), dtype="str"), np.empty(0, np.int64)
    except pa.ArrowInvalid:
        texts, odd = [], []
        for row, name in enumerate(names.to_pylist()):
            try:
                texts.append(name.decode())
            except UnicodeDecodeError:
                texts.append(name.decode("latin-1"))
                odd.append(row)
        return pd.Series(texts, dtype="str"), np.array(odd, np.int64)


def _odd_ones(scan: NativeScan, paths: list[str], unknown: Counter[str]) -> _Found:
    """Count what is no cell, and return what may be one but cannot be read; an empty reason leaves it to h5py."""
    found = _Found()
    for other in scan.others:
        name = other.name.decode(errors="replace")
        path = f"{paths[other.container]}/{name}"
        if other.reason is Reason.LOOP and other.kind is Kind.GROUP:
            unknown[f"{path.lstrip('/')} (a second link to a group)"] += 1
        elif other.reason in (Reason.SOFT_LINK, Reason.COMMITTED_DATATYPE):
            unknown[path] += 1
        elif other.kind is not Kind.DATASET:
            found.at.append(other.position)
            found.names.append(name)
            found.containers.append(other.container)
            found.reasons.append(_why(other, name))
        elif name not in STATED:
            unknown[path] += 1
    return found


def _why(other: Other, name: str) -> str:
    if other.reason in (Reason.EXTERNAL_LINK, Reason.USER_LINK):
        return f"{name!r} is a link to another file, which is not followed"
    return damage(other.reason.name) if other.kind is Kind.DAMAGED else ""


def _stated(scan: NativeScan, stored: Bytes, paths: list[str], unknown: Counter[str]) -> tuple[dict[str, Stated], int]:
    """Return what the root and the containers state: attributes, and datasets that the layout knows.

    Also returns for how many of them h5py is asked, since some of it is of a kind that is not known here.
    """
    headers = np.array([container.header for container in scan.containers], np.int64)
    found = {path: Stated(container.tracked) for path, container in zip(paths, scan.containers, strict=True)}
    batch = LocatedBatch(scan, objects_at(scan, headers), stored)
    left = set(np.flatnonzero(batch.batch.groups.kind != Kind.GROUP).tolist())
    for at, own in batch.attributes.of_cells():
        if any(name in STATED and value is None for name, value in own):
            left.add(at)
        elif at not in left:
            values = {name: value.value() for name, value in own if name in STATED and value is not None}
            found[paths[at]].values |= numbers_and_names(values)
            others = [name or "whose name is not UTF-8" for name, _ in own if name not in STATED]
            unknown.update(f"attribute {name} of {paths[at] or 'the root'}" for name in others)
    for other, value in _stated_datasets(scan, stored, paths):
        if value is None:
            left.add(other.container)
        else:
            found[paths[other.container]].values |= numbers_and_names({other.name.decode(): value})
    places = [paths[at] for at in sorted(left)]
    for path, by_h5py in zip(places, stated_left(scan.path, places), strict=True):
        found[path].values = by_h5py.values
        unknown.update(f"attribute {name} of {path or 'the root'}" for name in by_h5py.others)
    return found, len(left)


def _stated_datasets(scan: NativeScan, stored: Bytes, paths: list[str]) -> list[tuple[Other, Any]]:
    """Return the datasets that state something, with their values: `None` where only libhdf5 reads them."""
    wanted = [
        other for other in scan.others if other.kind is Kind.DATASET and other.name.decode(errors="replace") in STATED
    ]
    headers = np.array([other.header for other in wanted], np.int64)
    batch = LocatedBatch(scan, objects_at(scan, headers), stored)
    own = batch.own()
    values: list[tuple[Other, Any]] = []
    for at, other in enumerate(wanted):
        place = own.place(at)
        assert place is not None  # it is a dataset
        try:
            values.append((other, stored.array(place, decoded=True)))
        except NeedsLibhdf5Error:
            values.append((other, None))
        except ObjectError as error:
            msg = f"{scan.path}: {paths[other.container]}/{other.name.decode()}: {error}."
            raise CorruptFileError(msg) from error
    return values
