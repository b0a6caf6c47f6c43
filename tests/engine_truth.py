"""Holding what the native engine says of a file against what h5py says: facts, and every value of every cell."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellnet_sd.layout import Component
from cellnet_sd.rows import row_order
from cellnet_sd.sources.base import Raw, Unreadable
from cellnet_sd.sources.facts import Facts
from cellnet_sd.sources.hdf5_fetch import fetch_cells
from cellnet_sd.sources.hdf5_scan import scan
from cellnet_sd.sources.native_facts import scan_natively
from cellnet_sd.sources.native_fetch import LEFT, NativeReader
from cellnet_sd.workers import Threads


def both(path: Path) -> tuple[Facts, Facts]:
    """Return the facts of a file, in row order: by h5py, and natively."""
    reference = scan(path)

    rows, order = row_order(path, reference.names, reference.containers, reference.stated)
    return reference.ordered(rows, order), scan_natively(path, workers=Threads(2))


def assert_same_facts(expected: Facts, found: Facts) -> None:
    """Names, order, attributes, captions, forms, images, what is stated, and what is wrong."""
    assert found.order == expected.order
    assert found.names.tolist() == expected.names.tolist()
    assert list(found.containers) == list(expected.containers)
    assert list(found.documents.columns) == list(expected.documents.columns)
    assert set(found.documents.orders) == set(expected.documents.orders)
    for name, values in expected.documents.columns.items():
        own = found.documents.columns[name]
        assert repr(own.as_python()) == repr(values.as_python()), name
        np.testing.assert_array_equal(own.absent, values.absent)
    pd.testing.assert_series_equal(found.captions, expected.captions)
    for component in Component:
        own, theirs = found.forms[component], expected.forms[component]
        forms = [None if code < 0 else own.forms[code] for code in own.codes]
        assert forms == [None if code < 0 else theirs.forms[code] for code in theirs.codes], component
    np.testing.assert_array_equal(found.wsi, expected.wsi)
    assert {path: stated.tracked for path, stated in found.stated.items()} == {
        path: stated.tracked for path, stated in expected.stated.items()
    }
    assert {k: v.values for k, v in found.stated.items()} == {k: v.values for k, v in expected.stated.items()}
    assert sorted((p.row, p.component) for p in found.defects) == sorted((p.row, p.component) for p in expected.defects)
    assert found.unknown == expected.unknown
    assert found.gene_names == expected.gene_names
    assert found.n_latin1 == expected.n_latin1


def assert_same_values(path: Path, facts: Facts, n_threads: int = 2) -> int:
    """Every component of every cell as h5py reads it; return how many values were left to h5py."""
    groups = [f"{container}/{name}" for container, name in zip(facts.containers, facts.names, strict=True)]
    rows = np.random.default_rng(0).permutation(len(facts))
    n_left = 0
    for component in Component:
        reader = NativeReader(path, component, facts.located[component], facts.scan.state, n_threads)
        found = reader.fetch(rows)
        expected = fetch_cells(path, component, [groups[row] for row in rows])
        for own, theirs in zip(found, expected, strict=True):
            if own is LEFT:
                n_left += 1
            else:
                assert_same_raw(own, theirs)
    return n_left


def assert_same_raw(found: Any, expected: Any) -> None:
    """One stored value, with its members and attributes, byte for byte."""
    assert type(found) is type(expected), (found, expected)
    if not isinstance(expected, Raw):
        assert isinstance(expected, Unreadable) or expected is None
        return
    assert list(found.members) == list(expected.members)
    assert found.attrs.keys() == {name for name, value in expected.attrs.items() if value is not None}
    for name, value in found.attrs.items():
        assert_same_array(np.asarray(value), np.asarray(expected.attrs[name]))
    for name, member in found.members.items():
        assert_same_raw(member, expected.members[name])
    if expected.value is None:
        assert found.value is None
    else:
        assert_same_array(found.value, expected.value)


def assert_same_array(found: np.ndarray, expected: np.ndarray) -> None:
    """Dtype, shape and bytes."""
    assert found.shape == expected.shape
    if expected.dtype == object:
        for own, theirs in zip(found.reshape(-1), expected.reshape(-1), strict=True):
            assert (own if isinstance(own, bytes | str) else own.tobytes()) == (
                theirs if isinstance(theirs, bytes | str) else theirs.tobytes()
            )
        return
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()
