"""How the values of one attribute become a column, and how the column becomes the same values again.

A codec is fitted to all values of an attribute. Values are what JSON holds: `str`, `int`, `float`, `bool`, `list`,
`dict`; missing ones never reach a codec. Codecs are plain data: an object remembers how its file spelled things.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellnet_sd.layout import MICROMETRES

_INT64 = range(-(2**63), 2**63)
_EXACT = 2**53
# No two runs of these patterns can share what they match: megabytes of spaces or digits would be tried in all ways.
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_POSITION = re.compile(rf"\s*(?:[(\[]\s*)?({_NUMBER}|nan)\s*,\s*({_NUMBER}|nan)\s*(?:[)\]]\s*)?", re.IGNORECASE)
_ENCODER = json.JSONEncoder(ensure_ascii=False)
"""One for all values: `json.dumps` makes one for each, which takes longer than to use it."""
_LENGTH = re.compile(rf"\s*({_NUMBER})(\s*)(?:({'|'.join(MICROMETRES)})\s*)?")
_SHOWN = 60
"""Characters of a value that is refused which the error shows."""

Values = Sequence[Any]


def to_json(value: Any) -> str:
    """Return `value` as JSON text, non-ASCII characters as they are."""
    return _ENCODER.encode(value)


class Label(msgspec.Struct, tag="label", frozen=True):
    """Labels become categories; values that are not text become categories of their JSON text."""

    text: bool = True

    @classmethod
    def fit(cls, values: Values) -> "Label":
        """Return the codec of `values`: as text unless none of them is text."""
        return cls(text=not values or any(isinstance(value, str) for value in values))

    def column(self, values: Values, present: NDArray[np.bool_]) -> pd.Series:
        """Return a categorical with text categories, in order of the alphabet."""
        codes, categories = self.coded(values)
        spread = np.full(len(present), -1, codes.dtype)
        spread[present] = codes
        return pd.Series(pd.Categorical.from_codes(spread, categories=categories))

    def coded(self, values: Values) -> tuple[NDArray[np.int64], pd.Index]:
        """Return the category of each value, as its number, and the categories."""
        texts = [value if isinstance(value, str) else to_json(value) for value in values]
        number = {text: at for at, text in enumerate(sorted(set(texts)))}
        return np.array([number[text] for text in texts], np.int64), pd.Index(list(number), dtype="str")

    def values(self, column: Iterable[Any]) -> list[Any]:
        """Return the values that the categories stand for."""
        return [str(item) if self.text else _parsed(item) for item in column]


class Number(msgspec.Struct, tag="number", frozen=True):
    """Numbers stay numbers: int64, or float64 as soon as one has a fraction."""

    kind: Literal["int", "float", "bool"]
    integral: bool = False
    """Whether floats without a fraction are written without a point."""

    @classmethod
    def fit(cls, values: Values) -> "Number | None":
        """Return the codec of `values`, `None` if they are not all of one kind that float64 or int64 hold exactly."""
        types = {type(value) for value in values}
        if types == {bool}:
            return cls("bool")
        if types == {int} and all(value in _INT64 for value in values):
            return cls("int")
        if types == {float}:
            return cls("float")
        if types == {int, float} and all(abs(value) <= _EXACT for value in values if type(value) is int):
            return cls("float", integral=not any(type(v) is float and v.is_integer() for v in values))
        return None

    def column(self, values: Values, present: NDArray[np.bool_]) -> pd.Series:
        """Return the numbers; with gaps int64 and bool become pandas' nullable types, float64 has NaN."""
        gaps = not present.all()
        dtypes = {"int": "Int64" if gaps else "int64", "bool": "boolean" if gaps else "bool", "float": "float64"}
        missing = math.nan if self.kind == "float" else pd.NA
        return pd.Series(_spread(values, present, missing), dtype=dtypes[self.kind])

    def values(self, column: Iterable[Any]) -> list[Any]:
        """Return Python numbers."""
        cast = {"int": int, "bool": bool, "float": float}[self.kind]
        items = [cast(item) for item in column]
        return [int(item) if self.integral and item.is_integer() else item for item in items]


class Json(msgspec.Struct, tag="json", frozen=True):
    """Anything else (nested values, columns of mixed type) is kept as JSON text."""

    def column(self, values: Values, present: NDArray[np.bool_]) -> pd.Series:
        """Return a column of JSON text."""
        return pd.Series(_spread([to_json(value) for value in values], present, None), dtype="str")

    def values(self, column: Iterable[Any]) -> list[Any]:
        """Return the parsed values."""
        return [_parsed(item) for item in column]


class Text(msgspec.Struct, tag="text", frozen=True):
    """Free text, different in every cell."""

    def column(self, values: Values, present: NDArray[np.bool_]) -> pd.Series:
        """Return a column of strings."""
        return pd.Series(_spread(values, present, None), dtype="str")

    def values(self, column: Iterable[Any]) -> list[Any]:
        """Return the strings."""
        return [str(item) for item in column]


