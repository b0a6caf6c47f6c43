"""Decoding single stored objects from the bytes of a file, without libhdf5: where they are is known."""

import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from deflate import DeflateError, zlib_decompress
from numpy.typing import NDArray

from cellnet_sd.buffers import Buffer, read_only
from cellnet_sd.components.text import decoded_at_once
from cellnet_sd.sources.allowance import MAX_INFLATION, beyond_the_file
from cellnet_sd.sources.base import Raw
from cellnet_sd.sources.hdf5_objects import ObjectError
from cellnet_sd.sources.locations import Filter, Layout, Located, Place

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
DECODED: Final = frozenset({DEFLATE, SHUFFLE, FLETCHER32})
"""Filters that are undone here; the others go through libhdf5."""
_CHECKSUM: Final = 4


class NeedsLibhdf5Error(ObjectError):
    """An object is stored in a way that only libhdf5 knows."""


def mapped(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file as a read-only array that is read when it is looked at."""
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def is_decoded(layout: Layout) -> bool:
    """Whether datasets of a layout are decoded here: what is deflated twice inflates to a size that nobody states."""
    numbers = [step.number for step in layout.filters]
    return layout.storage != "h5py" and DECODED.issuperset(numbers) and numbers.count(DEFLATE) <= 1


@dataclass(frozen=True, slots=True)
class Bytes:
    """The bytes of a file, and the state that following references within it begins with."""

    buf: NDArray[np.uint8]
    ctx: NDArray[np.int64]

    @property
    def reference_size(self) -> int:
        """Bytes of a reference to a value of variable length: its length, and the address and index of where it is."""
        from cellnet_sd.sources.native.codes import C_OFFSETS

        return 8 + int(self.ctx[C_OFFSETS])

    def run(self, address: int, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes at `address`.

        Raises
        ------
        ObjectError
            If they do not lie in the file.
        """
        if address < 0 or size < 0 or address + size > self.buf.size:
            msg = f"its {size:,} bytes at {address:,} do not lie in the file"
            raise ObjectError(msg)
        return self.buf[address : address + size]

    def gathered(
        self, positions: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return runs of bytes one after the other, and where each begins and the last ends."""
        from cellnet_sd.sources.native.kernels import copy_runs

        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        data = np.empty(offsets[-1], np.uint8)
        copy_runs(self.buf, self.ctx.copy(), np.ascontiguousarray(positions), offsets, data)
        return data, offsets

    def raw(self, located: Located, row: int, *, with_attrs: bool) -> Raw | None:
        """Return one component of one cell as stored.

        Raises
        ------
        ObjectError
            If it cannot be read.
        """
        place = located.place(row)
        if place is None:
            return None
        if place.layout.storage != "group" or place.layout.reason:
            return self._dataset(place, with_attrs=with_attrs)
        members: dict[str, Raw] = {}
        inside: list[dict[str, Raw]] = []
        for name, parent, at in located.members_of(row):
            inside.append({})
            is_group = at.layout.storage == "group" and not at.layout.reason
            raw = Raw(None, _attrs(at.layout), inside[-1]) if is_group else self._dataset(at, with_attrs=with_attrs)
            (members if parent < 0 else inside[parent])[name] = raw
        return Raw(None, _attrs(place.layout), members)

    def _dataset(self, place: Place, *, with_attrs: bool) -> Raw:
        return Raw(self.array(place), _attrs(place.layout) if with_attrs else {})

    def array(self, place: Place, *, decoded: bool = False) -> NDArray[Any]:
        """Return the array of a dataset in its stored dtype; values of variable length as `bytes` or arrays.

        If `decoded`, texts of variable length are `str` where all of them are plain UTF-8: that is quicker for many.
        """
        layout = place.layout
        if layout.reason and layout.storage != "h5py":  # what keeps it from being read here is no fault
            raise ObjectError(layout.reason)
        if not is_decoded(layout):
            msg = "it is stored in a way that only libhdf5 reads: pass engine='auto' or 'h5py'"
            raise NeedsLibhdf5Error(msg)
        if layout.storage == "text":
            return self._varying(layout, [self.run(place.address, place.size).tobytes()])
        stored = self._elements(place)
        if layout.kind.startswith("vlen"):
            references = np.array(stored).reshape(-1)  # writable, as compiled code was made for
            data, offsets = self._followed(layout, references)
            texts = _texts(data, offsets) if decoded and layout.kind == "vlen text" else None
            return self._varying(layout, _runs(data, offsets)) if texts is None else _objects(texts, layout.shape)
        return np.ascontiguousarray(stored).view(_dtype(layout)).reshape(layout.shape or ()).copy()

    def references(self, place: Place) -> NDArray[np.uint8]:
        """Return the references of a dataset whose values vary in length, one after the other; none if damaged."""
        try:
            return np.array(self._elements(place)).reshape(-1)
        except ObjectError:
            return np.empty(0, np.uint8)

    def _elements(self, place: Place) -> NDArray[np.uint8]:
        """Return the elements of a dataset as stored, (*shape, width)."""
        layout = place.layout
        shape, width = layout.shape or (), self._width(layout)
        if layout.storage == "none":
            return _filled(layout, shape, width)
        if layout.storage in ("compact", "contiguous"):
            return self.run(place.address, layout.n_elements * width).reshape(*shape, width)
        return self._chunks(place, width)

    def _width(self, layout: Layout) -> int:
        """Return the stored bytes of an element: a reference where its length varies."""
        return self.reference_size if layout.kind.startswith("vlen") else _dtype(layout).itemsize

    def _chunks(self, place: Place, width: int) -> NDArray[np.uint8]:
        """Return the elements of a chunked dataset, (*shape, width)."""
        layout = place.layout
        shape, chunk = layout.shape or (), layout.chunk
        nbytes = math.prod(chunk) * width
        if layout.storage == "single":
            data = undone(self.run(place.address, place.size), layout.filters, layout.mask, nbytes)
            whole = np.frombuffer(data, np.uint8).reshape(*chunk, width)
            return whole[tuple(slice(n) for n in shape)]
        out = _filled(layout, shape, width)
        grid = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
        own = slice(place.address, place.address + place.size)
        columns = {name: column[own].tolist() for name, column in (place.chunks or {}).items()}
        rows = zip(columns["address"], columns["size"], columns["mask"], columns["index"], strict=True)
        for address, size, mask, index in rows:
            data = np.frombuffer(undone(self.run(address, size), layout.filters, mask, nbytes), np.uint8)
            corner = [int(at) * c for at, c in zip(np.unravel_index(index, grid), chunk, strict=True)]
            target = out[tuple(slice(at, at + c) for at, c in zip(corner, chunk, strict=True))]
            target[...] = data.reshape(*chunk, width)[tuple(slice(n) for n in target.shape[:-1])]
        return out

    def _followed(self, layout: Layout, references: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the bytes of the values that references name, one after the other, and where each begins and ends."""
        item_sizes = np.full(layout.n_elements, _item_size(layout), np.int64)
        positions, sizes, reasons = self.resolve(references, item_sizes)
        if reasons:
            raise ObjectError(next(iter(reasons.values())))
        if len(beyond_the_file(sizes, self.buf.size)):
            msg = f"its references name {sizes.sum():,} bytes, more than the file has"
            raise ObjectError(msg)
        return self.gathered(positions, sizes)

    def resolve(
        self, references: NDArray[np.uint8], item_sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, str]]:
        """Return where the values that references name are, their sizes in bytes, and why some cannot be found."""
        from cellnet_sd.sources.native.codes import BUDGET, C_STATUS, C_STEPS, Reason
        from cellnet_sd.sources.native.kernels import resolve
        from cellnet_sd.sources.native.superblock import budget

        ctx, n = self.ctx.copy(), len(item_sizes)
        ctx[C_STEPS], ctx[C_STATUS] = budget(self.buf.size), 0
        positions, sizes = np.zeros(n, np.int64), np.zeros(n, np.int64)
        width = len(references) // max(n, 1)
        reasons: dict[int, str] = {}
        done = 0
        while True:
            rest = slice(done, n)
            done += resolve(self.buf, ctx, references[done * width :], item_sizes[rest], positions[rest], sizes[rest])
            if done >= n:
                return positions, sizes, reasons
            status = int(ctx[C_STATUS])
            reasons[done] = damage(Reason(status).name)
            ctx[C_STATUS] = 0
            if status == BUDGET:
                return positions, sizes, dict.fromkeys(range(done, n), damage(Reason(status).name)) | reasons
            done += 1

    def _varying(self, layout: Layout, runs: list[bytes]) -> NDArray[np.object_]:
        if layout.kind == "vlen text":
            return _objects([up_to_nul(run) for run in runs] if b"\0" in b"".join(runs) else runs, layout.shape)
        return _objects([np.frombuffer(run, _dtype(layout)) for run in runs], layout.shape)


def _objects(items: Sequence[Any], shape: tuple[int, ...] | None) -> NDArray[np.object_]:
    """Return Python objects as an array: one by one where they are arrays, which NumPy would take apart."""
    out = np.empty(len(items), object)
    if items and isinstance(items[0], np.ndarray):
        for at, item in enumerate(items):
            out[at] = item
    else:
        out[:] = items
    return out.reshape(shape or ())


def _runs(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[bytes]:
    """Return runs of bytes that follow one another."""
    if (joined := _joined(data, offsets)) is not None:
        return joined.split(b"\0")
    whole = data.tobytes()
    return [whole[start:stop] for start, stop in pairwise(offsets.tolist())]


def _texts(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[str] | None:
    """Return texts that follow one another; `None` if they are to be looked at one by one."""
    joined = _joined(data, offsets)
    return None if joined is None else decoded_at_once(joined, len(offsets) - 1)


def _joined(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> bytes | None:
    """Return runs of bytes joined by NULs, which is the quickest way to cut them out; `None` if one holds a NUL."""
    return np.insert(data, offsets[1:-1], 0).tobytes() if len(offsets) > 1 and data.all() else None


def up_to_nul(text: bytes) -> bytes:
    """Return text of variable length up to its first NUL, at which libhdf5 ends it."""
    return text.partition(b"\0")[0]


def damage(reason: str) -> str:
    """Return in words what is wrong with the structure of an object."""
    return f"its structure is damaged ({reason.lower().replace('_', ' ')})"


def undone(stored: Buffer, filters: tuple[Filter, ...], mask: int, nbytes: int) -> Buffer:
    """Return the `nbytes` bytes of a chunk as they were before the filters (IV.A.2.l); `mask` tells those left out.

    Raises
    ------
    ObjectError
        If they cannot be undone, a checksum is wrong, or the chunk is of another size.
    """
    applied = [step for at, step in enumerate(filters) if not mask >> at & 1]
    data = stored
    for at in range(len(applied) - 1, -1, -1):
        step = applied[at]
        size = nbytes + _CHECKSUM * sum(earlier.number == FLETCHER32 for earlier in applied[:at])
        if step.number == DEFLATE:
            data = inflated(data, size)
        elif step.number == FLETCHER32:
            data = _checked(data)
        elif step.values and step.values[0] > 1:
            data = _unshuffled(data, step.values[0])
    if len(data) != nbytes:
        msg = f"a chunk decodes to {len(data):,} bytes instead of {nbytes:,}"
        raise ObjectError(msg)
    return data


def inflated(data: Buffer, size: int) -> bytearray:
    """Return the `size` bytes that were deflated; never makes more, whatever is stored.

    Raises
    ------
    ObjectError
        If they are damaged, or more or fewer.
    """
    if size > MAX_INFLATION * len(data):  # no memory is taken for what cannot be
        msg = f"the stored bytes cannot be decoded (they do not inflate to {size:,} bytes)"
        raise ObjectError(msg)
    try:
        out: bytearray = zlib_decompress(data, size)
    except DeflateError as error:
        msg = f"the stored bytes cannot be decoded (they do not inflate to {size:,} bytes: {error})"
        raise ObjectError(msg) from error
    if len(out) != size:
        msg = f"the stored bytes cannot be decoded (they inflate to {len(out):,} bytes instead of {size:,})"
        raise ObjectError(msg)
    return out


def _checked(data: Buffer) -> Buffer:
    """Return bytes without the checksum at their end, which must be theirs."""
    from cellnet_sd.sources.native.kernels import fletcher32

    array = read_only(data)
    size = len(array) - _CHECKSUM
    if size >= 0:
        found = int(fletcher32(array, size))
        stored = int.from_bytes(array[size:].tobytes(), "little")
        # HDF5 1.6.2 and earlier swapped the bytes of each half on some machines: libhdf5 takes both (H5Zfletcher32.c)
        swapped = (found & 0xFF00FF) << 8 | found >> 8 & 0xFF00FF
        if stored in (found, swapped):
            return array[:size]
    msg = "a checksum (Fletcher32) is not that of the stored bytes"
    raise ObjectError(msg)


def _unshuffled(data: Buffer, size: int) -> NDArray[np.uint8]:
    from cellnet_sd.sources.native.kernels import unshuffle

    array = read_only(data)
    out = np.empty(len(array), np.uint8)
    unshuffle(array, size, out)
    return out


def _filled(layout: Layout, shape: tuple[int, ...], width: int) -> NDArray[np.uint8]:
    out = np.zeros((*shape, width), np.uint8)
    if len(layout.fill) == width and any(layout.fill) and not layout.kind.startswith("vlen"):
        out[...] = np.frombuffer(layout.fill, np.uint8)
    return out


def _dtype(layout: Layout) -> "np.dtype[Any]":
    return np.dtype(layout.dtype)


def _item_size(layout: Layout) -> int:
    return 1 if layout.kind == "vlen text" else _dtype(layout).itemsize


def _attrs(layout: Layout) -> Mapping[str, Any]:
    return {name: stored.value() for name, stored in layout.attrs}
