"""What a file is asked, and whether two engines answer alike: values may differ only where one of them has none."""

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import cellnet_sd as cn
from cellnet_sd.errors import CellNetError, CellNetWarning
from cellnet_sd.handle import CellNetFile
from cellnet_sd.layout import Component
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.locations import Located
from cellnet_sd.sources.native_values import is_decoded
from cellnet_sd.sources.opening import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

Answers = dict[str, Any]


class Refused(str):
    """The name and the words of a `CellNetError`."""

    __slots__ = ()


def ask(path: Path, engine: str, *, raw: bool, table: bool) -> Answers:
    """Return what a file answers to every verb, a `Refused` for each that ends in a `CellNetError`.

    Parameters
    ----------
    path, engine
        The file, and how it is read.
    raw
        Whether to add every stored value, to be compared.
    table
        Whether to read it as a table, too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CellNetWarning)
        return _asked(path, engine, raw=raw, table=table)


def _asked(path: Path, engine: Any, *, raw: bool, table: bool) -> Answers:
    answers: Answers = {}
    try:
        source = open_source(path, index=False, engine=engine)
    except CellNetError as error:
        return {"open": _refused(error)}
    file = CellNetFile(source)
    verbs: dict[str, Callable[[], Any]] = {
        "obs": lambda: file.obs,
        "captions": lambda: file.captions,
        "expression": lambda: file.expression[:],
        "patches": lambda: file.patches("cell")[:].values,
        "wsi": lambda: file.patches("wsi")[:1].values,
        "ccc": lambda: file.ccc,
    }
    if table:
        verbs["read"] = lambda: cn.read_anndata(path, index=False, on_error="skip", engine=engine).X
    for name, verb in verbs.items():
        try:
            answers[name] = verb()
        except CellNetError as error:
            answers[name] = _refused(error)
    if raw:
        answers |= _facts(source)
    return answers


def _refused(error: CellNetError) -> Refused:
    return Refused(f"{type(error).__name__}: {error}")


def _facts(source: Any) -> Answers:
    index = source.index
    defects = {(int(problem.row), str(problem.component)) for problem in index.defects}
    answers: Answers = {
        "cells": [f"{c}/{n}" for c, n in zip(index.containers, index.names, strict=True)],
        "defects": defects,
        "wsi numbers": index.wsi.tolist(),
        "left": {component for component in Component if _is_left(index.load_located(component))},
    }
    for component in Component:
        with contextlib.suppress(CellNetError):
            answers[f"raw {component}"] = [_portable(raw) for raw in source.fetch(component, np.arange(len(index)))]
    return answers


def _is_left(located: Located | None) -> bool:
    """Whether h5py reads some of a component."""
    return located is None or not all(is_decoded(layout) for layout in located.layouts)


def _portable(raw: Any) -> Any:
    """Return a stored value that can be pickled."""
    if not isinstance(raw, Raw):
        return raw
    return Raw(raw.value, dict(raw.attrs), {name: _portable(member) for name, member in raw.members.items()})


# --- comparison ------------------------------------------------------------------------------------------------------


def differences(own: Answers, theirs: Answers, besides: frozenset[str] = frozenset()) -> list[str]:
    """Return in words where two answers to one file contradict each other, but for the arrays of some components."""
    if "open" in own or "open" in theirs:
        return []
    if own["cells"] != theirs["cells"]:
        faulty = {row for answers in (own, theirs) for row, what in answers["defects"] if what == "group"}
        return [] if faulty else [f"cells: {own['cells']} instead of {theirs['cells']}"]
    found = [_tables(own, theirs), _captions(own, theirs)]
    found += [_raws(component, own, theirs) for component in Component if component not in besides]
    is_sound = not any(each["defects"] or _has_unreadable(each) for each in (own, theirs))
    if is_sound and own["wsi numbers"] != theirs["wsi numbers"]:
        found.append(f"WSI numbers {own['wsi numbers']} instead of {theirs['wsi numbers']}")
    found += [_arrays(name, own, theirs) for name, of in _VERBS.items() if is_sound and of not in besides]
    return [words for words in found if words]


_VERBS = {
    "expression": Component.EXPRESSION,
    "patches": Component.CELL_PATCH,
    "wsi": Component.WSI_PATCH,
    "ccc": Component.CCC,
    "read": Component.EXPRESSION,
}


def _has_unreadable(answers: Answers) -> bool:
    return any(
        isinstance(value, Unreadable) for component in Component for value in answers.get(f"raw {component}", [])
    )


def _faulty(component: str, *answers: Answers) -> set[int]:
    """Return the rows whose component cannot be read by one of the engines."""
    return {row for each in answers for row, what in each["defects"] if what in (component, "group")}


def _tables(own: Answers, theirs: Answers) -> str:
    one, two = own["obs"], theirs["obs"]
    if isinstance(one, Refused) or isinstance(two, Refused):
        return ""
    faulty = _faulty(Component.ATTRIBUTES, own, theirs)
    if not faulty and not own["defects"] and not theirs["defects"]:
        try:
            pd.testing.assert_frame_equal(one, two)
        except AssertionError as error:
            return f"obs: {str(error)[:300]}"
    kept = [row for row in range(len(one)) if row not in faulty]
    for name in one.columns.intersection(two.columns):
        if name != "slide" and _plain(one[name], kept) != _plain(two[name], kept):
            return f"obs[{name!r}]: {_plain(one[name], kept)} instead of {_plain(two[name], kept)}"
    return ""


def _plain(column: pd.Series, rows: list[int]) -> list[str]:
    return [str(value) for value in column.iloc[rows].astype(object)]


def _captions(own: Answers, theirs: Answers) -> str:
    one, two = own["captions"], theirs["captions"]
    if isinstance(one, Refused) or isinstance(two, Refused):
        return ""
    faulty = _faulty(Component.CAPTION, own, theirs)
    kept = [row for row in range(len(one)) if row not in faulty]
    left, right = _plain(one, kept), _plain(two, kept)
    return "" if left == right else f"captions: {left} instead of {right}"


def _raws(component: Component, own: Answers, theirs: Answers) -> str:
    one, two = own.get(f"raw {component}"), theirs.get(f"raw {component}")
    if one is None or two is None:
        return ""
    faulty = _faulty(component, own, theirs)
    for row, (left, right) in enumerate(zip(one, two, strict=True)):
        if row not in faulty and (words := _raw(left, right)):
            return f"{component} of row {row}: {words}"
    return ""


def _raw(own: Any, theirs: Any) -> str:
    """Return how two stored values differ; empty if they do not, or one of them cannot be read."""
    if isinstance(own, Unreadable) or isinstance(theirs, Unreadable):
        return ""
    if not isinstance(own, Raw) or not isinstance(theirs, Raw):
        return "" if own is theirs is None else f"{own} instead of {theirs}"
    if list(own.members) != list(theirs.members):
        return f"members {list(own.members)} instead of {list(theirs.members)}"
    stated = {name: value for name, value in theirs.attrs.items() if value is not None}
    if own.attrs.keys() != stated.keys():
        return f"attributes {list(own.attrs)} instead of {list(stated)}"
    pairs = [(own.value, theirs.value), *((own.attrs[name], stated[name]) for name in stated)]
    words = [_array(*pair) for pair in pairs]
    words += [_raw(own.members[name], theirs.members[name]) for name in own.members]
    return next(filter(None, words), "")


def _array(own: Any, theirs: Any) -> str:
    if own is None or theirs is None:
        return "" if own is theirs else f"{own} instead of {theirs}"
    one, two = _native(own), _native(theirs)
    if one.shape != two.shape or one.dtype != two.dtype:
        return f"{one.dtype} {one.shape} instead of {two.dtype} {two.shape}"
    if one.dtype != object:
        return "" if one.tobytes() == two.tobytes() else f"{one.reshape(-1)[:8]} instead of {two.reshape(-1)[:8]}"
    pairs = zip(one.reshape(-1), two.reshape(-1), strict=True)
    same = all(_bytes(left) == _bytes(right) for left, right in pairs)
    return "" if same else f"{one} instead of {two}"


def _native(value: Any) -> Any:
    """Return an array in the byte order of this machine, which pickling gives it in any case."""
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="))


def _bytes(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, np.ndarray) else bytes(value)


def _arrays(name: str, own: Answers, theirs: Answers) -> str:
    one, two = own.get(name), theirs.get(name)
    if one is None or two is None or isinstance(one, Refused) or isinstance(two, Refused):
        return ""
    dense = [each.toarray() if hasattr(each, "toarray") else each for each in (one, two)]
    return f"{name}: {words}" if (words := _array(*dense)) else ""
