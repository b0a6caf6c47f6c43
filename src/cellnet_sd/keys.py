"""Where each part of Cell-NET goes in AnnData and SpatialData: every key this package writes, once."""

from typing import Final

# --- the table -------------------------------------------------------------------------------------------------------

TABLE: Final = "table"
REGION_KEY: Final = "region"
INSTANCE_KEY: Final = "cell_id"
SLIDE: Final = "slide"
SOURCE_FILE: Final = "source_file"
SOURCE_ROW: Final = "source_row"
CAPTION: Final = "caption"
CONTAINER: Final = "container"
CELL_PATCH: Final = "cell_patch"
TISSUE_PATCH: Final = "tissue_patch"

OWN_OBS: Final = (
    INSTANCE_KEY,
    SLIDE,
    REGION_KEY,
    SOURCE_FILE,
    SOURCE_ROW,
    CONTAINER,
    CELL_PATCH,
    TISSUE_PATCH,
    CAPTION,
)
"""The obs columns this package makes; attributes of the file step aside for them."""

SPATIAL: Final = "spatial"
SPATIAL_TISSUE: Final = "spatial_tissue"

GENE_IDS: Final = "gene_ids"
FEATURE_TYPES: Final = "feature_types"
MEASURED: Final = "measured"

# --- cell-cell communication -----------------------------------------------------------------------------------------

CCC: Final = "ccc"
CCC_CONNECTIVITIES: Final = "ccc_connectivities"
CCC_DISTANCES: Final = "ccc_distances"
CCC_NEIGHBORS: Final = "ccc_neighbors"
CCC_PAIRS: Final = "ccc_pairs"
CCC_PAIR_KEYS: Final = "ccc_pair_keys"

# --- provenance ------------------------------------------------------------------------------------------------------

PROVENANCE: Final = "cellnet_sd"
TISSUE_AGREEMENT: Final = "tissue_agreement"
PATCH_SIZES: Final = "patch_sizes"
ANCHORED: Final = "anchored"


def pair_connectivities(pair: str) -> str:
    """Return the `obsp` key of one ligand-receptor pair or pathway."""
    return f"ccc-{pair}_connectivities"


def region(slide: str) -> str:
    """Return the name of the shapes element with the cells of `slide`."""
    return f"{slide}_cells"


def wsi_image(slide: str) -> str:
    """Return the name of the image element with the downsampled whole-slide image."""
    return f"{slide}_wsi"


def tissue_image(slide: str) -> str:
    """Return the name of the image element with the slide, rebuilt from tissue patches."""
    return f"{slide}_tissue"


def cell_patches(slide: str) -> str:
    """Return the name of the Image3D element with the cell patches of `slide`."""
    return f"{slide}_cell_patches"


def tissue_patches(slide: str) -> str:
    """Return the name of the Image3D element with the tissue patches of `slide`."""
    return f"{slide}_tissue_patches"


def micrometre_system(slide: str) -> str:
    """Return the name of the coordinate system of `slide` in µm."""
    return f"{slide}_um"


def patch_system(slide: str) -> str:
    """Return the name of the coordinate system of the patch stacks of `slide`."""
    return f"{slide}_patches"
