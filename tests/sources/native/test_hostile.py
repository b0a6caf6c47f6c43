"""Damaged files never crash the structure reader, hold it up, or lead it outside the file."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import native_mutants
from native_files import Form, make

N_MUTANTS = int(os.environ.get("CELLNET_SD_MUTANTS", "400"))
"""How many files; 20,000 take some minutes."""
BATCH = 2_000


def _sound_files(folder: Path) -> list[Path]:
    """Return sound files that together have every structure the reader knows."""
    files = []
    for number, libver in enumerate(("earliest", "v108", "v110", "latest")):
        for layout in ("pieces", "extendible", "two extendible", "limited", "contiguous"):
            path = folder / f"{libver}_{layout.replace(' ', '_')}.h5"
            filters = {"compression": "gzip"} if number % 2 else {}
            width = 4 if number % 2 and layout == "pieces" else 8
            form = Form(libver, number % 2 == 1, 0, 12, layout, filters, "<f4", "vlen", 12, 2, False, number, width)
            make(path, form)
            files.append(path)
    path = folder / "wide.h5"
    with h5py.File(path, "w", libver="latest", track_order=True) as root:
        cell = root.create_group("c")
        cell.create_dataset("expression", data=np.arange(3000), chunks=(1,), maxshape=(None,))
        for number in range(400):
            root[f"Cell_{number}"] = cell
    return [*files, path]


@pytest.mark.thorough
def test_mutants(tmp_path: Path) -> None:
    files = _sound_files(tmp_path)
    for first in range(0, N_MUTANTS, BATCH):
        count = min(BATCH, N_MUTANTS - first)
        command = [sys.executable, native_mutants.__file__, str(first), str(count), *map(str, files)]
        paths = os.pathsep.join(path for path in sys.path if path)
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths}, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("size", [0, 1, 8, 47, 96, 200, 1000])
def test_truncated(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file.h5"
    make(path, Form("earliest", False, 0, 3, "contiguous", {}, "<f4", "vlen", 0, 1, False, 0))
    path.write_bytes(path.read_bytes()[:size])
    assert native_mutants.examine(path) in ("SIGNATURE", "TRUNCATED")


def test_a_group_that_contains_itself(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as root:
        root["a/b/expression"] = np.arange(3)
        root["a/again"] = root["a"]
        root["a/root"] = root["/"]
    assert native_mutants.examine(path) == "read"