class Position(msgspec.Struct, tag="position", frozen=True):
    """Positions: `"(x, y)"`, `"x, y"`, `[x, y]` or `{"x": …, "y": …}`, in pixels."""

    template: str = "({}, {})"
    """How text is put together; `"list"` and `"dict"` for the JSON forms."""
    integral: bool = True
    """Whether numbers without a fraction are written without a point."""

    @classmethod
    def fit(cls, values: Values) -> "Position":
        """Return the codec that the first of `values` is spelled in."""
        if not values:
            return cls()
        first = values[0]
        numbers = _pair_numbers(first)
        integral = not any(isinstance(n, float) or (isinstance(n, str) and not _is_int(n)) for n in numbers)
        if isinstance(first, str):
            match = _POSITION.fullmatch(first)
            assert match is not None  # `parse` came first
            (a, b), (c, d) = match.span(1), match.span(2)
            return cls(f"{_braced(first[:a])}{{}}{_braced(first[b:c])}{{}}{_braced(first[d:])}", integral)
        return cls("dict" if isinstance(first, dict) else "list", integral)

    @staticmethod
    def parse(value: Any) -> tuple[float, float]:
        """Return `(x, y)`; a missing coordinate is NaN.

        Raises
        ------
        ValueError
            If `value` is none of the accepted spellings; the message is the reason.
        """
        x, y = (math.nan if number is None else float(number) for number in _pair_numbers(value))
        return x, y

    def values(self, pairs: NDArray[np.float64]) -> list[Any]:
        """Return the spelled positions of `pairs`, shape (n, 2)."""
        return [self._spell(x, y) for x, y in pairs.tolist()]

    def _spell(self, x: float, y: float) -> Any:
        numbers = [int(n) if self.integral and n.is_integer() else n for n in (x, y)]
        if self.template == "list":
            return numbers
        if self.template == "dict":
            return dict(zip("xy", numbers, strict=True))
        return self.template.format(*numbers)


class Length(msgspec.Struct, tag="length", frozen=True):
    """Lengths: a number, or a number and its unit; a number alone is µm."""

    unit: str = " µm"
    """What follows the number, spaces included; empty for none."""
    text: bool = True
    decimals: int | None = None
    """Digits after the point; `None` for the shortest text that reads back equal."""
    integral: bool = False

    @classmethod
    def fit(cls, values: Values) -> "Length":
        """Return the codec that the first of `values` is spelled in."""
        if not values:
            return cls()
        first = values[0]
        if not isinstance(first, str):
            return cls("", text=False, integral=all(type(value) is int for value in values))
        match = _LENGTH.fullmatch(first)
        assert match is not None  # `parse` came first
        number, space, unit = match.groups("")
        fractions = {_decimals(value) for value in values if isinstance(value, str)}
        decimals = fractions.pop() if len(fractions) == 1 else None
        return cls(space + unit, decimals=decimals, integral=_is_int(number))

    @staticmethod
    def parse(value: Any) -> float:
        """Return the length in µm.

        Raises
        ------
        ValueError
            If `value` is no length; the message is the reason.
        """
        if type(value) in (int, float):
            return float(value)
        match = _LENGTH.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            msg = f"{_shown(value)} is not a length: a number, or a number and one of {', '.join(MICROMETRES)}"
            raise ValueError(msg)
        number, _, unit = match.groups()
        return float(number) * MICROMETRES[unit] if unit else float(number)

    def values(self, lengths: NDArray[np.float64]) -> list[Any]:
        """Return the spelled lengths of `lengths` in µm, shape (n,)."""
        return [self._spell(length) for length in lengths.tolist()]

    def _spell(self, micrometres: float) -> Any:
        number = micrometres / MICROMETRES.get(self.unit.strip(), 1.0)
        whole = self.integral and number.is_integer()
        if not self.text:
            return int(number) if whole else number
        if self.decimals is not None and float(f"{number:.{self.decimals}f}") == number:
            return f"{number:.{self.decimals}f}{self.unit}"
        return f"{int(number) if whole else number}{self.unit}"


Codec = Label | Number | Json | Text | Position | Length


def fit_extra(values: Values, n_cells: int | None = None) -> Codec:
    """Return the codec of an attribute that is not among the published nine, inferred from its values.

    Text that repeats becomes a label, as AnnData would make it on writing. Where `values` holds each value once,
    `n_cells` says how many there are.
    """
    number = Number.fit(values)
    if number is not None:
        return number
    if values and all(isinstance(value, str) for value in values):
        return Label() if len(set(values)) < (n_cells or len(values)) else Text()
    return Json()


def _pair_numbers(value: Any) -> tuple[Any, Any]:
    pair: Any = None
    if isinstance(value, str) and (match := _POSITION.fullmatch(value)):
        pair = match.groups()
    elif isinstance(value, dict) and {"x", "y"} <= value.keys():
        pair = value["x"], value["y"]
    elif isinstance(value, list) and len(value) == 2:
        pair = tuple(value)
    if pair is None or not all(n is None or type(n) in (int, float, str) for n in pair):
        msg = f'{_shown(value)} is not a position: "(x, y)", "x, y", [x, y] or {{"x": …, "y": …}}'
        raise ValueError(msg)
    return pair[0], pair[1]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _is_int(number: str) -> bool:
    return number.lstrip("+-").isdigit()


def _decimals(text: str) -> int:
    number = text.split("e", maxsplit=1)[0].split("E", maxsplit=1)[0]
    digits = re.search(r"\.(\d*)", number)
    return len(digits.group(1)) if digits else 0


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _parsed(item: Any) -> Any:
    """Return what JSON text holds; numbers, and text that a user put there and that is no JSON, stay as they are."""
    if isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, int | float):
        return item
    try:
        return json.loads(item)
    except (TypeError, json.JSONDecodeError):
        return str(item)


def _spread(values: Sequence[Any], present: NDArray[np.bool_], missing: Any) -> NDArray[np.object_]:
    spread = np.full(len(present), missing, dtype=object)
    spread[np.flatnonzero(present)] = _objects(values)
    return spread


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects
