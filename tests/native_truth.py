"""What h5py's low-level calls say of a file, held against what the structure reader found."""

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d

from cellnet_sd.layout import Component
from cellnet_sd.natural_order import natural_key
from cellnet_sd.sources.native.codes import Kind, Storage
from cellnet_sd.sources.native.columns import Objects
from cellnet_sd.sources.native.messages import NativeType
from cellnet_sd.sources.native.scan import Batch, NativeScan, scan_structure


def check_file(path: Path) -> tuple[NativeScan, Batch]:
    """Check names, order and every object of a file; return what was found."""
    scan = scan_structure(path)
    batch = scan.read()
    with h5py.File(path, "r") as file:
        check_order(scan, file)
        for row in sample(scan):
            cell = file[_path(scan, row)]
            for component in Component:
                node = cell.get(str(component))
                check_object(scan, batch, batch.components[component], row, node)
        check_members(scan, batch, file)
        check_attributes(scan, batch, file)
    return scan, batch


def sample(scan: NativeScan) -> list[int]:
    """Return rows to look at in full: all, or about a hundred of many."""
    return list(range(0, len(scan), 1 + len(scan) // 100))


def _path(scan: NativeScan, row: int) -> str:
    container = scan.containers[scan.cells.container[row]]
    return (container.path + b"/" + scan.cells.name(row)).decode()


def check_order(scan: NativeScan, file: h5py.File) -> None:
    """Names, container by container: in h5py's order where that is tracked, else `Cell_9` before `Cell_10`."""
    for code, container in enumerate(scan.containers):
        group = file[container.path.decode() or "/"]
        rows = np.flatnonzero(scan.cells.container == code).tolist()
        names = [scan.cells.name(row).decode() for row in rows]
        beside = {other.name.decode() for other in scan.others if other.container == code}
        below = {c.path.decode().rpartition("/")[2] for c in scan.containers}
        expected = [name for name in group if name not in beside | below]
        assert names == (expected if container.tracked else sorted(expected, key=natural_key))
        for row, name in list(zip(rows, names, strict=True))[:: 1 + len(rows) // 100]:
            assert scan.cells.header[row] - scan.superblock.ctx[1] == h5py.h5o.get_info(group[name].id).addr


def check_object(scan: NativeScan, batch: Batch, objects: Objects, row: int, node: Any) -> None:
    """One object: kind, type, shape, filters and where its bytes are."""
    kind = Kind(int(objects.kind[row]))
    if node is None or isinstance(node, h5py.Group):
        assert kind == (Kind.ABSENT if node is None else Kind.GROUP), (kind, node)
        return
    if kind in (Kind.FALLBACK, Kind.EXTERNAL):
        return
    assert kind == Kind.DATASET, (kind, objects.reason[row], node)
    check_dtype(scan.known.dtypes.values[objects.dtype[row]], node)
    shape = scan.known.shapes.values[objects.shape[row]]
    assert shape == node.shape
    plist = node.id.get_create_plist()
    found = () if objects.filters[row] < 0 else scan.known.filters.values[objects.filters[row]]
    expected = [plist.get_filter(i)[:3] for i in range(plist.get_nfilters())]
    assert [(f.number, f.flags, f.values) for f in found] == expected
    assert objects.size[row] == node.id.get_storage_size()
    check_storage(scan, batch, objects, row, node)
    if objects.text_size[row] >= 0:
        at, size = int(objects.text[row]), int(objects.text_size[row])
        assert scan.buf[at : at + size].tobytes() == _one_value(node)


def _one_value(node: h5py.Dataset) -> bytes:
    value = node[()] if node.shape == () else node[0]
    return value if isinstance(value, bytes) else value.tobytes()


def check_dtype(found: NativeType, node: h5py.Dataset) -> None:
    """The stored type."""
    stored = node.dtype
    text, varying = h5py.check_string_dtype(stored), h5py.check_vlen_dtype(stored)
    if found.kind == "vlen text":
        assert text.length is None
        assert (text.encoding == "utf-8") == found.utf8
    elif found.kind == "vlen":
        assert varying == found.dtype
    else:
        assert found.dtype == stored
        assert {"text": "S", "bool": "b", "opaque": "V"}.get(found.kind, stored.kind) == stored.kind


def check_storage(scan: NativeScan, batch: Batch, objects: Objects, row: int, node: h5py.Dataset) -> None:
    """Addresses, sizes and masks; and that the bytes there give the values."""
    storage, low = Storage(int(objects.storage[row])), node.id
    at, size = int(objects.address[row]), int(objects.size[row])
    if low.get_create_plist().get_layout() != h5d.CHUNKED:
        if storage is Storage.CONTIGUOUS:
            assert at == low.get_offset()
        if storage is not Storage.NONE and found_plain(node):
            assert scan.buf[at : at + size].tobytes()[: node.nbytes] == np.array(node[()], node.dtype).tobytes()
        assert (storage is Storage.COMPACT) == (low.get_create_plist().get_layout() == h5d.COMPACT)
        return
    if storage is Storage.SINGLE:
        rows = [(at, size, int(objects.mask[row]), 0)]
    elif storage is Storage.NONE:
        rows = []
    else:
        own = slice(int(objects.chunk_start[row]), int(objects.chunk_start[row] + objects.chunk_count[row]))
        columns = (batch.chunks.address, batch.chunks.size, batch.chunks.mask, batch.chunks.index)
        rows = list(zip(*(column[own].tolist() for column in columns), strict=True))
    assert scan.known.chunk_shapes.values[objects.chunk_shape[row]] == node.chunks
    assert sorted(at for at, *_ in rows) == chunk_addresses(node)
    grid = [-(-n // c) for n, c in zip(node.shape, node.chunks, strict=True)]
    for at, size, mask, index in rows:
        corner = [int(k) * c for k, c in zip(np.unravel_index(index, grid), node.chunks, strict=True)]
        assert (mask, scan.buf[at : at + size].tobytes()) == low.read_direct_chunk(tuple(corner))
    if found_plain(node):
        np.testing.assert_array_equal(decoded(scan, objects, row, node, rows), node[()])


def chunk_addresses(node: h5py.Dataset) -> list[int]:
    """Return where all chunks are. (HDF5 2.0 names wrong coordinates where a later axis is the unlimited one.)"""
    infos: list[Any] = []
    if node.size:
        node.id.chunk_iter(infos.append)
    return sorted(info.byte_offset for info in infos)


def found_plain(node: h5py.Dataset) -> bool:
    """Whether the values are in the bytes themselves."""
    return node.dtype.kind in "iufbS" and node.size > 0


def decoded(scan: NativeScan, objects: Objects, row: int, node: h5py.Dataset, rows: list[Any]) -> np.ndarray[Any, Any]:
    """Put a dataset together from its chunks; what zlib cannot undo comes from h5py."""
    fill = scan.known.fills.values[objects.fill[row]] if objects.fill[row] >= 0 else b""
    start = np.frombuffer(fill, node.dtype)[0] if fill else np.zeros((), node.dtype)
    out = np.full(node.shape, start, node.dtype)
    grid = [-(-n // c) for n, c in zip(node.shape, node.chunks, strict=True)]
    filters = scan.known.filters.values[objects.filters[row]] if objects.filters[row] >= 0 else ()
    for at, size, mask, index in rows:
        raw = scan.buf[at : at + size].tobytes()
        where = np.unravel_index(index, grid)
        corner = [int(k) * c for k, c in zip(where, node.chunks, strict=True)]
        if {f.number for f in filters} - {1, 2, 3}:
            assert raw == node.id.read_direct_chunk(tuple(corner))[1]
            return node[()]
        block = np.frombuffer(_undone(raw, filters, mask, node), node.dtype).reshape(node.chunks)
        target = tuple(slice(o, min(o + c, n)) for o, c, n in zip(corner, node.chunks, node.shape, strict=True))
        out[target] = block[tuple(slice(0, s.stop - s.start) for s in target)]
    return out


def _undone(raw: bytes, filters: Any, mask: int, node: h5py.Dataset) -> bytes:
    for position, one in reversed(list(enumerate(filters))):
        if mask >> position & 1:
            continue
        if one.number == 3:
            raw = raw[:-4]
        elif one.number == 1:
            raw = zlib.decompress(raw)
        elif one.number == 2 and node.dtype.itemsize > 1:
            raw = np.frombuffer(raw, "u1").reshape(node.dtype.itemsize, -1).T.tobytes()
    return raw


def check_members(scan: NativeScan, batch: Batch, file: h5py.File) -> None:
    """Members of the components' groups, by name."""
    n, rows = len(scan), set(sample(scan))
    names = scan.known.names.values
    found: dict[str, set[str]] = {}
    for at, parent in enumerate(batch.members.parent.tolist()):
        assert parent >= 0
        slot, row = divmod(parent, n)
        if row not in rows:
            continue
        name = names[batch.members.name[at]].decode()
        home = _path(scan, row) + (f"/{list(Component)[slot - 1]}" if slot else "")
        found.setdefault(home, set()).add(name)
        check_object(scan, batch, batch.members.objects, at, file[f"{home}/{name}"])
    for row in rows:
        cell = file[_path(scan, row)]
        for component in (Component.EXPRESSION, Component.CCC):
            if isinstance(cell.get(component), h5py.Group):
                assert found.get(f"{_path(scan, row)}/{component}", set()) == set(cell[component])


def check_attributes(scan: NativeScan, batch: Batch, file: h5py.File) -> None:
    """Attributes of cells and of their groups: names, types, shapes and values."""
    n, a = len(scan), batch.attributes
    found: dict[str, dict[str, bytes]] = {}
    for at, parent in enumerate(a.parent.tolist()):
        if parent < 0:
            continue
        slot, row = divmod(parent, n)
        home = _path(scan, row) + (f"/{list(Component)[slot - 1]}" if slot else "")
        place, size = (a.text[at], a.text_size[at]) if a.text_size[at] >= 0 else (a.address[at], a.size[at])
        name = scan.known.names.values[a.name[at]].decode()
        found.setdefault(home, {})[name] = scan.buf[int(place) : int(place + size)].tobytes()
    for row in sample(scan):
        for home in (_path(scan, row), f"{_path(scan, row)}/CCC"):
            if home not in file:
                continue
            assert found.get(home, {}) == {k: _attribute_bytes(v) for k, v in file[home].attrs.items()}
        assert batch.groups.attributes[row] == len(file[_path(scan, row)].attrs)


def _attribute_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else np.asarray(value).tobytes()
