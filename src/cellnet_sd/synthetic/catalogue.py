"""What the synthetic tissue is made of: domains, cell types, their looks, their marker genes and how they signal.

Pure facts, no randomness.
"""

from types import MappingProxyType
from typing import Final, NamedTuple

SOURCE: Final = "Human"
TISSUE: Final = "Breast"
TISSUE_DISEASE: Final = "Invasive breast carcinoma"
TECHNOLOGY: Final = "Synthetic"

CELL_TYPES: Final = ("Malignant epithelial", "Fibroblast", "T-cell", "B-cell", "Macrophage", "Endothelial")
DOMAINS: Final = ("tumour nest", "stroma", "immune aggregate", "vascular bed")

MIXTURES: Final = (
    (0.78, 0.06, 0.05, 0.00, 0.08, 0.03),
    (0.04, 0.70, 0.07, 0.02, 0.10, 0.07),
    (0.02, 0.05, 0.43, 0.42, 0.06, 0.02),
    (0.03, 0.17, 0.07, 0.03, 0.13, 0.57),
)
"""Share of each cell type (columns) in each domain (rows)."""

CROWDING: Final = (1.05, 0.80, 1.50, 0.85)
"""Cells per area in each domain, relative to the tissue's mean."""


class Look(NamedTuple):
    """How a cell type looks under haematoxylin and eosin; lengths in µm, stains as optical density.

    Parameters
    ----------
    diameter
        Mean diameter of the cell.
    nucleus
        Length of the nucleus relative to the cell's diameter.
    roundness
        Width of the nucleus relative to its length.
    haematoxylin
        Stain of the nucleus.
    cytoplasm_eosin, cytoplasm_haematoxylin
        Stain of the cell body.
    aligned
        Whether nuclei lie along the fibres of the tissue.
    nucleolus
        Whether a nucleolus shows.
    """

    diameter: float
    nucleus: float
    roundness: float
    haematoxylin: float
    cytoplasm_eosin: float
    cytoplasm_haematoxylin: float
    aligned: bool = False
    nucleolus: bool = False


LOOKS: Final = MappingProxyType(
    {
        "Malignant epithelial": Look(13.5, 0.70, 0.80, 0.95, 0.42, 0.30, nucleolus=True),
        "Fibroblast": Look(10.5, 1.05, 0.34, 1.10, 0.30, 0.04, aligned=True),
        "T-cell": Look(7.5, 0.84, 0.93, 1.55, 0.16, 0.14),
        "B-cell": Look(8.0, 0.84, 0.95, 1.45, 0.18, 0.22),
        "Macrophage": Look(12.5, 0.58, 0.66, 0.90, 0.36, 0.05),
        "Endothelial": Look(9.5, 1.05, 0.38, 1.25, 0.42, 0.05, aligned=True),
    }
)

MARKERS: Final = MappingProxyType(
    {
        "Malignant epithelial": ("EPCAM", "KRT8", "KRT18", "KRT19", "ERBB2", "GATA3", "MUC1", "CDH1"),
        "Fibroblast": ("COL1A1", "COL1A2", "COL3A1", "DCN", "LUM", "PDGFRA", "FAP", "POSTN"),
        "T-cell": ("CD3E", "CD3D", "CD8A", "CD2", "IL7R", "TRAC", "GZMK", "CD4"),
        "B-cell": ("MS4A1", "CD79A", "CD19", "BANK1", "CD79B", "PAX5", "TCL1A", "FCRL1"),
        "Macrophage": ("CD68", "CD163", "LYZ", "C1QA", "C1QB", "MRC1", "MSR1", "AIF1"),
        "Endothelial": ("PECAM1", "VWF", "CDH5", "CLDN5", "EGFL7", "ENG", "EMCN", "RAMP2"),
    }
)


class Signal(NamedTuple):
    """A ligand-receptor pair, with the cell types that send and receive it."""

    ligand: str
    receptor: str
    sender: str
    receiver: str

    @property
    def pair(self) -> str:
        """Name of the pair, as stored."""
        return f"{self.ligand}-{self.receptor}"


SIGNALS: Final = (
    Signal("CXCL12", "CXCR4", "Fibroblast", "T-cell"),
    Signal("VEGFA", "KDR", "Malignant epithelial", "Endothelial"),
    Signal("SPP1", "CD44", "Macrophage", "Malignant epithelial"),
    Signal("CXCL13", "CXCR5", "T-cell", "B-cell"),
    Signal("PDGFB", "PDGFRB", "Endothelial", "Fibroblast"),
    Signal("CSF1", "CSF1R", "Malignant epithelial", "Macrophage"),
    Signal("HGF", "MET", "Fibroblast", "Malignant epithelial"),
    Signal("CD40LG", "CD40", "T-cell", "B-cell"),
    Signal("TGFB1", "TGFBR2", "Macrophage", "Fibroblast"),
    Signal("LTB", "LTBR", "B-cell", "Macrophage"),
)
"""Pairs that can be planted, the first `n_pairs` of them are."""
