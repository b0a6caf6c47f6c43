"""Stored values on their way from a child process: msgpack, which holds data and nothing that runs."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.hdf5_objects import ObjectError


class StoredRaw(msgspec.Struct):
    """A `Raw`, or why there is none, as plain data."""

    reason: str | None = None
    dtype: str = ""
    shape: tuple[int, ...] | None = None
    data: bytes = b""
    items: list[bytes] | None = None
    item_dtype: str = ""
    attrs: dict[str, "StoredRaw"] = {}
    members: dict[str, "StoredRaw"] = {}


def unpacked(answer: memoryview) -> Raw | Unreadable | None:
    """Return a value from what a child process said."""
    stored = msgspec.msgpack.decode(answer, type=StoredRaw | None)
    if stored is None:
        return None
    return Unreadable(stored.reason) if stored.reason else _raw(stored)


def _raw(stored: StoredRaw) -> Raw:
    attrs = {name: _value(each) for name, each in stored.attrs.items()}
    members = {name: _raw(each) for name, each in stored.members.items()}
    return Raw(_value(stored) if stored.shape is not None else None, attrs, members)


def _value(stored: StoredRaw) -> Any:
    if stored.shape is None:
        return None
    if stored.items is not None:
        array = np.empty(len(stored.items), object)
        array[:] = [np.frombuffer(each, stored.item_dtype) if stored.item_dtype else each for each in stored.items]
        return array.reshape(stored.shape)
    return np.frombuffer(stored.data, np.dtype(stored.dtype)).reshape(stored.shape)


def packed(raw: Raw | Unreadable | None) -> StoredRaw | None:
    """Return a value as plain data, to be said to another process."""
    if raw is None:
        return None
    if isinstance(raw, Unreadable):
        return StoredRaw(reason=str(raw) or "it cannot be read")
    try:
        return _packed_parts(raw)
    except ObjectError as error:
        return StoredRaw(reason=str(error))


def _packed_parts(raw: Raw) -> StoredRaw:
    if raw.value is not None and raw.value.dtype.names is not None:  # without its fields, a record is opaque bytes
        msg = "it holds records, which no part of a cell does"
        raise ObjectError(msg)
    packed = _packed_array(raw.value) if raw.value is not None else StoredRaw()
    packed.attrs = {name: _packed_array(np.asarray(each)) for name, each in raw.attrs.items() if each is not None}
    packed.members = {name: _packed_parts(each) for name, each in raw.members.items()}
    return packed


def _packed_array(array: NDArray[Any]) -> StoredRaw:
    if array.dtype.kind == "O":
        items = array.reshape(-1).tolist()
        inner = next((str(item.dtype.str) for item in items if isinstance(item, np.ndarray)), "")
        return StoredRaw(shape=array.shape, items=[_packed_item(item) for item in items], item_dtype=inner)
    _check_plain(array.dtype)
    return StoredRaw(dtype=array.dtype.str, shape=array.shape, data=np.ascontiguousarray(array).tobytes())


def _packed_item(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    _check_plain(item.dtype if isinstance(item, np.ndarray) else np.dtype(object))
    return bytes(item.tobytes())


def _check_plain(dtype: "np.dtype[Any]") -> None:
    """Refuse values that are addresses in this process.

    Raises
    ------
    ObjectError
        If a value of that type holds some.
    """
    if dtype.hasobject:
        msg = "it holds values within values of a type that is not known"
        raise ObjectError(msg)
