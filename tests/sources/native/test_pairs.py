"""Positions that compiled code reads are those that have one spelling, and their numbers are what Python reads."""

import math
import re

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from cellnet_sd.buffers import bytes_of, read_only
from cellnet_sd.sources.native.pairs import read_pairs

_WHOLE = r"0|-?[1-9][0-9]{0,10}"
_FRACTION = r"-?(?:0|[1-9][0-9]{0,10})\.[0-9]{0,3}[1-9]"
_ONE_SPELLING = {0: re.compile(f"{_WHOLE}|{_FRACTION}"), 1: re.compile(rf"(?:{_WHOLE})\.0|{_FRACTION}")}
_AROUND = st.sampled_from([("(", ", ", ")"), ("", ",", ""), (" [", " , ", "]\u2003")])
_NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.decimals(-(10**11), 10**11, places=4).map(lambda number: str(number).rstrip("0")),
    st.floats(allow_nan=False).map(repr),
    st.from_regex(r"-?[0-9]{0,13}(\.[0-9]{0,6})?", fullmatch=True, alphabet="-.0123456789"),
    st.sampled_from(["", "-0", "-0.0", "0.0", "00", "+1", "1e3", "nan", "99999999999.9999", "0.0001", "1.", ".5", "٣"]),
)


def _read(texts: list[str | None], around: tuple[str, str, str], points: int) -> list[list[float]]:
    pairs = np.full((len(texts), 2), math.nan)
    pieces = [piece.encode() for piece in around]
    parts = np.cumsum([0, *map(len, pieces)])
    read_pairs(*bytes_of(pa.array(texts, pa.large_string())), read_only(b"".join(pieces)), parts, points, pairs)
    return pairs.tolist()


@given(numbers=st.lists(st.tuples(_NUMBERS, _NUMBERS), max_size=20), around=_AROUND, points=st.integers(0, 1))
@example(numbers=[("1", "2"), ("-0.5", "99999999999.9999")], around=("(", ", ", ")"), points=0)
@example(numbers=[("1.0", "-2.0"), ("0.0", "-0.0"), ("1", "2")], around=("(", ", ", ")"), points=1)
def test_numbers_of_one_spelling_are_read_and_no_others(
    numbers: list[tuple[str, str]], around: tuple[str, str, str], points: int
) -> None:
    before, between, after = around
    found = _read([f"{before}{x}{between}{y}{after}" for x, y in numbers], around, points)
    for pair, (x, y) in zip(found, numbers, strict=True):
        if _ONE_SPELLING[points].fullmatch(x) and _ONE_SPELLING[points].fullmatch(y):
            assert pair == [float(x), float(y)]
        else:
            assert all(map(math.isnan, pair))


@given(st.lists(st.text("(, )-.019", max_size=12), max_size=20))
def test_texts_of_another_form_are_left(texts: list[str]) -> None:
    number = _ONE_SPELLING[0].pattern
    whole = re.compile(rf"\(({number}), ({number})\)")
    for text, pair in zip(texts, _read([*texts], ("(", ", ", ")"), 0), strict=True):
        match = whole.fullmatch(text)
        assert pair == [*map(float, match.groups())] if match else all(map(math.isnan, pair))


def test_a_slice_of_an_array_is_read_at_its_place() -> None:
    texts = pa.array(["(1, 2)", None, "(3, 4)", "(5, 6)"], pa.large_string())[1:3]
    data, bounds = bytes_of(texts)
    assert data.tobytes() == b"(3, 4)"
    assert bounds.tolist() == [0, 0, 6]
    assert not data.flags.writeable
