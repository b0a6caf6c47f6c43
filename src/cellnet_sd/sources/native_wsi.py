"""Telling WSI images apart by their stored bytes, for all cells at once; see `hdf5_wsi`."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.components.images.spelling import FirstLook
from cellnet_sd.layout import Component
from cellnet_sd.problems import Problem
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.hdf5_objects import ObjectError
from cellnet_sd.sources.hdf5_wsi import content_of, digest_of
from cellnet_sd.sources.locations import Located, flags_of
from cellnet_sd.sources.native_grouping import combined
from cellnet_sd.sources.native_values import Bytes, NeedsLibhdf5Error

_PIECES: Final = 16
_PIECE: Final = 256
_NOWHERE: Final = ("none", "h5py", "unreadable")
"""Storage of what has no bytes of its own, or none whose place is known."""


def number_images(
    stored: Bytes, located: Located, headers: NDArray[np.int64], left: Callable[[int], Raw | Unreadable | None]
) -> tuple[NDArray[np.int32], list[Problem]]:
    """Return a number per distinct WSI image, -1 without one; and the cells whose image is none.

    Images are the same at equal headers, else by equal size and a hash of up to 4 KiB of the stored bytes, spread over
    them. The first and the last of each number are compared in full; where they differ, all are hashed in full. Whether
    they are images is seen as far as `FirstLook` goes; of what only libhdf5 can decode, through `left`, by row.
    """
    objects, first = _distinct_headers(headers)
    images, rows = combined(*_signatures(stored, located, first))
    if not _are_sure(stored, located, first, images):
        digests = [_digest(stored, located, int(row)) for row in first]
        images, rows = combined(pd.factorize(np.array(digests, object))[0])
    look = FirstLook()
    reasons = [_fault(stored, located, int(first[row]), left, look) for row in rows]
    is_image = np.array([reason is None for reason in reasons], bool)
    number = np.append(np.where(is_image, np.cumsum(is_image) - 1, -1)[images], -1)
    wsi = number[objects].astype(np.int32)
    faults = [
        Problem(int(row), Component.WSI_PATCH, str(reasons[images[objects[row]]]))
        for row in np.flatnonzero((objects >= 0) & (wsi < 0))
    ]
    return wsi, faults


def with_left(
    stored: Bytes, located: Located, numbers: NDArray[np.int32], left: Mapping[int, bytes]
) -> NDArray[np.int32]:
    """Return the numbers with those of images that h5py has read, given by the digests of their bytes, by row.

    They may be images that other cells have in another form: a soft link leads to what has a number already.
    """
    known: dict[bytes, int] = {}
    for number, row in zip(*np.unique(numbers, return_index=True), strict=True):
        if number >= 0:
            known.setdefault(_digest(stored, located, int(row)), int(number))
    free = itertools.count(int(numbers.max(initial=-1)) + 1)
    numbers = numbers.copy()
    for row, digest in sorted(left.items()):
        if digest not in known:
            known[digest] = next(free)
        numbers[row] = known[digest]
    found = np.flatnonzero(numbers >= 0)
    numbers[found] = pd.factorize(numbers[found])[0]  # in the order in which they are met
    return numbers


def _distinct_headers(headers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each cell's object, -1 for none, and the first row of each object."""
    rows = np.flatnonzero(headers >= 0)
    codes, distinct = pd.factorize(headers[rows])
    first = np.empty(len(distinct), np.int64)
    first[codes[::-1]] = rows[::-1]
    objects = np.full(len(headers), -1, np.int64)
    objects[rows] = codes
    return objects, first


