"""The native engine and h5py give the same answers, in every form of storage, and nothing falls back in silence."""

import shutil
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from cellnet_sd.layout import Component
from cellnet_sd.sources.facts import Facts
from engine_truth import assert_same_facts, assert_same_values, both
from native_files import Form, forms, make

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
pytestmark = pytest.mark.usefixtures("small_pieces")
NOT_DECODED = {6: "scale-offset", 32000: "lzf"}
"""Filters whose bytes the native engine locates, and leaves to libhdf5 to decode: nothing else is."""
_FOREIGN = {"lzf", "scaleoffset"}


@settings(max_examples=60, **SETTINGS)
@given(form=forms)
def test_every_form_gives_the_same_facts_and_values(form: Form) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.h5"
        make(path, form)
        expected, found = both(path)
        assert_same_facts(expected, found)
        assert assert_same_values(path, found) == _n_not_decoded(path, found)
        assert all(reason.startswith("filters ") for reason in found.scan.through_h5py)
        assert _FOREIGN & {form.filters.get("compression"), *form.filters} or found.scan.through_h5py == {}


def _n_not_decoded(path: Path, facts: Facts) -> int:
    """Return how many components have a filter, by h5py, that is left to libhdf5: no other may be left."""
    with h5py.File(path) as root:
        cells = [root[f"{where}/{name}"] for where, name in zip(facts.containers, facts.names, strict=True)]
        return sum(_is_foreign(cell[component]) for cell in cells for component in Component if component in cell)


def _is_foreign(node: h5py.Dataset | h5py.Group) -> bool:
    if isinstance(node, h5py.Group):
        return any(_is_foreign(member) for member in node.values())
    plist = node.id.get_create_plist()
    return any(plist.get_filter(i)[0] in NOT_DECODED for i in range(plist.get_nfilters()))


@pytest.mark.parametrize("n_cells", [24, 1_100])
def test_datasets_that_cells_share_out_of_step_with_the_pieces(tmp_path: Path, n_cells: int) -> None:
    """Slides interleaved: the rows of what cells share are copied, within a piece and not from one before it."""
    path = tmp_path / "shared.h5"
    with h5py.File(path, "w", track_order=True) as root:
        for row in range(n_cells):
            cell = root.create_group(f"Cell_{row}")
            cell["expression"] = np.full(3, row, "f4")
            number = 0 if row < 5 else row // 7 % 2
            if row in (0, 7):
                cell["images/WSI_patch"] = np.full((4, 4, 3), number, "u1")
            else:
                cell["images/WSI_patch"] = root[f"Cell_{7 * number}/images/WSI_patch"]
    expected, found = both(path)
    assert_same_facts(expected, found)
    assert assert_same_values(path, found) == 0


@pytest.mark.parametrize("name", ["lung_xenium.h5", "her2st_two_slides.h5"])
def test_real_files_give_the_same(data_dir: Path, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    shutil.copyfile(data_dir / name, path)
    expected, found = both(path)
    assert_same_facts(expected, found)
    assert assert_same_values(path, found) == 0
    assert found.scan.through_h5py == {}
