"""What is said about a cell: its attributes and its caption. The domain is never told: it is the truth to recover."""

import json
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.layout import ATTRIBUTES
from cellnet_sd.synthetic.catalogue import CELL_TYPES, SOURCE, TECHNOLOGY, TISSUE, TISSUE_DISEASE
from cellnet_sd.synthetic.cells import Cells

_NEIGHBOURS: Final = 12
_HEALTHY: Final = "nondisease"
_MALIGNANT: Final = "Malignant epithelial"

_SINGULAR: Final = {
    "Malignant epithelial": "malignant epithelial cell",
    "Fibroblast": "fibroblast",
    "T-cell": "T-cell",
    "B-cell": "B-cell",
    "Macrophage": "macrophage",
    "Endothelial": "endothelial cell",
}
_OPENINGS: Final = (
    "This single cell is a {status}{name} from {source} {tissue} tissue",
    "This {status}{name} lies in a section of {source} {tissue}",
    "The {status}{name} shown here was found in {source} {tissue} tissue",
)
_SHAPES: Final = {
    "Malignant epithelial": (
        "a polygonal outline with a large, pale nucleus and a prominent nucleolus",
        "an enlarged, irregular nucleus with coarse chromatin and purple-pink cytoplasm",
    ),
    "Fibroblast": (
        "an elongated, spindle-shaped nucleus along the surrounding fibres",
        "a thin, tapering nucleus and scant, pale cytoplasm",
    ),
    "T-cell": (
        "a small, round, densely stained nucleus with a thin rim of cytoplasm",
        "a compact, dark nucleus that nearly fills the cell",
    ),
    "B-cell": (
        "a round, dark nucleus and scant basophilic cytoplasm",
        "a small, evenly round nucleus with condensed chromatin",
    ),
    "Macrophage": (
        "abundant pale cytoplasm around an oval, eccentric nucleus",
        "a large, lightly stained body with a bean-shaped nucleus",
    ),
    "Endothelial": (
        "a flattened, elongated nucleus that bends with the vessel wall",
        "a thin, dark nucleus and hardly any visible cytoplasm",
    ),
}
_ROLES: Final = {
    "Malignant epithelial": "Such cells divide without control and invade the surrounding tissue.",
    "Fibroblast": "Fibroblasts produce collagen and maintain the extracellular matrix.",
    "T-cell": "T-cells recognise antigens and direct or carry out the adaptive immune response.",
    "B-cell": "B-cells present antigens and give rise to plasma cells that secrete antibodies.",
    "Macrophage": "Macrophages clear debris and pathogens and shape inflammation.",
    "Endothelial": "Endothelial cells line blood vessels and control exchange between blood and tissue.",
}


def attributes_text(cells: Cells, corner: NDArray[np.int64]) -> list[str]:
    """Return `attributes.json` of each cell: the nine published attributes, in the published order and spelling.

    Parameters
    ----------
    cells
        The cells of one slide.
    corner
        x and y of the tissue's bounding box, from which `Position_in_tissue` counts.
    """
    in_tissue = cells.xy - corner
    return [
        json.dumps(dict(zip(ATTRIBUTES, values, strict=True)), ensure_ascii=False)
        for values in (
            (
                SOURCE,
                TISSUE,
                CELL_TYPES[kind],
                TISSUE_DISEASE if CELL_TYPES[kind] == _MALIGNANT else _HEALTHY,
                TISSUE_DISEASE,
                f"({tissue_x}, {tissue_y})",
                f"({x}, {y})",
                f"{diameter} µm",
                TECHNOLOGY,
            )
            for kind, (tissue_x, tissue_y), (x, y), diameter in zip(
                cells.kind.tolist(), in_tissue.tolist(), cells.xy.tolist(), cells.diameter.tolist(), strict=True
            )
        )
    ]


def captions(rng: np.random.Generator, cells: Cells) -> list[str]:
    """Return a caption for each cell: what it is, what it looks like, what it does and what lies around it."""
    variants = rng.integers(0, 6, len(cells.xy)).tolist()
    around = _common_neighbours(cells)
    return [
        _caption(CELL_TYPES[kind], variant, neighbours)
        for kind, variant, neighbours in zip(cells.kind.tolist(), variants, around, strict=True)
    ]


def _caption(name: str, variant: int, neighbours: str) -> str:
    status = "" if name == _MALIGNANT else "non-cancerous "
    opening = _OPENINGS[variant % 3].format(
        status=status, name=_SINGULAR[name], source=SOURCE.lower(), tissue=TISSUE.lower()
    )
    shape = _SHAPES[name][variant % 2]
    disease = f"with {TISSUE_DISEASE.lower()}"
    return f"{opening} {disease}, showing {shape}. {_ROLES[name]} Its neighbours are mainly {neighbours}."


def _common_neighbours(cells: Cells) -> list[str]:
    """Return the one or two types that make up most of each cell's surroundings, as words."""
    from scipy.spatial import cKDTree

    near = np.arange(2, min(_NEIGHBOURS + 1, len(cells.xy)) + 1)
    if not len(near):
        return ["absent"] * len(cells.xy)
    found = cells.kind[cKDTree(cells.xy).query(cells.xy, k=near)[1]]
    counts = np.stack([(found == kind).sum(axis=1) for kind in range(len(CELL_TYPES))], axis=1)
    order = np.argsort(-counts, axis=1, kind="stable")[:, :2]
    second = np.take_along_axis(counts, order, axis=1)[:, 1] >= len(near) / 4
    plural = [f"{_SINGULAR[name]}s" for name in CELL_TYPES]
    return [
        f"{plural[first]} and {plural[other]}" if mixed else plural[first]
        for (first, other), mixed in zip(order.tolist(), second.tolist(), strict=True)
    ]
