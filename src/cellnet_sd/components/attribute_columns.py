"""One attribute of all cells: its values on the way from documents to a column, and what the column forgets of them.

Each distinct value is parsed and spelled again once, however many cells have it. Of positions, nearly every one is
distinct: those in plain spelling are read by compiled code, all at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.buffers import bytes_of, read_only
from cellnet_sd.components.attribute_codecs import (
    Codec,
    Json,
    Label,
    Length,
    Number,
    Position,
    Text,
    fit_extra,
    to_json,
)
from cellnet_sd.components.documents import Values, filled
from cellnet_sd.layout import CELL_DIAMETER, LABELS, POSITION_IN_TISSUE, POSITION_IN_WSI, Component
from cellnet_sd.problems import Problem

OBSM: Mapping[str, str] = {POSITION_IN_WSI: keys.SPATIAL, POSITION_IN_TISSUE: keys.SPATIAL_TISSUE}
"""The attributes that are positions, and the `obsm` key each goes to."""

type Column = NDArray[Any] | pd.api.extensions.ExtensionArray
"""The values of a column: there may be very many, and a `Series` of each takes longer than all the rest."""

_STR = pd.api.types.pandas_dtype("str")
_FEW: Final = 512
"""Positions that are read one by one: to load compiled code, which no other engine needs, takes longer."""
_PARSERS = {CELL_DIAMETER: Length.parse, **dict.fromkeys(OBSM, Position.parse)}


@dataclass(frozen=True)
class StoredAttribute:
    """The values of one attribute.

    Parameters
    ----------
    name
        Of the attribute.
    values
        As the documents hold them; malformed ones are null.
    codec
        How they become a column and are spelled again.
    plain
        Positions in plain spelling, (n, 2); NaN for all others.
    distinct, codes
        The distinct values other than those, and each cell's code, -1 for none; not told apart where they stay JSON.
    """

    name: str
    values: Values
    codec: Codec
    plain: NDArray[np.float64]
    distinct: list[Any]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, name: str, values: Values, problems: list[Problem]) -> "StoredAttribute":
        """Take the values of one attribute; what is malformed is added to `problems` and counts as missing."""
        plain = np.full((len(values), 2), math.nan)
        if _stays_json(name, values):
            return cls(name, values, Json(), plain, [], np.where(values.present, 0, -1))
        rest = values
        if name in OBSM and values.kind == "str":
            plain = _plain_positions(values)
            rest = Values(values.kind, _without(values.array, ~np.isnan(plain[:, 0])), values.absent)
        distinct, codes = rest.distinct() if _is_looked_at(name, rest) else ([], np.full(len(values), -1))
        if (parse := _PARSERS.get(name)) is not None:
            codes = _checked(distinct, codes, parse, name, problems)
        codec = _fit(name, values, plain, distinct, codes)
        return cls(name, values, codec, plain, distinct, codes)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Whether each cell has a value that can be read."""
        if not _is_looked_at(self.name, self.values):
            return self.values.present
        return (self.codes >= 0) | ~np.isnan(self.plain[:, 0])

    @cached_property
    def is_mostly_absent(self) -> bool:
        """Whether cells without a value mostly lack the key."""
        return bool(np.count_nonzero(self.values.absent) * 2 > np.count_nonzero(~self.present))

    def positions(self) -> NDArray[np.float64]:
        """Return positions in pixels, (n, 2), NaN where missing."""
        pairs = self.plain.copy()
        known = np.array([*map(self._parsed_position, self.distinct), (math.nan, math.nan)]).reshape(-1, 2)
        here = self.codes >= 0
        pairs[here] = known[self.codes[here]]
        return pairs

    def _parsed_position(self, value: Any) -> tuple[float, float]:
        try:
            return Position.parse(value)
        except (ValueError, OverflowError):
            return math.nan, math.nan  # reported, and no cell counts it

    def column(self) -> Column:
        """Return the values of the column of `obs`."""
        if not _is_looked_at(self.name, self.values):
            return _numbers(self.values, self.present)
        if isinstance(self.codec, Length):
            lengths = np.array([*map(_length, self.distinct), math.nan])
            return lengths[self.codes]
        if isinstance(self.codec, Text | Json):  # JSON text is what `values` holds of JSON
            return pd.array(self.values.array, dtype=_STR)
        assert not isinstance(self.codec, Position)  # they go to `obsm`
        if isinstance(self.codec, Label):
            return self._labels(self.codec)
        return self.codec.column([self.distinct[code] for code in self.codes[self.present]], self.present).array

    def _labels(self, codec: Label) -> Column:
        codes, categories = codec.coded(self.distinct)
        return pd.Categorical.from_codes(np.append(codes, -1)[self.codes], categories=categories)

    def exceptions(self) -> dict[str, str | None]:
        """Return what the column would not spell as stored, by row: JSON text, or `None` where the key is absent."""
        missing = np.flatnonzero(~self.present & (self.values.absent != self.is_mostly_absent))
        odd = {str(row): None if self.values.absent[row] else "null" for row in missing.tolist()}
        if not _is_looked_at(self.name, self.values):
            if self.values.kind == "float":
                nan = np.isnan(self.values.array.fill_null(0.0).to_numpy(zero_copy_only=False))
                odd |= dict.fromkeys(map(str, np.flatnonzero(nan).tolist()), "NaN")
            return odd
        if (self.values.kind == "str" and isinstance(self.codec, Label | Text)) or isinstance(self.codec, Json):
            return odd  # text stays as it is
        if not (texts := self._odd_texts()):
            return odd
        rows = np.flatnonzero(np.isin(self.codes, list(texts)))
        return odd | {str(row): texts[int(self.codes[row])] for row in rows.tolist()}

    def _odd_texts(self) -> dict[int, str]:
        """Return the distinct values that would be spelled otherwise, as JSON text, by code."""
        used = np.flatnonzero(np.bincount(self.codes[self.codes >= 0])).tolist()
        values = [self.distinct[code] for code in used]
        again = self._respelled(values)
        return {
            code: to_json(value)
            for code, value, spelled in zip(used, values, again, strict=True)
            if not _identical(value, spelled) or reads_as_missing(self.codec, value)
        }

    def _respelled(self, values: list[Any]) -> list[Any]:
        if isinstance(self.codec, Position):
            return self.codec.values(np.array([Position.parse(value) for value in values]).reshape(-1, 2))
        if isinstance(self.codec, Length):
            return self.codec.values(np.array([Length.parse(value) for value in values]))
        return self.codec.values(self.codec.column(values, np.ones(len(values), bool)))


