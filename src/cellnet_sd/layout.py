"""What a Cell-NET record is: its components, where each is stored, its attributes and its units.

Pure facts, no I/O. The published layout is one HDF5 group per cell::

    /Cell_0001
    ├── expression          gene expression profile
    ├── images
    │   ├── cell_patch      64×64 px around the nucleus
    │   ├── tissue_patch    200 µm window
    │   └── WSI_patch       downsampled whole-slide image
    ├── attributes.json     JSON object of the nine attributes below, and perhaps more
    ├── caption.txt         text
    └── CCC                 sparse matrix: cell-cell communication
"""

from enum import StrEnum
from typing import Final


class Component(StrEnum):
    """One part of a record; the value is its path below the cell's group."""

    EXPRESSION = "expression"
    ATTRIBUTES = "attributes.json"
    CAPTION = "caption.txt"
    CELL_PATCH = "images/cell_patch"
    TISSUE_PATCH = "images/tissue_patch"
    WSI_PATCH = "images/WSI_patch"
    CCC = "CCC"


PATCHES: Final = {
    "cell": Component.CELL_PATCH,
    "tissue": Component.TISSUE_PATCH,
    "wsi": Component.WSI_PATCH,
}
"""The image levels, by the word the public functions use."""

CELL_MARKERS: Final = (Component.EXPRESSION, Component.ATTRIBUTES)
"""A group that holds one of these is a cell."""

# --- attributes.json -------------------------------------------------------------------------------------------------

POSITION_IN_TISSUE: Final = "Position_in_tissue"
POSITION_IN_WSI: Final = "Position_in_WSI"
CELL_DIAMETER: Final = "cell_diameter"
LABELS: Final = ("source", "tissue", "cell_type", "cell_disease_state", "tissue_disease_state", "st_technology")
"""Attributes that are labels: they become categoricals."""

ATTRIBUTES: Final = (
    "source",
    "tissue",
    "cell_type",
    "cell_disease_state",
    "tissue_disease_state",
    POSITION_IN_TISSUE,
    POSITION_IN_WSI,
    CELL_DIAMETER,
    "st_technology",
)
"""The nine published attributes, in the published order."""

MICROMETRES: Final = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}
"""Micrometres in one of each accepted unit of length (U+00B5, U+03BC, and the ASCII spellings)."""

# --- fixed lengths ---------------------------------------------------------------------------------------------------

TISSUE_WINDOW_UM: Final = 200.0
"""Side of a tissue patch in µm."""

CCC_REACH_UM: Final = 200.0
"""Largest distance of two cells that signal to each other, in µm."""

# --- names of what a file may state beside its cells -----------------------------------------------------------------

GENE_KEYS: Final = ("genes", "gene_names", "gene_list", "var_names", "features")
"""Root datasets or attributes, or a cell's own dataset, that name the genes."""

GENE_ID_KEY: Final = "gene_ids"
FEATURE_TYPE_KEY: Final = "feature_types"
"""Root datasets beside the gene names: the other two columns of 10x `features.tsv`."""

ORDER_KEYS: Final = ("cell_order", "cell_names", "cell_ids", "obs_names", "barcodes")
"""Root or container datasets that list the cells in the order that CCC counts them."""

SLIDE_NAMES_KEY: Final = "slide_names"
"""Root dataset that names the slides, in the order their first cells come: as `write` leaves it."""

MPP_KEYS: Final = ("mpp", "um_per_px", "um_per_pixel", "microns_per_pixel", "pixel_size_um")
"""Attributes of the root or of a container that give micrometres per pixel of the slide."""

WSI_SCALE_KEYS: Final = ("wsi_scale", "wsi_downsample", "downsample")
"""Attributes of the root or of a container that give slide pixels per pixel of the WSI patch."""

SLIDE_KEYS: Final = ("slide", "slide_id", "slide_name", "sample", "sample_id", "section", "section_id", "wsi", "wsi_id")
"""Attributes of a cell that name the slide it was cut from, by precedence."""

PAIR_KEYS: Final = ("ccc_pairs", "pairs", "pair_names", "lr_pairs", "interactions", "pathways")
"""Names of the ligand-receptor pairs or pathways: attributes or datasets of the CCC group, a container or the root."""

LIGAND_KEYS: Final = ("ligands", "ligand_names")
RECEPTOR_KEYS: Final = ("receptors", "receptor_names")
"""Names along the axes of a ligand × receptor matrix: attributes or datasets of the CCC group."""

CCC_LAYOUT_KEY: Final = "ccc_layout"
"""Attribute of the root that says what the axes of CCC count: one of the words of `ccc_layout=`."""

NEIGHBOUR_KEYS: Final = (
    "barcodes",
    "neighbors",
    "neighbours",
    "neighbor_ids",
    "neighbour_ids",
    "cell_ids",
    "cell_names",
    "cells",
    "names",
    "ids",
)
"""Names of the cells along CCC's cell axis, stored with it."""
