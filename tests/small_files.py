"""A small sound file, to be changed by a test."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np


def written(path: Path, n: int = 20, **options: Any) -> Path:
    """Write cells of three genes by plain h5py."""
    with h5py.File(path, "w", **options) as root:
        root["gene_names"] = ["A", "B", "C"]
        for row in range(n):
            cell = root.create_group(f"Cell_{row}")
            values = np.array([row + 0.5, 0, row % 3], "f4")
            cell.create_dataset("expression", data=values, chunks=(3,), compression="gzip")
            cell["images/cell_patch"] = np.full((4, 4, 3), row % 256, np.uint8)
            cell["attributes.json"] = f'{{"cell_type": "t{row % 2}", "Position_in_WSI": "({row}, 1)"}}'
            cell["caption.txt"] = f"cell {row}"
    return path
