"""Draw the text parts of a record: the ways a string is stored, and attributes with what they must be read as."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

TEXT_FORMS = (
    "vlen",
    "fixed",
    "vlen (1,)",
    "fixed (1,)",
    "latin-1 fixed",
    "latin-1 vlen",
    "latin-1 uint8",
    "uint8",
    "attribute",
    "attribute fixed",
)
NAN2 = (math.nan, math.nan)
MISSING = object()

LABELS = ("source", "tissue", "cell_type", "cell_disease_state", "tissue_disease_state")
PUBLISHED = (*LABELS, "Position_in_tissue", "Position_in_WSI", "cell_diameter", "st_technology")
PLAIN_EXTRAS = ("nb_genes", "study_link", "grade", "purity", "n_counts", "is_tumour", "panel", "leiden")
AWKWARD_EXTRAS = (
    "dataset title",
    "a:b",
    "x/y",
    "__private",
    "_index",
    "Region",
    "cell_id",
    "Caption",
    "cell_patch",
    "Grade",
    "grösse µm",
    "",
    "index",
    "tissue type",
    "Cell_Type",
)

texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=24)
words = st.text(st.characters(categories=("L", "N", "P"), max_codepoint=0x24F), min_size=1, max_size=12)


def _latin1(text: str) -> bytes | None:
    """Return `text` in latin-1, or None where those bytes mean something else in UTF-8."""
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:
        return None
    try:
        return raw if raw.decode("utf-8") == text else None
    except UnicodeDecodeError:
        return raw


def write_text(group: h5py.Group, key: str, text: str, form: str) -> None:
    """Store `text` below `key` in `form`; text that latin-1 cannot carry is stored in UTF-8."""
    raw = (_latin1(text) if form.startswith("latin-1") else None) or text.encode()
    vlen, fixed = h5py.string_dtype("utf-8"), h5py.string_dtype("utf-8", max(1, len(raw)))
    match form.removeprefix("latin-1 "):
        case "vlen":
            group.create_dataset(key, data=raw, dtype=vlen)
        case "fixed":
            group.create_dataset(key, data=np.array(raw, dtype=fixed))
        case "vlen (1,)":
            group.create_dataset(key, data=np.array([raw], dtype=object), dtype=vlen)
        case "fixed (1,)":
            group.create_dataset(key, data=np.array([raw], dtype=fixed))
        case "uint8":
            group.create_dataset(key, data=np.frombuffer(raw, np.uint8))
        case "attribute":
            group.attrs.create(key, text, dtype=vlen)
        case "attribute fixed":
            group.attrs.create(key, np.array(raw, dtype=fixed))
        case _:
            raise ValueError(form)


# --- attributes ------------------------------------------------------------------------------------------------------

_coordinates = st.one_of(
    st.integers(-(10**6), 10**6),
    st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False),
)


@st.composite
def positions(draw: st.DrawFn) -> tuple[Any, tuple[float, float]]:
    """Draw a position as stored, and the (x, y) it must be read as."""
    x, y = draw(_coordinates), draw(_coordinates)
    spelled = draw(
        st.sampled_from([f"({x}, {y})", f"{x}, {y}", f"({x},{y})", [x, y], {"x": x, "y": y}, {"y": y, "x": x}])
    )
    if draw(st.integers(0, 7)) == 0:
        return draw(st.sampled_from([None, MISSING])), NAN2
    return spelled, (float(x), float(y))


_UNITS = {"µm": 1.0, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}


@st.composite
def diameters(draw: st.DrawFn) -> tuple[Any, float]:
    """Draw a cell diameter as stored, and the µm it must be read as."""
    value = draw(st.one_of(st.integers(1, 500), st.floats(0.1, 500).map(lambda v: round(v, 3))))
    unit = draw(st.sampled_from(sorted(_UNITS)))
    form = draw(st.sampled_from(["number", "spaced", "spaced", "tight", "null", "missing"]))
    match form:
        case "number":
            return value, float(value)
        case "spaced":
            return f"{value} {unit}", value * _UNITS[unit]
        case "tight":
            return f"{value}{unit}", value * _UNITS[unit]
    return None if form == "null" else MISSING, math.nan


_json_leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9), words)
_nested = st.one_of(
    st.lists(_json_leaves, max_size=3),
    st.dictionaries(words, _json_leaves, max_size=2),
    st.lists(st.dictionaries(words, _json_leaves, max_size=2), min_size=1, max_size=2),
)
VALUES = {
    "bool": st.booleans(),
    "int": st.integers(-(2**31), 2**31),
    "float": st.floats(-1e9, 1e9),
    "number": st.one_of(st.integers(-(2**31), 2**31), st.floats(-1e9, 1e9)),
    "string": st.one_of(words, st.sampled_from(["12", "true", "null", "nan", "NA", "", "1e5", "é"])),
    "nested": _nested,
    "mixed": st.one_of(st.booleans(), words, st.integers(-99, 99), _nested),
    "null": st.none(),
}


@dataclass
class DrawnAttributes:
    """What one cell stores as attributes, and what the numbers among them must be read as."""

    stored: dict[str, Any] | None
    position: tuple[float, float] = NAN2
    position_in_tissue: tuple[float, float] = NAN2
    diameter: float = math.nan


@dataclass
class AttributeSchema:
    """The extra attributes of a file: their names, the kind of value of each, and whether cells may lack them."""

    extras: dict[str, str] = field(default_factory=dict)
    sparse: bool = False


@st.composite
def schemas(draw: st.DrawFn) -> AttributeSchema:
    """Draw which extra attributes a file has."""
    names = draw(st.lists(st.sampled_from(PLAIN_EXTRAS + AWKWARD_EXTRAS), unique=True, max_size=6))
    return AttributeSchema({n: draw(st.sampled_from(sorted(VALUES))) for n in names}, draw(st.booleans()))


@st.composite
def attributes(draw: st.DrawFn, schema: AttributeSchema, *, full: bool = False) -> DrawnAttributes:
    """Draw the attributes of one cell; `full` draws a cell with all nine."""
    where, in_wsi = draw(positions())
    tissue, in_tissue = draw(positions())
    across, diameter = draw(diameters())
    stored: dict[str, Any] = {name: draw(st.one_of(st.none(), words)) for name in LABELS}
    stored |= {"Position_in_tissue": tissue, "Position_in_WSI": where, "cell_diameter": across}
    stored["st_technology"] = draw(st.sampled_from(["Xenium", "Visium HD", None]))
    for name, kind in schema.extras.items():
        stored[name] = draw(VALUES[kind])
    if schema.sparse and not full:
        droppable = [*LABELS, "st_technology", *schema.extras]
        for name in draw(st.lists(st.sampled_from(droppable), unique=True, max_size=4)):
            stored[name] = MISSING
    stored = {name: value for name, value in stored.items() if value is not MISSING}
    return DrawnAttributes(stored, in_wsi, in_tissue, diameter)


def as_json(stored: dict[str, Any], *, ascii_only: bool, indent: int | None) -> str:
    """Return the JSON text of `stored`."""
    return json.dumps(stored, ensure_ascii=ascii_only, indent=indent)
