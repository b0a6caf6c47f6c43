"""The attributes of many cells as columns: the values of each key, typed as JSON types them, before any is understood.

One Arrow array per key, whatever the number of cells: documents come and go batch by batch, and no cell keeps a Python
object of its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.attribute_codecs import to_json
from cellnet_sd.errors import TooManyKeysError

if TYPE_CHECKING:
    import pyarrow as pa

Document = Mapping[str, Any]
Kind = Literal["str", "int", "float", "bool", "json"]
_MAX_KEYS: Final = 4096
"""Each is a column: a table with many more takes minutes."""
_FEW: Final = 2**22
_SPARSE: Final = 128
"""How many places of a table there may be for each value, where they are not few."""
_PLACES_PER_BYTE: Final = 4
"""How many places of a table there may be for each byte of the file: documents that cells share have none."""
_KINDS: Final[Mapping[type, Kind]] = {str: "str", int: "int", float: "float", bool: "bool"}


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one key, one per document.

    Parameters
    ----------
    kind
        What all of them are; `"json"` for lists, objects, and values of several kinds.
    array
        Arrow array of `large_string`, `int64`, `double` or `bool`; JSON text for `"json"`. Null where the key is absent
        or its value is null.
    absent
        Whether each document lacks the key.
    """

    kind: Kind
    array: "pa.Array"
    absent: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.absent)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether each document has a value that is not null."""
        return np.asarray(self.array.is_valid())

    @property
    def is_mostly_absent(self) -> bool:
        """Whether a document without a value mostly lacks the key, rather than holding null."""
        return bool(self.absent.sum() * 2 > self.array.null_count)

    def as_python(self) -> list[Any]:
        """Return the values, `None` where there is none."""
        items: list[Any] = self.array.to_pylist()
        if self.kind != "json":
            return items
        said = iter(json.loads(f"[{','.join(item for item in items if item is not None)}]"))  # one by one is slow
        return [item if item is None else next(said) for item in items]

    def distinct(self) -> tuple[list[Any], NDArray[np.int64]]:
        """Return the distinct values in the order they are met, and each document's code, -1 for none.

        Numbers are told apart by type: 1, 1.0 and true are three values.
        """
        encoded = self.array.dictionary_encode()
        codes = filled(encoded.indices, ~self.present, -1).astype(np.int64)
        return Values(self.kind, encoded.dictionary, np.empty(0, bool)).as_python(), codes

    def take(self, rows: NDArray[np.int64]) -> "Values":
        """Return the values of the documents at `rows`."""
        return Values(self.kind, self.array.take(rows), self.absent[rows])

    def as_json(self) -> "Values":
        """Return the values as JSON text."""
        import pyarrow as pa

        if self.kind == "json":
            return self
        texts = [item if item is None else to_json(item) for item in self.as_python()]
        return Values("json", pa.array(texts, pa.large_string()), self.absent)


@dataclass
class Documents:
    """The attributes of many cells.

    Parameters
    ----------
    n
        How many documents there are, cells without one among them.
    columns
        Values by key.
    orders
        The orders of keys met.
    """

    n: int
    columns: dict[str, Values] = field(default_factory=dict)
    orders: dict[tuple[str, ...], None] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Sequence[Document | None]) -> "Documents":
        """Return parsed documents as columns; `None` is a cell without attributes."""
        orders = dict.fromkeys(tuple(document) for document in documents if document is not None)
        names = list(dict.fromkeys(name for order in orders for name in order))
        check_keys(len(names), len(documents), sum(len(document) for document in documents if document is not None))
        if len(orders) == 1 and None not in documents:
            whole = zip(*(document.values() for document in documents if document is not None), strict=True)
            none_absent = np.zeros(len(documents), bool)
            columns = {name: _values(list(items), none_absent) for name, items in zip(names, whole, strict=False)}
        else:
            columns = _gathered(documents)
        return cls(len(documents), columns, {order: None for order in orders if order})

    @classmethod
    def joined(cls, parts: Sequence["Documents"]) -> "Documents":
        """Return the documents of several batches, one after the other."""
        orders: dict[tuple[str, ...], None] = reduce(
            or_, (part.orders for part in parts), dict[tuple[str, ...], None]()
        )
        names = dict.fromkeys(name for part in parts for name in part.columns)
        sizes = [part.n for part in parts]
        check_keys(len(names), sum(sizes), sum(part.n * len(part.columns) for part in parts))
        columns = {name: _joined([part.columns.get(name) for part in parts], sizes) for name in names}
        return cls(sum(sizes), columns, orders)

    def take(self, rows: NDArray[np.int64]) -> "Documents":
        """Return the documents of the cells at `rows`."""
        return Documents(len(rows), {name: values.take(rows) for name, values in self.columns.items()}, self.orders)


def check_keys(n_keys: int, n_documents: int, n_values: int) -> None:
    """Refuse documents with very many keys, most of which are in few of them.

    Raises
    ------
    TooManyKeysError
        If they are too many for a table.
    """
    if n_keys > _MAX_KEYS or n_keys * n_documents > max(_FEW, _SPARSE * n_values):
        msg = f"{n_keys:,} keys, in {n_documents:,} documents, are too many for a table"
        raise TooManyKeysError(msg)


def check_places(n_keys: int, n_documents: int, file_size: float) -> None:
    """Refuse documents whose table would be many times the file, as where cells share a long one.

    Raises
    ------
    TooManyKeysError
        If their table is too large.
    """
    if n_keys * n_documents > max(_FEW, _PLACES_PER_BYTE * file_size):
        msg = (
            f"{n_keys:,} keys, in {n_documents:,} documents of a file of {file_size:,} bytes, are too many for a table"
        )
        raise TooManyKeysError(msg)


def filled(array: "pa.Array", missing: NDArray[np.bool_], fill: int) -> NDArray[Any]:
    """Return numbers or truth values with `fill` where they are `missing`, which is where they are null.

    Arrow's own `fill_null` takes ten times as long on the few cells of a file with very many keys.
    """
    import pyarrow as pa

    bare = pa.Array.from_buffers(array.type, len(array), [None, array.buffers()[1]], offset=array.offset)
    numbers = np.array(bare.to_numpy(zero_copy_only=False))
    numbers[missing] = fill
    return numbers


def _gathered(documents: Sequence[Document | None]) -> dict[str, Values]:
    """Return the values of each key of documents that have not all the same keys.

    One pass over what is there: to ask every document for every key takes longer than all the rest.
    """
    found: dict[str, tuple[list[int], list[Any]]] = {}
    for row, document in enumerate(documents):
        for name, item in () if document is None else document.items():
            if (own := found.get(name)) is None:
                own = found[name] = [], []
            own[0].append(row)
            own[1].append(item)
    return {name: _spread(rows, items, len(documents)) for name, (rows, items) in found.items()}


def _spread(rows: list[int], items: list[Any], n: int) -> Values:
    """Return the values of a key that only the documents at `rows` have."""
    if len(rows) == n:
        return _values(items, np.zeros(n, bool))
    spread: list[Any] = [None] * n
    for row, item in zip(rows, items, strict=True):
        spread[row] = item
    absent = np.ones(n, bool)
    absent[rows] = False
    return _values(spread, absent)


def _values(items: list[Any], absent: NDArray[np.bool_]) -> Values:
    """Return the values of one key, `None` for those that are missing, in the narrowest kind that keeps them."""
    import pyarrow as pa

    types = set(map(type, items)) - {type(None)}
    kind: Kind = _KINDS.get(next(iter(types)), "json") if len(types) == 1 else "json"
    arrow = {"str": pa.large_string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    if kind != "json":
        try:
            return Values(kind, pa.array(items, arrow[kind], from_pandas=False), absent)
        except OverflowError:  # an integer beyond int64
            kind = "json"
    return Values("json", pa.array([v if v is None else to_json(v) for v in items], pa.large_string()), absent)


def _joined(parts: Sequence[Values | None], sizes: Sequence[int]) -> Values:
    """Return the values of one key over several batches, some of which may lack it."""
    import pyarrow as pa

    known = [part for part in parts if part is not None and part.array.null_count < len(part)]
    if len(parts) == len(known) == 1:
        return known[0]
    kinds = {part.kind for part in known}
    kind: Kind = kinds.pop() if len(kinds) == 1 else "json"
    dtype = known[0].array.type if known and kind != "json" else pa.large_string()
    arrays, absent = [], []
    for part, size in zip(parts, sizes, strict=True):
        if part is None or part.array.null_count == size:
            arrays.append(pa.nulls(size, dtype))
        else:
            arrays.append((part.as_json() if kind == "json" else part).array)
        absent.append(np.ones(size, bool) if part is None else part.absent)
    return Values(kind, pa.concat_arrays(arrays), np.concatenate(absent))
