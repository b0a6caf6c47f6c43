"""Attributes: documents → columns → the same documents, whatever JSON holds; and each codec by itself."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cellnet_sd import naming
from cellnet_sd.components import attribute_columns, attributes
from cellnet_sd.components.attribute_codecs import Codec, Json, Label, Length, Number, Position, Text, fit_extra
from cellnet_sd.components.attributes import (
    AttributeTable,
    Spellings,
    decode,
    encode,
    key_order,
    parse_document,
)
from cellnet_sd.keys import OWN_OBS
from cellnet_sd.layout import ATTRIBUTES, CELL_DIAMETER, LABELS, POSITION_IN_TISSUE, POSITION_IN_WSI
from spell_text import AWKWARD_EXTRAS, VALUES, diameters, positions, words
from spell_text import LABELS as SPELLED_LABELS

# --- documents that may be drawn -------------------------------------------------------------------------------------

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    st.sampled_from(["null", "true", "12", "1.0", "NaN", "", '"', "[1]", "{}", "\\", "nan", "<NA>"]),
)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
free_names = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
    st.sampled_from([*AWKWARD_EXTRAS, *OWN_OBS, "Tissue", "SPATIAL", "spatial", "position_in_wsi"]),
)
checked = {POSITION_IN_WSI: positions(), POSITION_IN_TISSUE: positions(), CELL_DIAMETER: diameters()}


@st.composite
def drawn_documents(draw: st.DrawFn) -> list[dict[str, Any] | None]:
    """Draw the documents of a file: keys in any order, any of them missing, values of any kind."""
    extras = draw(st.lists(free_names.filter(lambda name: name not in checked), unique=True, max_size=4))
    names = [*draw(st.lists(st.sampled_from(ATTRIBUTES), unique=True, max_size=4)), *extras]
    kinds = {name: draw(st.sampled_from([*VALUES.values(), anything])) for name in names}
    documents: list[dict[str, Any] | None] = []
    for _ in range(draw(st.integers(0, 5))):
        document = {}
        for name in draw(st.permutations(names)) if draw(st.booleans()) else names:
            if draw(st.integers(0, 4)) == 0:
                continue
            value = draw(checked[name])[0] if name in checked else draw(kinds[name])
            if name not in checked or value is None or isinstance(value, int | float | str | list | dict):
                document[name] = value
        documents.append(document)
    return documents


@pytest.fixture(autouse=True, scope="module")
def read_by_compiled_code() -> Iterator[None]:
    """Have positions of three cells read as those of many are, of fewer one by one."""
    with patch.object(attribute_columns, "_FEW", 2):
        yield


def same_json(one: Any, other: Any) -> bool:
    """Compare as JSON does, types and all: `1`, `1.0` and `true` are three values, NaN is NaN."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def again(documents: list[dict[str, Any] | None], *, through_text: bool = True) -> list[dict[str, Any]]:
    """Return documents after decoding, sending their spellings through JSON, and encoding."""
    table = decode(documents)
    assert not table.problems, table.problems
    spellings = msgspec.json.decode(msgspec.json.encode(table.spellings), type=Spellings) if through_text else None
    names = [f"cell {row}" for row in range(len(documents))]
    kept = None if spellings is None else spellings.for_cells(np.arange(len(documents)), names)
    return encode(table.obs.set_axis(names), table.obsm, kept)


# --- there and back --------------------------------------------------------------------------------------------------


