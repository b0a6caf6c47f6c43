"""Documents cut out by templates say what a parser says, and those of one writer are all cut out."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellnet_sd.components.documents import Documents
from cellnet_sd.sources.native_documents import parse_documents
from cellnet_sd.sources.native_templates import Template, cut_out
from cellnet_sd.sources.native_texts import Texts

_TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
_PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    _TEXT,
    st.sampled_from(["9.0 µm", "(12, -4)", 'a "quoted" \\ one', "\x7f", "\U0001d4b3", 0, -0.0, 1.0, 10**17, 1e22]),
)
_SPELLED = st.sampled_from(
    [{}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False, "indent": "\t"}]
)


@st.composite
def _documents(draw: st.DrawFn) -> list[str]:
    """Texts of some writers, in turns, each with keys of its own, and of some odd ones."""
    writers = draw(st.lists(st.tuples(st.lists(_TEXT, min_size=1, max_size=4, unique=True), _SPELLED), min_size=1))
    odd = st.sampled_from(
        ["{", "[]", "{}", '{"a": 1,}', '{"a": 01}', '{"a": NaN}', '{"a": "\\q"}', '{"a": 1, "a": 2}', '{"a": [1]} ', ""]
    )
    values = draw(st.lists(st.lists(_PLAIN, min_size=4, max_size=4), min_size=1, max_size=5))
    texts = []
    for at in range(draw(st.integers(1, 120))):
        keys, spelled = writers[at % len(writers)]
        document = dict(zip(keys, values[at % len(values)], strict=False))
        texts.append(json.dumps(document | {"n": at}, **spelled))
    for place, text in draw(st.lists(st.tuples(st.integers(0, 120), odd), max_size=4)):
        texts.insert(place, text)
    return texts


def _truth(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


@given(_documents())
def test_documents_are_what_a_parser_says(texts: list[str]) -> None:
    found = Texts(pa.array(texts, pa.large_string()))
    documents = parse_documents(found)
    truth = [_truth(text) for text in texts]
    assert set(found.faults) == {row for row, document in enumerate(truth) if document is None}
    expected = Documents.of(truth)
    assert list(documents.orders) == list(expected.orders)
    assert documents.columns.keys() == expected.columns.keys()
    for name, values in expected.columns.items():
        own = documents.columns[name]
        assert (own.kind, repr(own.array.to_pylist())) == (values.kind, repr(values.array.to_pylist())), (
            name
        )  # NaN, -0.0
        np.testing.assert_array_equal(own.absent, values.absent)


def test_documents_of_one_writer_are_all_cut_out() -> None:
    texts = [
        json.dumps({"tissue": None if at % 3 else "µ", "at": f"({at}, {at * at})", "n": -at, "x": at / 8, "is": at > 5})
        for at in range(1, 50)
    ]
    cuts, rest = cut_out(pa.array(texts, pa.large_string()))
    assert len(rest) == 0
    assert sum(len(cut.rows) for cut in cuts) == 49


@pytest.mark.parametrize(
    "text", ['{"a": {}}', '{"a": [1]}', '{"a": 1, "a": 2}', "{}", '{"a": 1,}', "1", '{"\\u0061": 1}']
)
def test_what_is_not_plain_is_no_template(text: str) -> None:
    assert Template.of(text) is None
