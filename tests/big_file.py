"""A file of 10,500 tiny cells whose names sort otherwise than they count, written once per session by plain h5py."""

import fcntl
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t
from numpy.typing import NDArray

import cellnet_sd as cn

N, N_GENES, SIDE = 10_500, 8, 4
NAMES = [f"Cell_{number:04d}" for number in range(1, N + 1)]
SENDERS = np.r_[0:20, 980:1_020, 9_980:10_020, N - 20 : N - 1]
"""Rows with CCC: each signals to the row after it, with its own row number plus one as strength."""
RARE = np.arange(5, N, 1_050)
"""Rows of the ten cells of type `rare`."""


def profiles(rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the expression of the cells at `rows`, (n, 8); the first gene tells the row."""
    values = np.tile(np.arange(N_GENES, dtype=np.float32) + 0.5, (len(rows), 1))
    values[:, 0] = rows + 0.5
    return values


def pixels(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the cell patches of the cells at `rows`, (n, 4, 4, 3); the first pixel tells the row."""
    patches = np.zeros((len(rows), SIDE, SIDE, 3), np.uint8)
    patches[:, 0, 0, 0], patches[:, 0, 0, 1] = rows % 256, rows // 256
    return patches


def links() -> NDArray[np.int64]:
    """Return the truth of CCC: (k, 3), sender, receiver and strength."""
    return np.column_stack([SENDERS, SENDERS + 1, SENDERS + 1])


def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file, with its index beside it; made when first asked for."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "big"
    folder.mkdir(exist_ok=True)
    path = folder / "big.h5"
    with (folder / "lock").open("w") as lock:  # workers share the file
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _write(folder / "partial")
            (folder / "partial").rename(path)
            cn.index(path)
    return path


def _write(path: Path) -> None:
    rows = np.arange(N)
    creation = np.random.default_rng(0).permutation(N)  # neither by number nor by name
    expression, patches = profiles(rows), pixels(rows)
    with h5py.File(path, "w", libver="latest") as root:
        root["gene_names"] = [f"G{gene}" for gene in range(N_GENES)]
        root.attrs["mpp"] = 1.0
        for row in creation.tolist():
            cell = root.create_group(NAMES[row])
            _dataset(cell, b"expression", expression[row])
            _dataset(cell, b"images/cell_patch", patches[row])
            _dataset(cell, b"attributes.json", np.array(_attributes(row).encode()))
            _dataset(cell, b"caption.txt", np.array(f"the cell at row {row}".encode()))
        for sender, receiver, strength in links().tolist():
            ccc = root[NAMES[sender]].create_group("CCC")
            ccc.attrs["shape"] = [1, N]
            ccc["data"], ccc["indices"] = np.array([strength], "f4"), np.array([receiver], "i4")


def _attributes(row: int) -> str:
    kind = "rare" if row in RARE else "common"
    return json.dumps({"cell_type": kind, "Position_in_WSI": f"({50 * row}, 100)", "cell_diameter": "9.0 µm"})


_COMPACT = h5p.create(h5p.DATASET_CREATE)
_COMPACT.set_layout(h5d.COMPACT)
_LINKS = h5p.create(h5p.LINK_CREATE)
_LINKS.set_create_intermediate_group(True)


def _dataset(cell: h5py.Group, name: bytes, values: NDArray[np.generic]) -> None:
    """Store an array inside the object header, past h5py's costlier face."""
    kind = h5t.py_create(values.dtype, logical=True)
    space = h5s.create_simple(values.shape) if values.shape else h5s.create(h5s.SCALAR)
    h5d.create(cell.id, name, kind, space, _COMPACT, _LINKS).write(h5s.ALL, h5s.ALL, values)
