"""What is named like a cell is taken for one unseen: whatever it is, the answer is that of looking at each."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import cellnet_sd as cn
from cellnet_sd.sources import native_facts
from cellnet_sd.sources.native.scan import scan_structure
from engine_truth import assert_same_facts, assert_same_values, both
from small_files import written

N = 12
ODD = "Cell_7"


def _dataset(root: h5py.File) -> None:
    root[ODD] = np.arange(3)


def _empty_group(root: h5py.File) -> None:
    root.create_group(ODD)


def _container(root: h5py.File) -> None:
    root.copy("Cell_1", f"{ODD}/inner")
    root.copy("Cell_2", f"{ODD}/Cell_8")


def _cell_by_attributes(root: h5py.File) -> None:
    root.create_group(ODD).attrs["attributes.json"] = '{"cell_type": "t1", "Position_in_WSI": "(3, 1)"}'


def _soft_link(root: h5py.File) -> None:
    root[ODD] = h5py.SoftLink("/Cell_1")


def _external_link(root: h5py.File) -> None:
    root[ODD] = h5py.ExternalLink("other.h5", "/Cell_1")


def _named_type(root: h5py.File) -> None:
    root[ODD] = np.dtype("f8")


def _root_again(root: h5py.File) -> None:
    root[ODD] = root["/"]


def _cell_again(root: h5py.File) -> None:
    root[ODD] = root["Cell_1"]


def _first_of_all(root: h5py.File) -> None:
    root.create_group("Cell_00/inner")


Change = Callable[[h5py.File], None]
CHANGES: tuple[Change, ...] = (
    _dataset,
    _empty_group,
    _container,
    _cell_by_attributes,
    _soft_link,
    _external_link,
    _named_type,
    _root_again,
    _cell_again,
    _first_of_all,
)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_the_answer_is_that_of_h5py(tmp_path: Path, change: Change, libver: str) -> None:
    path = written(tmp_path / "cells.h5", N, libver=libver)
    with h5py.File(path, "a", libver=libver) as root:
        if ODD in root:
            del root[ODD]
        change(root)
    assert scan_structure(path, assumes=True).cells.assumed
    expected, found = both(path)
    assert_same_facts(expected, found)
    if not expected.defects:  # a link to another file has no values
        assert_same_values(path, found)


@pytest.mark.parametrize("names", [("Cell_9", "Cell_10"), ("aaaaabbb-1", "aaaaacbn-12"), ("ACGT", "AGCT"), ("7", "08")])
def test_names_of_one_form_are_not_looked_at(tmp_path: Path, names: tuple[str, str]) -> None:
    path = written(tmp_path / "cells.h5", 2)
    with h5py.File(path, "a") as root:
        for row, name in enumerate(names):
            root.move(f"Cell_{row}", name)
    cells = scan_structure(path, assumes=True).cells
    assert cells.assumed
    assert len(cells) == 2


def test_names_of_other_forms_are_looked_at(tmp_path: Path) -> None:
    path = written(tmp_path / "cells.h5", 3)
    with h5py.File(path, "a") as root:
        for row, name in enumerate(("Cell_", "Cell_A", "Cell_1_2", "ACGT-1", "cell_1", "ACGTA-1")):
            root.move(f"Cell_{row}", name) if f"Cell_{row}" in root else root.create_group(name)
    cells = scan_structure(path, assumes=True).cells
    assert not cells.assumed
    assert len(cells) == 3


def test_parts_of_other_cells_are_not_taken_for_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build stops between the look at names and the look at all: what is kept of either is of no other cells."""
    path = written(tmp_path / "cells.h5", 40)
    with h5py.File(path, "a") as root:
        del root["Cell_25"]
        root.copy("Cell_3", "Cell_25/inner")
        root.copy("Cell_4", "Cell_25/other")
    monkeypatch.setattr(native_facts, "BATCH", 4)
    monkeypatch.setattr(native_facts, "_LEAST", 4)
    read, n_read = native_facts.read_part, []

    def stops(*args: object) -> object:
        if len(n_read) == 10:
            raise KeyboardInterrupt
        n_read.append(1)
        return read(*args)

    with monkeypatch.context() as patch:
        patch.setattr(native_facts, "read_part", stops)
        with pytest.raises(KeyboardInterrupt):
            cn.index(path, n_threads=1)
    assert path.with_name(f"{path.name}.cnindex.parts").exists()
    cn.index(path, n_threads=1)
    with cn.open(path) as ours, cn.open(path, engine="h5py", index=False) as theirs:
        assert ours.obs.equals(theirs.obs)
        assert ours.captions.equals(theirs.captions)
        assert len(ours.obs) == 41
