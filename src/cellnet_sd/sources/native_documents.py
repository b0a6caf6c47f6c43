"""The attributes of a batch of cells: their JSON texts as columns."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from cellnet_sd.buffers import bytes_of
from cellnet_sd.components.attributes import MOST_VALUES, parse_document
from cellnet_sd.components.documents import Document, Documents, check_keys, check_places
from cellnet_sd.sources.native_templates import cut_out
from cellnet_sd.sources.native_texts import Texts

if TYPE_CHECKING:
    import pyarrow as pa

_LEAST: Final = 5
"""Bytes of a value and its key."""
_FIRST: Final = 64
"""Documents that are looked at for whether some are equal."""
_AT_ONCE: Final = 4096
"""Documents that are Python objects at the same time."""
_TEXT_AT_ONCE: Final = 2**21
"""Bytes of their texts, where it is not one that is longer: a list takes three in a text, and 64 as an object."""


def parse_documents(texts: Texts, file_size: float = math.inf) -> Documents:
    """Return JSON texts as documents, equal ones parsed once; what is malformed is added to the faults."""
    if _seem_distinct(texts.array, file_size):
        return _columns(texts.array, texts.faults)
    encoded = texts.array.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    if len(encoded.dictionary) == len(codes):
        return _columns(texts.array, texts.faults)
    faults: dict[int, str] = {}
    found = _columns(encoded.dictionary, faults)
    for row in np.flatnonzero(np.isin(codes, list(faults))).tolist() if faults else []:
        texts.faults[row] = faults[int(codes[row])]
    none = Documents.of([None])
    n = len(encoded.dictionary)
    check_keys(len(found.columns), len(codes), texts.array.nbytes // _LEAST)
    check_places(len(found.columns), len(codes), file_size)
    return Documents.joined([found, none]).take(np.where(codes < 0, n, codes).astype(np.int64))


def _seem_distinct(array: "pa.Array", file_size: float) -> bool:
    """Whether the first texts are distinct: to tell all apart takes a quarter of the time that it takes to parse them.

    None may be missing, and they may not be more than the file holds: that many cells share one shows only when they
    are told apart.
    """
    first = array[:_FIRST]
    return array.null_count == 0 and array.nbytes <= file_size and len(first.unique()) == len(first)


def _columns(array: "pa.Array", faults: dict[int, str]) -> Documents:
    """Return JSON texts as documents: by template where that goes, then by a parser."""
    cuts, rest = cut_out(array)
    first_met = {order: int(cut.rows[0]) for cut in cuts for order in cut.documents.orders}
    parsed = _parsed(array.take(rest), rest, faults, first_met)
    found = Documents.joined([*(cut.documents for cut in cuts), *parsed])
    found.orders = dict.fromkeys(order for order in sorted(first_met, key=first_met.__getitem__) if order)
    if len(cuts) + bool(len(rest)) == 1:
        return found
    return found.take(np.argsort(np.concatenate([*(cut.rows for cut in cuts), rest])))


def _parsed(
    array: "pa.Array", rows: NDArray[np.int64], faults: dict[int, str], first_met: dict[tuple[str, ...], int]
) -> list[Documents]:
    """Return what a parser makes of JSON texts; note at which row each order of keys is met first."""
    parts = []
    for start, stop in _batches(array):
        own = rows[start:stop].tolist()
        documents = _documents(array.slice(start, stop - start), own, faults)
        parts.append(Documents.of(documents))
        for row, document in zip(own, documents, strict=True):
            if document is not None:
                order = tuple(document)
                first_met[order] = min(row, first_met.get(order, row))
    return parts


def _batches(array: "pa.Array") -> Iterator[tuple[int, int]]:
    """Yield where texts start and stop that are few enough to be parsed at the same time."""
    import pyarrow.compute as pc

    ends = np.cumsum(pc.binary_length(array).to_numpy(), dtype=np.int64)
    start = 0
    while start < len(array):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + _TEXT_AT_ONCE, side="right"))
        stop = min(max(stop, start + 1), start + _AT_ONCE)
        yield start, stop
        start = stop


def _documents(array: "pa.Array", rows: list[int], faults: dict[int, str]) -> list[Document | None]:
    """Return the documents of JSON texts without a null among them."""
    data, bounds = bytes_of(array)
    view, offsets = memoryview(data), bounds.tolist()
    decode = msgspec.json.Decoder().decode
    documents: list[Document | None] = []
    for at, row in enumerate(rows):
        text = view[offsets[at] : offsets[at + 1]]
        try:
            document: Any = decode(text) if len(text) <= MOST_VALUES else None
        except (msgspec.DecodeError, RecursionError):
            document = None
        if not isinstance(document, dict):
            document = _slowly(bytes(text).decode(), row, faults)
        documents.append(document)
    return documents


def _slowly(text: str, row: int, faults: dict[int, str]) -> Document | None:
    """Parse what the fast parser did not take for a document."""
    try:
        return parse_document(text)
    except ValueError as error:
        faults[row] = str(error)
        return None
