"""What messages say: datatypes, dataspaces, filters and fill values, worked out once per distinct message."""

from typing import Final, NamedTuple

import numpy as np

_FIXED, _FLOAT, _STRING, _OPAQUE, _ENUM, _VLEN = 0, 1, 3, 5, 8, 9
_FLOATS: Final = {
    # size: bit offset, precision, exponent location and size, mantissa location and size, exponent bias; sign location
    2: ((0, 16, 10, 5, 0, 10, 15), 15),
    4: ((0, 32, 23, 8, 0, 23, 127), 31),
    8: ((0, 64, 52, 11, 0, 52, 1023), 63),
}
_IMPLIED_NORM = 2
_NULS = 1
_HEADER = 8
_TOO_LARGE = 1 << 31


class NativeType(NamedTuple):
    """A stored datatype.

    Parameters
    ----------
    dtype
        Of one element as stored; of the items where the length varies. Opaque bytes are void.
    kind
        `"number"`, `"bool"`, `"text"` (fixed length, ended by or padded with NULs; padded with spaces, it is left to
        libhdf5), `"opaque"`, `"vlen text"` or `"vlen"`.
    utf8
        Whether text says that it is UTF-8; else ASCII.
    """

    dtype: "np.dtype[np.generic]"
    kind: str
    utf8: bool = False


class Filter(NamedTuple):
    """One filter of a pipeline."""

    number: int
    flags: int
    values: tuple[int, ...]


def datatype(message: bytes, reference: int = 0) -> NativeType | None:
    """Return the datatype a message states (IV.A.2.d), `None` if it is not known here.

    `reference` is how many bytes a reference to a value of variable length takes in the file.
    """
    if len(message) < _HEADER or not 1 <= message[0] >> 4 <= 5:
        return None
    kind, bits, size = message[0] & 15, int.from_bytes(message[1:4], "little"), int.from_bytes(message[4:8], "little")
    body = message[_HEADER:]
    if kind == _FIXED:
        return _integer(bits, size, body)
    if kind == _FLOAT:
        return _float(bits, size, body)
    if size >= _TOO_LARGE:
        return None
    if kind == _STRING and size and bits & 15 <= _NULS and bits >> 4 & 15 <= 1:
        return NativeType(np.dtype(f"S{size}"), "text", bits >> 4 & 15 == 1)
    if kind == _OPAQUE and size:
        return NativeType(np.dtype(f"V{size}"), "opaque") if not body.rstrip(b"\0") else None
    if kind == _ENUM:
        return _boolean(message[0] >> 4, bits, size, body)
    if kind == _VLEN and size == reference:
        return _variable(bits, body)
    return None


def _integer(bits: int, size: int, body: bytes) -> NativeType | None:
    """Return an integer whose every bit counts."""
    offset, precision = int.from_bytes(body[:2], "little"), int.from_bytes(body[2:4], "little")
    if size not in (1, 2, 4, 8) or offset or precision != 8 * size:
        return None
    return NativeType(np.dtype(f"{'<>'[bits & 1]}{'ui'[bits >> 3 & 1]}{size}"), "number")


def _float(bits: int, size: int, body: bytes) -> NativeType | None:
    """Return a float of IEEE 754's layout."""
    if size not in _FLOATS or len(body) < 12 or bits & 64:
        return None
    layout, sign = _FLOATS[size]
    wide = (int.from_bytes(body[:2], "little"), int.from_bytes(body[2:4], "little"))
    found = (*wide, *body[4:8], int.from_bytes(body[8:12], "little"))
    if found != layout or bits >> 8 & 255 != sign or bits >> 4 & 3 != _IMPLIED_NORM:
        return None
    return NativeType(np.dtype(f"{'<>'[bits & 1]}f{size}"), "number")


def _boolean(version: int, bits: int, size: int, body: bytes) -> NativeType | None:
    """Return h5py's boolean: an enumeration of FALSE = 0 and TRUE = 1 over one byte."""
    base = datatype(body[:12])
    if base is None or size != 1 or bits & 0xFFFF != 2 or base.kind != "number":
        return None
    names = b"FALSE\0TRUE\0" if version >= 3 else b"FALSE\0\0\0TRUE\0\0\0\0"
    if body[12 : 12 + len(names) + 2] != names + b"\0\1":
        return None
    return NativeType(np.dtype(bool), "bool")


def _variable(bits: int, body: bytes) -> NativeType | None:
    """Return text or a sequence of variable length."""
    base = datatype(body)
    if base is None:
        return None
    if bits & 15 == 1:
        return NativeType(np.dtype("S1"), "vlen text", bits >> 8 & 15 == 1)
    return NativeType(base.dtype, "vlen") if bits & 15 == 0 and base.kind == "number" else None


def dataspace(message: bytes, lengths: int) -> tuple[int, ...] | None:
    """Return the shape, `None` for a dataspace without elements (IV.A.2.b).

    `dataspaces.read_dataspace` has checked the message, or the object is marked and its shape is not looked at.
    """
    version, rank = message[0], message[1]
    if version == 2 and message[3] == 2:
        return None
    start = 8 if version == 1 else 4
    ends = range(start, start + rank * lengths, lengths)
    return tuple(int.from_bytes(message[i : i + lengths], "little") for i in ends)


def filters(message: bytes) -> tuple[Filter, ...] | None:
    """Return the filters of a pipeline message (IV.A.2.l), in the order of writing; `None` if it is not known here."""
    version, count = message[0], message[1]
    if version not in (1, 2):
        return None
    pos = 8 if version == 1 else 2
    found = []
    for _ in range(count):
        one, pos = _filter(message, pos, version)
        if one is None:
            return None
        found.append(one)
    return tuple(found)


def _filter(message: bytes, pos: int, version: int) -> tuple[Filter | None, int]:
    number = int.from_bytes(message[pos : pos + 2], "little")
    pos += 2
    name_size = 0
    if version == 1 or number >= 256:
        name_size = int.from_bytes(message[pos : pos + 2], "little")
        pos += 2
    flags, n = (int.from_bytes(message[pos + 2 * i : pos + 2 * i + 2], "little") for i in range(2))
    pos += 4 + ((name_size + 7) // 8 * 8 if version == 1 else name_size)
    end = pos + 4 * n
    if end > len(message):
        return None, end
    values = tuple(int.from_bytes(message[pos + 4 * i : pos + 4 * i + 4], "little") for i in range(n))
    return Filter(number, flags, values), end + (4 if version == 1 and n % 2 else 0)


def fill_value(message: bytes, *, old: bool) -> bytes | None:
    """Return the bytes of a fill value (IV.A.2.e, IV.A.2.f); empty for the default, zeros; `None` if not known here."""
    if old:
        return _sized(message, 0)
    version = message[0]
    if version in (1, 2) and len(message) >= 4:
        return _sized(message, 4) if version == 1 or message[3] else b""
    if version == 3:
        return _sized(message, 2) if message[1] & 32 else b""
    return None


def _sized(message: bytes, pos: int) -> bytes | None:
    size = int.from_bytes(message[pos : pos + 4], "little")
    value = message[pos + 4 : pos + 4 + size]
    return value if len(value) == size else b"" if size == 0xFFFFFFFF else None
