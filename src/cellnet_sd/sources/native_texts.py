"""Texts of a batch of cells, captions and the JSON of their attributes, from the bytes of the file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.text import decode_text, is_utf8, raw_bytes
from cellnet_sd.sources.allowance import beyond_the_file, most_in_all
from cellnet_sd.sources.base import Raw
from cellnet_sd.sources.hdf5_objects import ObjectError
from cellnet_sd.sources.locations import Layout, Located, flags_of
from cellnet_sd.sources.native_values import Bytes, is_decoded

if TYPE_CHECKING:
    import pyarrow as pa

_BYTE_ORDER_MARK: Final = "\ufeff"
_TOO_MUCH: Final = "with those of other cells, it is more text than the file holds"
"""What many cells share would be as many copies of it."""


@dataclass
class Texts:
    """The texts of one component.

    Parameters
    ----------
    array
        Arrow `large_string`, null where there is none or it cannot be read.
    faults
        Why it cannot be read, by row.
    n_latin1
        How many are not UTF-8, and were read as latin-1.
    """

    array: "pa.Array"
    faults: dict[int, str] = field(default_factory=dict)
    n_latin1: int = 0


def read_texts(stored: Bytes, located: Located) -> Texts:
    """Return the texts of a component of a batch of cells."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain, fixed, nbytes = _kinds(located.layouts)
    code = located.code
    is_plain = plain[code] & (code >= 0)
    is_fixed = is_plain & fixed[code]
    sizes = np.where(is_plain, np.where(is_fixed, nbytes[code], located.size), 0)
    beyond = beyond_the_file(sizes, stored.buf.size)
    is_plain[beyond], sizes[beyond] = False, 0
    address = np.where(is_plain, located.address, 0)
    data, offsets = stored.gathered(address, sizes)
    varying = flags_of(code, (layout.kind == "vlen text" for layout in located.layouts))
    sizes = _up_to_nuls(data, offsets, is_plain & varying)
    if sizes.sum() < len(data):
        data, offsets = stored.gathered(address, sizes)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    runs = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(code), buffers)
    texts = _decoded(runs, is_fixed)
    if not is_plain.all():
        texts.array = pc.if_else(pa.array(is_plain), texts.array, pa.scalar(None, pa.large_string()))
        texts.faults |= dict.fromkeys(beyond[code[beyond] >= 0].tolist(), _TOO_MUCH)
        rest = np.setdiff1d(np.flatnonzero(~is_plain & (code >= 0)), beyond)
        _add_others(stored, located, rest, texts)
    return texts


def _up_to_nuls(data: NDArray[np.uint8], offsets: NDArray[np.int64], which: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the sizes of runs of bytes, those of `which` only up to their first NUL, at which libhdf5 ends a text."""
    sizes = np.diff(offsets)
    if data.min(initial=1):
        return sizes
    nuls = np.append(np.flatnonzero(data == 0), len(data))
    first = nuls[np.searchsorted(nuls, offsets[:-1])] - offsets[:-1]
    return np.where(which, np.minimum(first, sizes), sizes)


def _kinds(layouts: Sequence[Layout]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Return per layout (and for none, last) whether its bytes are the text, whether padded, and how many they are."""
    plain, fixed, nbytes = [], [], []
    for each in layouts:
        is_bytes = each.dtype == "|u1"
        varying = each.storage == "text" and (each.kind == "vlen text" or is_bytes)
        whole = each.storage in ("compact", "contiguous") and not each.reason
        single = each.kind in ("text", "opaque") and each.n_elements == 1
        padded = whole and (single or (is_bytes and each.kind == "number" and len(each.shape or ()) == 1))
        plain.append(varying or padded)
        fixed.append(padded)
        nbytes.append(each.n_elements * np.dtype(each.dtype).itemsize if padded else 0)
    return np.array([*plain, False]), np.array([*fixed, False]), np.array([*nbytes, 0], np.int64)


def _decoded(runs: "pa.Array", is_fixed: NDArray[np.bool_]) -> Texts:
    """Return runs of bytes as text: UTF-8 all at once, else one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        array = runs.cast(pa.large_string())
    except pa.ArrowInvalid:
        items = [item.rstrip(b"\0") if pad else item for item, pad in zip(runs.to_pylist(), is_fixed, strict=True)]
        n_latin1 = sum(not is_utf8(item) for item in items)
        return Texts(pa.array([decode_text(item) for item in items], pa.large_string()), n_latin1=n_latin1)
    if is_fixed.any():
        array = pc.if_else(pa.array(is_fixed), pc.utf8_rtrim(array, characters="\0"), array)
    marked = pc.starts_with(array, _BYTE_ORDER_MARK)
    if pc.any(marked).as_py():
        array = pc.if_else(marked, pc.utf8_slice_codeunits(array, 1), array)
    return Texts(array)


def _add_others(stored: Bytes, located: Located, rows: NDArray[np.intp], texts: Texts) -> None:
    """Add the texts that are stored otherwise: in chunks, filtered, or as what is no text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[int, str] = {}
    left, seen = most_in_all(stored.buf.size), set[int]()  # what is compressed may be more, if it is not shared
    for row in rows.tolist():
        if not is_decoded(located.layouts[located.code[row]]):
            continue
        try:
            raw = stored.raw(located, row, with_attrs=False)
            assert raw is not None  # it is located
            value = raw_bytes(Raw(raw.value) if raw.members == {} else raw)
            left = _taken(left, len(value) if (address := int(located.address[row])) in seen else 0)
            seen.add(address)
        except (ObjectError, ValueError) as error:
            texts.faults[row] = str(error)
            continue
        texts.n_latin1 += not is_utf8(value)
        found[row] = decode_text(value)
    if found:
        mask = np.zeros(len(located), bool)
        mask[list(found)] = True
        values = pa.array(list(found.values()), pa.large_string())
        texts.array = pc.replace_with_mask(texts.array, pa.array(mask), values)


def _taken(left: int, size: int) -> int:
    """Return how many bytes of text there may be still, after one more.

    Raises
    ------
    ObjectError
        If they are too few for it.
    """
    if size > left:
        raise ObjectError(_TOO_MUCH)
    return left - size
