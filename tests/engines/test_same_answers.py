"""The native engine and h5py give the same answers, in every form of storage, and nothing falls back in silence."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from engine_truth import assert_same_facts, assert_same_values, both
from native_files import Form, forms, make

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
NOT_DECODED = frozenset({"lzf", "scaleoffset"})
"""Filters whose bytes the native engine locates, and leaves to libhdf5 to decode."""


@settings(max_examples=60, **SETTINGS)
@given(form=forms)
def test_every_form_gives_the_same_facts_and_values(form: Form) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.h5"
        make(path, form)
        expected, found = both(path)
        assert_same_facts(expected, found)
        n_left = assert_same_values(path, found)
        if not NOT_DECODED & {form.filters.get("compression"), *form.filters}:
            assert n_left == 0
            assert found.scan.through_h5py == {}


@pytest.mark.parametrize("name", ["lung_xenium.h5", "her2st_two_slides.h5"])
def test_real_files_give_the_same(data_dir: Path, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    shutil.copyfile(data_dir / name, path)
    expected, found = both(path)
    assert_same_facts(expected, found)
    assert assert_same_values(path, found) == 0
    assert found.scan.through_h5py == {}
