"""The attributes room: `attributes.json` ↔ columns of `obs` and positions in `obsm`.

An attribute becomes one column (or one pair of coordinates) through its codec. What a codec would not spell again
exactly as stored (a value written differently from its neighbours, a key absent here and null there) is kept as an
exception, cell by cell, so that writing back loses nothing.
"""

import heapq
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.components.attribute_codecs import (
    Codec,
    Json,
    Label,
    Length,
    Number,
    Position,
    Text,
    to_json,
)
from cellnet_sd.components.attribute_columns import OBSM, Column, StoredAttribute, reads_as_missing
from cellnet_sd.components.documents import Document, Documents
from cellnet_sd.components.text import parse_json
from cellnet_sd.layout import ATTRIBUTES, CELL_DIAMETER
from cellnet_sd.naming import legal_names
from cellnet_sd.problems import Problem

MOST_VALUES: Final = 1_000_000
"""Values that one document may hold: each is an object of Python, many times as large as its text."""


class Attribute(msgspec.Struct, frozen=True):
    """One attribute: its name in the file, its column in `obs` or key in `obsm`, and how values are spelled."""

    name: str
    column: str
    codec: Codec
    absent: bool = False
    """Whether a cell without a value lacks the key (else the key is there and null)."""


class Spellings(msgspec.Struct, frozen=True):
    """How the attributes of a file are spelled, in the order of their keys."""

    attributes: tuple[Attribute, ...] = ()
    exceptions: dict[str, dict[str, str | None]] = msgspec.field(default_factory=dict)
    """By attribute and cell: the value as stored, as JSON text (which holds NaN); `None` where the key is absent."""

    def for_cells(self, rows: NDArray[np.int64], names: Sequence[object] | pd.Index) -> "Spellings":
        """Return the spellings of a file with exceptions only of the cells at `rows`, called by `names` from now on."""
        odd = np.array([int(row) for cells in self.exceptions.values() for row in cells], dtype=np.int64)
        new = {str(rows[at]): str(names[at]) for at in np.flatnonzero(np.isin(rows, odd)).tolist()}
        kept = {
            attribute: {new[cell]: value for cell, value in cells.items() if cell in new}
            for attribute, cells in self.exceptions.items()
        }
        return Spellings(self.attributes, {attribute: cells for attribute, cells in kept.items() if cells})


@dataclass(frozen=True)
class AttributeTable:
    """The attributes of many cells as columns.

    Parameters
    ----------
    obs
        One row per document: categoricals for labels, numbers for numbers, µm for the diameter.
    obsm
        Positions in pixels by `obsm` key, float64 of shape (n, 2), x then y, NaN where missing.
    spellings
        How to write the same documents again; exceptions by row number.
    problems
        Documents that are malformed; their rows are missing values.
    """

    obs: pd.DataFrame
    obsm: dict[str, NDArray[np.float64]]
    spellings: Spellings
    problems: list[Problem]


def parse_document(text: str) -> Document:
    """Return the JSON object in `text`.

    Raises
    ------
    ValueError
        If `text` is not a JSON object; the message is the reason.
    """
    if len(text) > MOST_VALUES and sum(map(text.count, ",[{")) > MOST_VALUES:
        msg = f"it holds more than {MOST_VALUES:,} values"
        raise ValueError(msg)
    try:
        document = msgspec.json.decode(text)
    except RecursionError as error:
        msg = "JSON nested too deep"
        raise ValueError(msg) from error
    except msgspec.DecodeError:
        document = _parse_leniently(text)
    if not isinstance(document, dict):
        msg = f"a JSON object is expected, {type(document).__name__} is stored"
        raise ValueError(msg)
    return document


def _parse_leniently(text: str) -> Any:
    """Parse what Python's `json` writes and the standard forbids: NaN and infinities."""
    try:
        return parse_json(text)
    except ValueError as error:
        msg = f"broken JSON: {error}"
        raise ValueError(msg) from error


# --- documents → columns ---------------------------------------------------------------------------------------------