def reads_as_missing(codec: Codec, stored: Any) -> bool:
    """Whether a stored value becomes NaN in its column, as a missing one does."""
    if isinstance(codec, Position):
        return all(map(math.isnan, Position.parse(stored)))
    return isinstance(codec, Length | Number) and isinstance(stored, float) and math.isnan(stored)


def _is_looked_at(name: str, values: Values) -> bool:
    """Whether values are looked at one by one: all but plain numbers of an attribute that is not published."""
    return values.kind in ("str", "json") or name in _PARSERS or name in LABELS


def _stays_json(name: str, values: Values) -> bool:
    """Whether values are kept as JSON text for the lists and objects among them, which as such take much memory."""
    import pyarrow.compute as pc

    if values.kind != "json" or name in _PARSERS or name in LABELS:
        return False
    return bool(pc.any(pc.match_substring_regex(values.array, r"^[\[{]")).as_py())


def _numbers(values: Values, present: NDArray[np.bool_]) -> Column:
    """Return numbers of one kind as they are."""
    if values.kind == "float":
        return np.array(values.array.to_numpy(zero_copy_only=False), np.float64)
    if not values.array.null_count:
        return np.array(values.array.to_numpy(zero_copy_only=False))
    missing = ~present  # with 1 and 0 there, as pandas has
    if values.kind == "bool":
        return pd.arrays.BooleanArray(filled(values.array, missing, 0), missing)
    return pd.arrays.IntegerArray(filled(values.array, missing, 1), missing)


def _fit(name: str, values: Values, plain: NDArray[np.float64], distinct: list[Any], codes: NDArray[np.int64]) -> Codec:
    """Return the codec of an attribute; where the first value decides, it is the first that can be read."""
    if not _is_looked_at(name, values):
        return Number({"int": "int", "bool": "bool", "float": "float"}[values.kind])  # type: ignore[arg-type]
    here = codes[codes >= 0]
    used = [distinct[code] for code in np.flatnonzero(np.bincount(here)).tolist()]  # as met: so they are numbered
    if name in OBSM:
        read = (codes >= 0) | ~np.isnan(plain[:, 0])
        return Position.fit([_item(values, int(np.argmax(read)))] if read.any() else [])
    if name == CELL_DIAMETER:
        return Length.fit(used)
    if name in LABELS:
        return Label.fit(used)
    return fit_extra(used, len(here))


def _item(values: Values, row: int) -> Any:
    return values.take(np.array([row])).as_python()[0]


def _checked(
    distinct: list[Any], codes: NDArray[np.int64], parse: Any, name: str, problems: list[Problem]
) -> NDArray[np.int64]:
    """Return the codes without those of values that cannot be parsed; each cell that has one is a problem."""
    reasons: dict[int, str] = {}
    for code, value in enumerate(distinct):
        try:
            parse(value)
        except (ValueError, OverflowError) as error:
            reasons[code] = f"{name}: {error}"
    if not reasons:
        return codes
    bad = np.isin(codes, list(reasons))
    rows = np.flatnonzero(bad).tolist()
    problems.extend(Problem(row, Component.ATTRIBUTES, reasons[int(codes[row])]) for row in rows)
    return np.where(bad, -1, codes)


def _length(value: Any) -> float:
    try:
        return Length.parse(value)
    except (ValueError, OverflowError):
        return math.nan  # reported, and no cell counts it


def _plain_positions(values: Values) -> NDArray[np.float64]:
    """Return the positions that are spelled like the first one and come out the same when spelled again; NaN else."""
    pairs = np.full((len(values), 2), math.nan)
    first = _first_position(values) if len(values) > _FEW else None
    if first is None or first.template in ("list", "dict"):
        return pairs
    from cellnet_sd.sources.native.pairs import read_pairs

    around = [text.encode() for text in first.template.split("{}")]
    parts = np.cumsum([0, *map(len, around)])
    read_pairs(*bytes_of(values.array), read_only(b"".join(around)), parts, int(not first.integral), pairs)
    pairs[~values.present] = math.nan
    return pairs


def _first_position(values: Values) -> Position | None:
    """Return how the first value that is a position is spelled; `None` if none of the first few is one."""
    for value in values.array.drop_null()[:64].to_pylist():
        try:
            Position.parse(value)
        except (ValueError, OverflowError):
            continue
        return Position.fit([value])
    return None


def _without(array: Any, mask: NDArray[np.bool_]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pa.array(mask), pa.scalar(None, array.type), array)


def _identical(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same in type too: 1, 1.0 and true are three values."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float | list | dict):
        return to_json(a) == to_json(b)
    return bool(a == b)