def _signatures(stored: Bytes, located: Located, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return stored size and two hashes of each image."""
    from cellnet_sd.sources.native.kernels import sample_hash

    several = flags_of(located.code[rows], (layout.storage == "chunked" for layout in located.layouts))
    address, size = located.address[rows], located.size[rows]
    hashes = np.zeros((len(rows), 2), np.int64)
    one = np.flatnonzero(~several)
    found = np.zeros((len(one), 2), np.int64)
    sample_hash(stored.buf, stored.ctx.copy(), address[one], size[one], found)
    hashes[one] = found
    for at in np.flatnonzero(several).tolist():
        pieces, size[at] = _middles(stored, located, int(rows[at]))
        digest = hashlib.blake2b(pieces, digest_size=16).digest()
        hashes[at] = np.frombuffer(digest, np.int64)
    return size, hashes[:, 0], hashes[:, 1]


def _middles(stored: Bytes, located: Located, row: int) -> tuple[bytes, int]:
    """Return bytes from the middle of up to 16 chunks, and the stored bytes of all chunks."""
    place = located.place(row)
    assert place is not None
    assert place.chunks is not None  # its layout says that it has several
    own = slice(place.address, place.address + place.size)
    address, size = place.chunks["address"][own], place.chunks["size"][own]
    chosen = np.unique(np.linspace(0, len(size) - 1, min(len(size), _PIECES)).astype(int))
    starts = address[chosen] + np.maximum(0, (size[chosen] - _PIECE) // 2)
    runs = map(stored.run, starts.tolist(), np.minimum(size[chosen], _PIECE).tolist())
    return b"".join(run.tobytes() for run in runs), int(size.sum())


def _are_sure(stored: Bytes, located: Located, rows: NDArray[np.int64], images: NDArray[np.int32]) -> bool:
    """Whether the first and the last image of each number are equal in full."""
    last = np.empty(images.max(initial=-1) + 1, np.int64)
    last[images] = rows
    first = np.empty(len(last), np.int64)
    first[images[::-1]] = rows[::-1]
    pairs = zip(first.tolist(), last.tolist(), strict=True)
    return all(a == b or _are_equal(stored, located, a, b) for a, b in pairs)


def _are_equal(stored: Bytes, located: Located, a: int, b: int) -> bool:
    """Whether the images of two cells are equal: they are where they are stored alike, which takes no decoding."""
    with contextlib.suppress(ObjectError):
        if located.code[a] == located.code[b]:
            pairs = zip(_as_stored(stored, located, a), _as_stored(stored, located, b), strict=False)
            if all(np.array_equal(own, other) for own, other in pairs):
                return True
    return _digest(stored, located, a) == _digest(stored, located, b)


def _digest(stored: Bytes, located: Located, row: int) -> bytes:
    """Return a hash of all bytes of an image: decoded, or as stored where only libhdf5 can decode them."""
    try:
        raw = stored.raw(located, row, with_attrs=False)
        content = b"" if raw is None or raw.value is None else content_of(raw.value)
    except NeedsLibhdf5Error:
        content = b"".join(run.tobytes() for run in _as_stored(stored, located, row))
    except ObjectError as error:
        content = str(error).encode()
    return digest_of(content)


def _as_stored(stored: Bytes, located: Located, row: int) -> Iterator[NDArray[Any]]:
    """Yield the stored bytes of an image; of several chunks first what is known of them."""
    place = located.place(row)
    if place is None or place.layout.storage in _NOWHERE:
        return
    if place.chunks is None or place.layout.storage != "chunked":
        yield stored.run(place.address, place.size)
        return
    own = slice(place.address, place.address + place.size)
    yield from (place.chunks[name][own] for name in ("size", "index", "mask"))
    yield from map(stored.run, place.chunks["address"][own].tolist(), place.chunks["size"][own].tolist())


def _fault(
    stored: Bytes, located: Located, row: int, left: Callable[[int], Raw | Unreadable | None], look: FirstLook
) -> str | None:
    """Return why a stored object is no image, `None` if it is one for all that can be told."""

    def read() -> Raw | Unreadable:
        try:
            return stored.raw(located, row, with_attrs=False) or Raw()
        except NeedsLibhdf5Error:
            return left(row) or Raw()

    layout = located.layouts[located.code[row]]
    is_array = layout.kind == "number" and not layout.reason
    return look.fault(str(np.dtype(layout.dtype)) if is_array else "", layout.shape, read)
