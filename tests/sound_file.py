"""A sound file with every component, to be broken in one place; and what becomes of it."""

from pathlib import Path
from typing import Any

import numpy as np

import cellnet_sd as cn
from cellnet_sd.errors import CellNetError
from spell_arrays import ImageSpelling
from spell_ccc import CccSpelling, CccTruth
from spellings import FileTruth, Spelling, plain_file
from truth_checks import quiet

BAD = "Cell_2"
HUGE = 2**40
LINKS = np.array([[0, 1, 0, 2], [3, 0, 4, 0], [0, 5, 0, 6], [7, 0, 8, 0]], dtype="f4")


def full_file() -> tuple[FileTruth, Spelling]:
    """Return a file of four cells with every component."""
    rng = np.random.default_rng(5)
    attributes = [
        {"tissue": "Lung", "Position_in_WSI": f"({10 * row}, 5)", "cell_diameter": "9.0 µm"} for row in range(4)
    ]
    captions = [f"cell {row}" for row in range(4)]
    truth, spelling = plain_file(4, attributes=attributes, caption=captions)
    for level, key_shape in {"cell": (6, 7, 3), "wsi": (5, 9, 3)}.items():
        spelling.images[level] = ImageSpelling()
        shared = rng.integers(0, 256, key_shape, dtype=np.uint8)
        for cell in truth.cells:
            pixels = shared if level == "wsi" else rng.integers(0, 256, key_shape, dtype=np.uint8)
            cell.patches[level] = cell.stored_patches[level] = pixels
    truth.ccc = CccTruth(links=LINKS[None], present=np.ones(4, bool))
    spelling.ccc = CccSpelling()
    return truth, spelling


def outcome(path: Path) -> tuple[Any, str]:
    """Return the table, or None where reading is refused; and what was said: the error, or warnings and provenance."""
    with quiet() as caught:
        try:
            adata = cn.read_anndata(path, index=False)
        except CellNetError as error:
            return None, str(error)
    return adata, " ".join(str(warning.message) for warning in caught) + str(adata.uns["cellnet_sd"])