@given(documents=drawn_documents())
@example(documents=[{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": None}, {}])
@example(documents=[{"cell_type": 1}, {"cell_type": "1"}, {"cell_type": 1.0}])
@example(documents=[{"Grade": 1, "grade": 2, "GRADE": 3}, {"grade": "x"}])
@example(documents=[{"n": 2**63}, {"n": -(2**63)}, {"n": 2**53 + 1}])
@example(documents=[{"x": -0.0}, {"x": 0.0}, {"x": math.inf}, {"x": math.nan}])
@example(documents=[{"x": -0.0}, {"x": 0}, {"x": 1}])
@example(documents=[{POSITION_IN_WSI: "(007, 1)"}, {POSITION_IN_WSI: "(7.50, 1e3)"}, {POSITION_IN_WSI: "(+7,-0)"}])
@example(documents=[{POSITION_IN_WSI: "{1, 2}"[1:-1]}, {POSITION_IN_WSI: [None, 3]}, {POSITION_IN_WSI: None}])
@example(
    documents=[{CELL_DIAMETER: text} for text in ("9.0 µm", "9 µm", "09.00µm", "9", "9000 nm", "0.009 mm", " 9 um ")]
)
@example(documents=[{CELL_DIAMETER: "385nm"}, {CELL_DIAMETER: "220.355um"}])
@example(documents=[{POSITION_IN_WSI: "(nan, nan)"}, {POSITION_IN_WSI: [None, None]}, {POSITION_IN_WSI: "(1, nan)"}])
@example(documents=[{"x": math.inf}, {"x": "a"}, {"x": [math.nan]}])
@example(documents=[{CELL_DIAMETER: 9}, {CELL_DIAMETER: 9.0}, {CELL_DIAMETER: "9"}, {CELL_DIAMETER: math.nan}])
def test_decoding_and_encoding_gives_back_every_document(documents: list[dict[str, Any]]) -> None:
    for stored, got in zip(documents, again(documents), strict=True):
        assert same_json(got, stored)


@given(documents=drawn_documents(), seed=st.integers(0, 99))
def test_the_cells_that_are_left_keep_their_documents_in_any_order(documents: list[Any], seed: int) -> None:
    table = decode(documents)
    rows = np.random.default_rng(seed).permutation(len(documents))[: max(1, len(documents) // 2)]
    names = [f"c{row}" for row in rows.tolist()]
    obs = table.obs.iloc[rows].set_axis(names)
    obsm = {key: values[rows] for key, values in table.obsm.items()}
    for row, got in zip(rows, encode(obs, obsm, table.spellings.for_cells(rows, names)), strict=True):
        assert same_json(got, documents[row])


@given(documents=drawn_documents())
def test_the_order_of_keys_comes_back_where_all_cells_share_it(documents: list[Any]) -> None:
    order = key_order(documents)
    assert sorted(order) == sorted({name for document in documents for name in document})
    for got in again([dict(sorted(document.items(), key=lambda item: order.index(item[0]))) for document in documents]):
        assert list(got) == sorted(got, key=order.index)


def test_a_key_met_later_stands_after_the_one_it_follows() -> None:
    assert key_order([{"a": 1, "c": 2}, None, {"a": 1, "b": 2, "c": 3}, {"d": 1, "a": 2}]) == ["d", "a", "b", "c"]


@given(
    stored=st.lists(
        st.one_of(
            positions().map(lambda drawn: drawn[0]).filter(lambda value: isinstance(value, str)),
            st.sampled_from(["here", "(1, 2, 3)", "(007, 1)", "(-0, 0)", "(1e3, 2)", "(1.50, 2.0)", "(1, nan)"]),
        ),
        max_size=8,
    )
)
def test_positions_are_the_same_whether_read_at_once_or_one_by_one(stored: list[str]) -> None:
    documents = [{POSITION_IN_WSI: text} for text in stored]
    at_once = decode(documents)
    with patch.object(attribute_columns, "_FEW", len(documents)):
        one_by_one = decode(documents)
    assert at_once.obsm.keys() == one_by_one.obsm.keys()
    for key, pairs in at_once.obsm.items():
        np.testing.assert_array_equal(pairs, one_by_one.obsm[key])
    assert at_once.spellings == one_by_one.spellings
    assert at_once.problems == one_by_one.problems


# --- columns ---------------------------------------------------------------------------------------------------------


@given(documents=drawn_documents())
def test_columns_have_legal_names_and_types_that_anndata_writes(documents: list[Any]) -> None:
    obs = decode(documents).obs
    lower = [name.lower() for name in obs.columns]
    assert len(set(lower)) == len(lower)
    assert set(lower).isdisjoint({name.lower() for name in OWN_OBS})
    for name in obs.columns:
        assert name
        assert all(char.isalnum() or char in "_-." for char in name)
        assert not name.startswith("__")
        assert name != "_index"
        dtype = obs[name].dtype
        assert str(dtype) in ("category", "str", "int64", "Int64", "bool", "boolean", "float64"), (name, dtype)
        if str(dtype) == "category":
            assert obs[name].cat.categories.dtype == "str"


def columns_of(*values: Any) -> pd.Series:
    """Return the column of an extra attribute; an Ellipsis is a cell that lacks it."""
    return decode([{} if value is ... else {"x": value} for value in values]).obs["x"]


@pytest.mark.parametrize(
    ("values", "dtype", "column"),
    [
        ((1, 2), "int64", [1, 2]),
        ((1, None), "Int64", [1, None]),
        ((1, 2.5), "float64", [1.0, 2.5]),
        ((1.0, ...), "float64", [1.0, None]),
        ((True, False), "bool", [True, False]),
        ((True, None), "boolean", [True, None]),
        ((2**60, 2**60 + 1), "int64", [2**60, 2**60 + 1]),
        ((2**64, 1), "str", [str(2**64), "1"]),
        ((2**53 + 1, 0.5), "str", [str(2**53 + 1), "0.5"]),
        (("a", "b"), "str", ["a", "b"]),
        (("a", "a"), "category", ["a", "a"]),
        (("a", ...), "str", ["a", None]),
        ((1, True), "str", ["1", "true"]),
        ((1, "a"), "str", ["1", '"a"']),
        (([1, None], {"k": "µ"}), "str", ["[1, null]", '{"k": "µ"}']),
        ((None, ...), "str", [None, None]),
    ],
)
def test_the_type_of_a_column_follows_from_all_its_values(
    values: tuple[Any, ...], dtype: str, column: list[Any]
) -> None:
    got = columns_of(*values)
    assert str(got.dtype) == dtype
    assert [None if pd.isna(value) else value for value in got] == column


def test_published_labels_are_categories_of_text_whatever_they_hold() -> None:
    for name in LABELS:
        column = decode([{name: "b"}, {name: 3}, {name: None}, {name: "a"}]).obs[name]
        assert column.cat.categories.tolist() == ["3", "a", "b"]
        assert column.isna().tolist() == [False, False, True, False]
    assert set(SPELLED_LABELS) < set(LABELS)


def test_positions_and_diameters_are_float64_with_nan_where_missing() -> None:
    stored = [{POSITION_IN_WSI: "(1, 2)", CELL_DIAMETER: "9000 nm"}, {POSITION_IN_WSI: {"x": 3, "y": None}}, {}]
    table = decode(stored)
    np.testing.assert_array_equal(table.obsm["spatial"], [[1, 2], [3, np.nan], [np.nan, np.nan]])
    assert table.obsm["spatial"].dtype == np.float64
    np.testing.assert_array_equal(table.obs["cell_diameter"], [9.0, np.nan, np.nan])
    assert "Position_in_WSI" not in table.obs


def test_very_many_keys_are_work_for_each_and_not_for_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Counter[str]()

    class Names(list[str]):
        def __iter__(self) -> Iterator[str]:
            work["lists of names gone through"] += 1
            return super().__iter__()

    def init(self: pd.Series, *args: Any, **kwargs: Any) -> None:
        work["series"] += 1
        real_init(self, *args, **kwargs)

    def legal_name(name: str) -> str:
        work["names made"] += 1
        return real_legal_name(name)

    real_init, real_legal_name, real_names = pd.Series.__init__, naming.legal_name, naming.legal_names
    monkeypatch.setattr(pd.Series, "__init__", init)
    monkeypatch.setattr(naming, "legal_name", legal_name)
    monkeypatch.setattr(attributes, "legal_names", lambda names, taken: Names(real_names(names, taken=taken)))
    keys = [chr(0x2600 + at) for at in range(200)]  # none is legal, and all become `_`
    table = decode([dict(zip(keys, [1, 2.5, True, "a", [1]] * 40, strict=True)), None, {}])
    assert table.obs.columns.tolist() == ["_", *(f"_{at}" for at in range(2, 201))]
    assert work["lists of names gone through"] == 1
    assert work["series"] == 0
    assert work["names made"] <= 2 * len(keys)


def test_numbers_with_gaps_are_stored_as_pandas_stores_them() -> None:
    obs = decode([{"n": 5, "ok": True}, {}, {"n": -1, "ok": False}]).obs
    pd.testing.assert_series_equal(obs["n"], pd.Series([5, None, -1], dtype="Int64", name="n"))
    pd.testing.assert_series_equal(obs["ok"], pd.Series([True, None, False], dtype="boolean", name="ok"))


def test_no_documents_make_no_columns() -> None:
    for documents in ([], [None], [None, {}]):
        table = decode(documents)
        assert table.obs.shape == (len(documents), 0)
        assert encode(table.obs, {}, table.spellings) == [{} for _ in documents]


# --- malformed values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (POSITION_IN_WSI, "here"),
        (POSITION_IN_WSI, "(1, 2, 3)"),
        (POSITION_IN_WSI, [1]),
        (POSITION_IN_WSI, [[1], 2]),
        (POSITION_IN_WSI, {"x": 1}),
        (POSITION_IN_WSI, 7),
        (POSITION_IN_WSI, True),
        (POSITION_IN_TISSUE, "(1; 2)"),
        (POSITION_IN_TISSUE, [10**400, 1]),
        (CELL_DIAMETER, "big"),
        (CELL_DIAMETER, "9 ells"),
        (CELL_DIAMETER, "9 µm 3"),
        (CELL_DIAMETER, [9]),
        (CELL_DIAMETER, True),
    ],
)
def test_a_malformed_value_is_a_problem_of_its_row_and_no_value(name: str, value: Any) -> None:
    table = decode([{name: None}, {name: value}, {name: "1, 2" if name in checked and "Pos" in name else 3}])
    assert [(problem.row, problem.component) for problem in table.problems] == [(1, "attributes.json")]
    assert table.problems[0].reason.startswith(f"{name}: ")
    values = (
        table.obsm["spatial" if name == POSITION_IN_WSI else "spatial_tissue"] if "Pos" in name else table.obs[name]
    )
    assert np.isnan(np.asarray(values, float)[1]).all()


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": Infinity}', '{"a": 1, "a": 2}', ' {"a": "\\ud83d\\ude00"} ', "{}"]
)
def test_documents_are_parsed_as_python_parses_them(text: str) -> None:
    assert same_json(parse_document(text), json.loads(text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "broken"),
        ("{", "broken"),
        ("[1]", "object is expected"),
        ('"a"', "str"),
        ("[" * 99_999, "broken|deep"),
        (r'{"a": "\ud800"}', r"broken.*\\ud800"),
        (r'{"a": "\udc00\ud800"}', r"broken.*\\udc00"),
        (r'{"\ud800": 1}', "surrogate"),
        (r'{"a": NaN, "b": [{"\ud800": 1}]}', "surrogate"),
    ],
)
def test_what_is_no_json_object_is_an_error_that_says_why(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_document(text)


# --- objects that changed since they were read -----------------------------------------------------------------------

STORED = [
    {"tissue": "Lung", "cell_diameter": "9.0 µm", "n": 1, "dataset title": "a", "Position_in_WSI": "(1, 2)"},
    {"tissue": "Lung", "cell_diameter": "9000 nm", "n": 1.0, "dataset title": "a", "Position_in_WSI": [3.0, 4]},
]


def changed(change: Any) -> list[dict[str, Any]]:
    """Return the documents of `STORED` after a change to `obs` and `obsm`."""
    table: AttributeTable = decode(STORED)
    obs, obsm = table.obs.set_axis(["0", "1"]), dict(table.obsm)
    change(obs, obsm)
    return encode(obs, obsm, table.spellings)


def test_a_value_that_was_changed_is_written_as_it_is_now() -> None:
    def change(obs: pd.DataFrame, obsm: dict[str, Any]) -> None:
        obs["cell_diameter"] = [9.0, 8.5]
        obs["n"] = [2.0, 1.0]
        obsm["spatial"] = np.array([[1.0, 2.0], [3.0, 5.5]])

    first, second = changed(change)
    assert first == {**STORED[0], "n": 2}
    assert second["cell_diameter"] == "8.5 µm"
    assert second["n"] == 1.0
    assert second["Position_in_WSI"] == "(3, 5.5)"


def test_a_column_that_was_dropped_is_not_written() -> None:
    def change(obs: pd.DataFrame, obsm: dict[str, Any]) -> None:
        del obs["dataset_title"]
        obsm.clear()

    assert list(changed(change)[0]) == ["tissue", "cell_diameter", "n"]


def test_columns_that_were_added_come_last_in_their_own_types() -> None:
    def change(obs: pd.DataFrame, obsm: dict[str, Any]) -> None:
        obs["leiden"] = pd.Categorical(["0", "1"])
        obs["level"] = pd.Categorical([3, 7])
        obs["n_counts"], obs["share"] = np.array([5, 6], "u4"), np.array([0.5, np.nan], "f4")
        obs["kept"], obs["name"] = [True, False], pd.Series(["a", None], index=obs.index, dtype="str")
        obs["st_technology"] = "Xenium"

    first, second = changed(change)
    added = {
        "st_technology": "Xenium",
        "leiden": "0",
        "level": 3,
        "n_counts": 5,
        "share": 0.5,
        "kept": True,
        "name": "a",
    }
    assert same_json(first, {**STORED[0], **added})
    assert list(first)[5:] == list(added)
    assert second["level"] == 7
    assert second["share"] is None
    assert second["name"] is None
    assert second["kept"] is False


def test_an_object_that_never_was_cellnet_is_spelled_as_published() -> None:
    obs = pd.DataFrame({"cell_type": pd.Categorical(["T", "B"]), "cell_diameter": [9.0, 8.25]}, index=["a", "b"])
    got = encode(obs, {"spatial": np.array([[893021.0, 398472.0], [1.5, np.nan]])})
    assert got[0] == {"cell_type": "T", "Position_in_WSI": "(893021, 398472)", "cell_diameter": "9.0 µm"}
    assert got[1] == {"cell_type": "B", "Position_in_WSI": "(1.5, nan)", "cell_diameter": "8.25 µm"}
    assert decode(got).problems == []


# --- codecs ----------------------------------------------------------------------------------------------------------


@given(
    x=st.floats(-1e9, 1e9),
    y=st.integers(-(10**9), 10**9),
    spelled=st.sampled_from(["({}, {})", "{},{}", " [ {} ,{}] "]),
)
def test_a_position_is_parsed_in_every_spelling(x: float, y: int, spelled: str) -> None:
    assert Position.parse(spelled.format(x, y)) == (x, y)
    assert Position.parse([x, y]) == Position.parse({"y": y, "x": x, "z": 0}) == (x, y)


@given(pair=positions())
def test_a_position_is_spelled_as_it_was(pair: tuple[Any, tuple[float, float]]) -> None:
    stored, truth = pair
    if isinstance(stored, str | list | dict):
        codec = Position.fit([stored])
        (spelled,) = codec.values(np.array([truth]))
        assert Position.parse(spelled) == truth
        assert type(spelled) is type(stored)


@pytest.mark.parametrize(
    ("stored", "micrometres"),
    [
        ("9.0 µm", 9.0),
        ("9.0 μm", 9.0),
        ("9um", 9.0),
        ("9000 nm", 9.0),
        (".009 mm", 9.0),
        ("9", 9.0),
        (9, 9.0),
        (9.5, 9.5),
    ],
)
def test_a_length_is_read_in_every_unit_and_spelled_as_it_was(stored: Any, micrometres: float) -> None:
    assert Length.parse(stored) == pytest.approx(micrometres, rel=1e-12)
    (spelled,) = Length.fit([stored]).values(np.array([Length.parse(stored)]))
    assert type(spelled) is type(stored)
    assert Length.parse(spelled) == Length.parse(stored)


def test_new_lengths_keep_the_unit_and_the_digits() -> None:
    codec = Length.fit(["9.00 µm", "10.25 µm"])
    assert codec.values(np.array([8.5, 8.123])) == ["8.50 µm", "8.123 µm"]
    assert Length.fit(["9000 nm"]).values(np.array([1.5])) == ["1500 nm"]


@pytest.mark.parametrize(
    ("values", "codec"),
    [
        ([], Json()),
        ([1, 2], Number("int")),
        ([1, 2.5], Number("float", integral=True)),
        ([1.0, 2], Number("float")),
        ([True], Number("bool")),
        ([True, 1], Json()),
        ([2**63], Json()),
        ([2**53 + 1, 0.5], Json()),
        (["a", "b"], Text()),
        (["a", "a"], Label()),
        (["a", 1], Json()),
        ([[1]], Json()),
    ],
)
def test_the_codec_of_an_extra_attribute_follows_from_its_values(values: list[Any], codec: Codec) -> None:
    assert fit_extra(values) == codec


@given(values=st.lists(st.one_of(words, st.integers(), st.booleans(), st.lists(words, max_size=2)), max_size=5))
def test_labels_stand_for_their_values(values: list[Any]) -> None:
    codec = Label.fit(values)
    column = codec.column(values, np.ones(len(values), bool))
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    assert column.tolist() == texts
    if not any(isinstance(value, str) for value in values):
        assert same_json(codec.values(column), values)


def test_codecs_are_plain_data() -> None:
    for codec in (Label(text=False), Number("int"), Json(), Text(), Position("list"), Length(" nm", decimals=2)):
        assert msgspec.json.decode(msgspec.json.encode(codec), type=Codec) == codec