def decode(documents: Documents | Sequence[Document | None]) -> AttributeTable:
    """Return the documents of many cells as columns; `None` is a cell without attributes."""
    if not isinstance(documents, Documents):
        documents = Documents.of(documents)
    names = key_order(documents.orders)
    problems: list[Problem] = []
    obs: dict[str, Column] = {}
    obsm: dict[str, NDArray[np.float64]] = {}
    attributes, exceptions = [], {}
    for name, column in zip(names, _columns(names), strict=True):
        stored = StoredAttribute.of(name, documents.columns[name], problems)
        attributes.append(Attribute(name, column, stored.codec, absent=stored.is_mostly_absent))
        if name in OBSM:
            obsm[column] = stored.positions()
        else:
            obs[column] = stored.column()
        if odd := stored.exceptions():
            exceptions[name] = odd
    frame = pd.DataFrame(obs, index=pd.RangeIndex(documents.n))
    return AttributeTable(frame, obsm, Spellings(tuple(attributes), exceptions), problems)


def key_order(documents: Iterable[Collection[str] | None]) -> list[str]:
    """Return all keys of `documents`, or of their orders of keys, in an order that agrees with each, if there is one.

    Where they leave it open, published attributes come first, in the published order, then others as first met.
    """
    orders = dict.fromkeys(tuple(document) for document in documents if document)
    met = list(dict.fromkeys(key for order in orders for key in order))
    rank = {key: ATTRIBUTES.index(key) if key in ATTRIBUTES else len(ATTRIBUTES) + at for at, key in enumerate(met)}
    neighbours = {pair for order in orders for pair in pairwise(order)}
    try:
        return list(_by_rank(_sorter(met, neighbours), rank))
    except CycleError:  # documents contradict each other: no order agrees with all
        return sorted(met, key=rank.__getitem__)


def _sorter(names: Iterable[str], neighbours: Collection[tuple[str, str]]) -> "TopologicalSorter[str]":
    """Return what sorts keys, of which the first of each pair comes before the second.

    Raises
    ------
    CycleError
        If the pairs contradict each other.
    """
    if any((second, first) in neighbours for first, second in neighbours):  # soon seen, where there are very many
        raise CycleError
    before: dict[str, set[str]] = {name: set() for name in names}
    for first, second in neighbours:
        before[second].add(first)
    sorter = TopologicalSorter(before)
    sorter.prepare()
    return sorter


def _by_rank(sorter: "TopologicalSorter[str]", rank: Mapping[str, int]) -> Iterator[str]:
    ready: list[tuple[int, str]] = []
    while sorter.is_active():
        for key in sorter.get_ready():
            heapq.heappush(ready, (rank[key], key))
        key = heapq.heappop(ready)[1]
        sorter.done(key)
        yield key


def _columns(names: Sequence[str]) -> list[str]:
    """Return the column of each attribute: published names are as they are, the others step aside."""
    published = {name: OBSM.get(name, name) for name in ATTRIBUTES}
    extras = [name for name in names if name not in published]
    legal = legal_names(extras, taken=[*keys.OWN_OBS, *published.values()])
    column_of = published | dict(zip(extras, legal, strict=True))
    return [column_of[name] for name in names]


# --- columns → documents ---------------------------------------------------------------------------------------------


def encode(
    obs: pd.DataFrame, obsm: Mapping[str, NDArray[np.float64]], spellings: Spellings | None = None
) -> list[dict[str, Any]]:
    """Return one document per row of `obs`: the inverse of `decode`.

    Attributes that `spellings` does not know (columns added since reading, or an object that never was Cell-NET) are
    spelled as published, after the known ones. An exception counts only while the value is still the one it spells.
    """
    known = complete(spellings or Spellings(), obs, obsm)
    documents: list[dict[str, Any]] = [{} for _ in range(len(obs))]
    for attribute in known.attributes:
        present, values = _spelled(attribute, obs, obsm)
        _add(documents, attribute, present, values)
        _restore(documents, attribute, known.exceptions.get(attribute.name, {}), obs.index)
    order = {attribute.name: at for at, attribute in enumerate(known.attributes)}
    return [dict(sorted(document.items(), key=lambda item: order[item[0]])) for document in documents]


