"""JSON documents of many cells as columns, without a Python object for each: most were written by one program.

The text around the values of a document is a template. Where others match it byte for byte, their values are cut out by
compiled code, and become Arrow arrays together. What matches no template is left: values that are lists or objects, and
all that is spelled in an uncommon way.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellnet_sd.buffers import bytes_of
from cellnet_sd.components.documents import Documents, Kind, Values, check_keys
from cellnet_sd.sources.native.codes import CTX_SIZE
from cellnet_sd.sources.native.templates import BOOL, FRACTION, INTEGER, NULL, STRING, match
from cellnet_sd.sources.native_values import Bytes

if TYPE_CHECKING:
    import pyarrow as pa

Ints = NDArray[np.int64]
_MOST: Final = 8
"""Templates that are tried on a batch."""
_WORTHWHILE: Final = 16
"""Documents that a template must match to be of use."""
_SPACE: Final = r"[ \t\n\r]*"
_VALUES: Final = {
    STRING: r'"(?:[^"\\\x00-\x1f]|\\.)*"',
    FRACTION: r"-?[0-9]+\.[0-9]+",
    INTEGER: r"-?[0-9]+",
    BOOL: "true|false",
    NULL: "null",
}
_VALUE: Final = "|".join(f"(?P<v{kind}>{value})" for kind, value in _VALUES.items())
_ENTRY: Final = re.compile(rf'{_SPACE}"(?P<key>[^"\\\x00-\x1f]*)"{_SPACE}:{_SPACE}(?:{_VALUE}){_SPACE}')
_OPENING, _CLOSING = re.compile(rf"{_SPACE}\{{"), re.compile(rf"{_SPACE}\}}{_SPACE}")
_KINDS: Final[dict[int, tuple[Kind, str]]] = {
    STRING: ("str", "large_string"),
    INTEGER: ("int", "int64"),
    FRACTION: ("float", "double"),
    BOOL: ("bool", "bool"),
    NULL: ("json", "large_string"),
}


class Cut(NamedTuple):
    """Documents that match a template: at which rows, and what they say."""

    rows: Ints
    documents: Documents


@dataclass(frozen=True)
class Template:
    """What documents of one program have in common.

    Parameters
    ----------
    keys, kinds
        Of the values, in order; kinds as `native.templates` numbers them.
    literals
        What stands before each value, and after the last.
    """

    keys: tuple[str, ...]
    kinds: tuple[int, ...]
    literals: tuple[bytes, ...]

    @classmethod
    def of(cls, text: str) -> "Template | None":
        """Return the template of a document; `None` if a value is not plain, or a key comes twice."""
        found = [*_entries(text)]
        keys = tuple(entry["key"] for entry in found)
        check_keys(len(keys), 1, len(keys))
        starts = [*(entry.end(f"v{_kind(entry)}") for entry in found)]
        if not found or len({*keys}) < len(keys) or not _CLOSING.fullmatch(text, starts[-1]):
            return None
        stops = [*(entry.start(f"v{_kind(entry)}") for entry in found), len(text)]
        literals = tuple(text[start:stop].encode() for start, stop in zip([0, *starts], stops, strict=True))
        return cls(keys, tuple(map(_kind, found)), literals)

    def cut(self, texts: NDArray[np.uint8], offsets: Ints, rows: Ints) -> Cut | None:
        """Return those of some documents that match; `None` if they hold what no JSON does."""
        bounds = np.cumsum([0, *map(len, self.literals)])
        literals, kinds = np.frombuffer(b"".join(self.literals), np.uint8), np.array(self.kinds, np.int64)
        begins, ends = (np.zeros((len(kinds) + 1, len(rows)), np.int64) for _ in range(2))
        escaped = np.zeros(len(kinds), np.int64)
        match(texts, offsets[rows], offsets[rows + 1], literals, bounds, kinds, begins, ends, escaped)
        own = np.flatnonzero(ends[-1])
        columns = {}
        for at, key in enumerate(self.keys):
            array = _strings(texts, begins[at, own], ends[at, own])
            try:
                array = _unescaped(array) if escaped[at] else array
            except msgspec.DecodeError:
                return None
            kind, dtype = _KINDS[self.kinds[at]]
            columns[key] = Values(kind, array.cast(dtype), np.zeros(len(own), bool))
        return Cut(rows[own], Documents(len(own), columns, {self.keys: None}))


def _entries(text: str) -> Iterator["re.Match[str]"]:
    """Yield the keys and values of a document, up to what is not plain."""
    opening = _OPENING.match(text)
    entry = opening and _ENTRY.match(text, opening.end())
    while entry:
        yield entry
        entry = _ENTRY.match(text, entry.end() + 1) if text[entry.end() : entry.end() + 1] == "," else None


def _kind(entry: "re.Match[str]") -> int:
    return next(kind for kind in _VALUES if entry[f"v{kind}"] is not None)


def _strings(texts: NDArray[np.uint8], begins: Ints, ends: Ints) -> "pa.Array":
    """Return parts of the texts, null where they begin before them."""
    import pyarrow as pa

    null = begins < 0
    data, offsets = Bytes(texts, np.zeros(CTX_SIZE, np.int64)).gathered(np.where(null, 0, begins), ends - begins)
    valid = pa.py_buffer(np.packbits(~null, bitorder="little")) if null.any() else None
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.LargeStringArray.from_buffers(len(null), *buffers[1:], buffers[0])


def _unescaped(array: "pa.Array") -> "pa.Array":
    """Return what JSON strings say that are given without their quotes; each distinct one is decoded once."""
    import pyarrow as pa

    encoded = array.dictionary_encode()
    quoted = ",".join(f'"{text}"' for text in encoded.dictionary.to_pylist())
    said = msgspec.json.decode(f"[{quoted}]", type=list[str])
    return pa.array(said, pa.large_string()).take(encoded.indices)


def cut_out(array: "pa.Array") -> tuple[list[Cut], Ints]:
    """Return what templates find in JSON texts, and the rows of the texts that are left.

    Parameters
    ----------
    array
        Arrow `large_string` without nulls.
    """
    cuts: list[Cut] = []
    rest = np.arange(len(array))
    texts, offsets = bytes_of(array)
    while len(rest) >= _WORTHWHILE and len(cuts) < _MOST:
        template = Template.of(array[int(rest[0])].as_py())
        cut = None if template is None else template.cut(texts, offsets, rest)
        if cut is None or len(cut.rows) < _WORTHWHILE:
            break
        cuts.append(cut)
        rest = np.setdiff1d(rest, cut.rows, assume_unique=True)
    return cuts, rest