def complete(spellings: Spellings, obs: pd.DataFrame, obsm: Mapping[str, Any]) -> Spellings:
    """Return `spellings` without attributes the object lost and with those it gained."""
    there = {*obs.columns, *(key for key in OBSM.values() if key in obsm)}
    kept = [attribute for attribute in spellings.attributes if attribute.column in there]
    have = {attribute.column for attribute in kept} | set(keys.OWN_OBS)
    published = {OBSM.get(name, name): name for name in ATTRIBUTES}
    gained = [column for column in (*published, *obs.columns) if column in there and column not in have]
    fresh = [_fresh(published.get(column, column), column, obs) for column in dict.fromkeys(gained)]
    return Spellings((*kept, *fresh), spellings.exceptions)


def _fresh(name: str, column: str, obs: pd.DataFrame) -> Attribute:
    """Return an attribute spelled as published."""
    if name in OBSM:
        return Attribute(name, column, Position())
    if name == CELL_DIAMETER:
        return Attribute(name, column, Length())
    dtype = obs[column].dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return Attribute(
            name, column, Label(text=dtype.categories.inferred_type == "string" or not len(dtype.categories))
        )
    if pd.api.types.is_bool_dtype(dtype):
        return Attribute(name, column, Number("bool"))
    if pd.api.types.is_numeric_dtype(dtype):
        return Attribute(name, column, Number("int" if pd.api.types.is_integer_dtype(dtype) else "float"))
    return Attribute(name, column, Text() if pd.api.types.is_string_dtype(obs[column]) else Json())


def _spelled(
    attribute: Attribute, obs: pd.DataFrame, obsm: Mapping[str, NDArray[np.float64]]
) -> tuple[NDArray[np.bool_], list[Any]]:
    """Return which rows have a value, and those values as JSON spells them."""
    codec = attribute.codec
    if isinstance(codec, Position):
        pairs = np.asarray(obsm[attribute.column], dtype=np.float64)
        present = ~np.isnan(pairs).all(axis=1)
        return present, codec.values(pairs[present])
    column = obs[attribute.column]
    present = column.notna().to_numpy()
    if isinstance(codec, Length):
        return present, codec.values(column[present].to_numpy(dtype=np.float64))
    return present, codec.values(column[present])


def _add(documents: list[dict[str, Any]], attribute: Attribute, present: NDArray[np.bool_], values: list[Any]) -> None:
    for row, value in zip(np.flatnonzero(present), values, strict=True):
        documents[row][attribute.name] = value
    if not attribute.absent:
        for row in np.flatnonzero(~present):
            documents[row][attribute.name] = None


def _restore(
    documents: list[dict[str, Any]], attribute: Attribute, exceptions: Mapping[str, str | None], index: pd.Index
) -> None:
    """Put back the stored spelling of the cells whose value is still the one that was stored."""
    if not exceptions:
        return
    name, codec = attribute.name, attribute.codec
    rows = index.get_indexer_for(pd.Index(list(exceptions)))
    for row, text in zip(rows, exceptions.values(), strict=True):
        if row < 0:
            continue
        document = documents[row]
        stored = None if text is None else json.loads(text)
        if document.get(name) is not None:
            if stored is not None and _means_the_same(codec, stored, document[name]):
                document[name] = stored
        elif text is None:
            document.pop(name, None)
        elif stored is None or reads_as_missing(codec, stored):
            document[name] = stored


def _means_the_same(codec: Codec, stored: Any, spelled: Any) -> bool:
    if stored is None:
        return False
    if isinstance(codec, Position):
        return np.array_equal(Position.parse(stored), Position.parse(spelled), equal_nan=True)
    if isinstance(codec, Length):
        # not what is parsed again: 220.355 µm in nm are 220354.99999999997, which are 220.35499999999996 µm
        return bool(codec.values(np.array([Length.parse(stored)]))[0] == spelled)
    if isinstance(codec, Label):
        return bool((stored if isinstance(stored, str) else to_json(stored)) == spelled)
    return bool(stored == spelled)
