"""A whole synthetic tissue: slides, and what their cells express and signal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellnet_sd.synthetic.cells import Cells, place_cells
from cellnet_sd.synthetic.communication import Links, signal_links
from cellnet_sd.synthetic.expression import Panel, draw_expression, make_panel
from cellnet_sd.synthetic.geometry import make_tissue
from cellnet_sd.synthetic.histology import paint_slide
from cellnet_sd.synthetic.patches import Image
from cellnet_sd.synthetic.words import attributes_text, captions

if TYPE_CHECKING:
    from scipy import sparse

_LEAST_CELLS = 20
_LEAST_SPACING_PX = 3.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make. See `cellnet_sd.datasets.synthetic`.

    Raises
    ------
    ValueError
        A number is out of its range.
    """

    n_cells: int
    n_genes: int
    n_slides: int
    n_pairs: int
    seed: int
    mpp: float
    cell_area_um2: float
    noise: float

    def __post_init__(self) -> None:
        if self.n_slides < 1 or self.n_cells < _LEAST_CELLS * self.n_slides:
            msg = f"n_cells={self.n_cells}, n_slides={self.n_slides}: every slide needs {_LEAST_CELLS} cells."
            raise ValueError(msg)
        if not (self.mpp > 0 and self.cell_area_um2**0.5 / self.mpp >= _LEAST_SPACING_PX):
            msg = f"mpp={self.mpp} leaves cells of {self.cell_area_um2} µm² less than {_LEAST_SPACING_PX:.0f} px apart."
            raise ValueError(msg)
        if self.noise < 0:
            msg = f"noise={self.noise} is negative."
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Slide:
    """One slide and everything that is known of its cells; rows of all members agree."""

    image: Image
    cells: Cells
    attributes: list[str]
    captions: list[str]
    expression: "sparse.csr_matrix"
    links: list[Links]


def make_slides(recipe: Recipe) -> tuple[Panel, list[Slide]]:
    """Return the gene panel and the slides. What does not depend on a number of the recipe does not change with it."""
    for_panel, *for_slides = np.random.default_rng(recipe.seed).spawn(1 + recipe.n_slides)
    panel = make_panel(for_panel, recipe.n_genes, recipe.n_pairs)
    sizes = np.diff(np.linspace(0, recipe.n_cells, recipe.n_slides + 1).astype(int)).tolist()
    return panel, [_make_slide(rng, recipe, panel, size) for rng, size in zip(for_slides, sizes, strict=True)]


def _make_slide(rng: np.random.Generator, recipe: Recipe, panel: Panel, n_cells: int) -> Slide:
    for_tissue, for_cells, for_image, for_genes, for_words = rng.spawn(5)
    tissue = make_tissue(for_tissue, n_cells, recipe.cell_area_um2, recipe.mpp)
    cells = place_cells(for_cells, tissue, n_cells, recipe.mpp)
    expression = draw_expression(for_genes, panel, cells.kind, recipe.noise)
    return Slide(
        paint_slide(for_image, tissue, cells, recipe.mpp),
        cells,
        attributes_text(cells, tissue.corner),
        captions(for_words, cells),
        expression,
        signal_links(cells.xy, expression, panel, recipe.mpp),
    )


def links_of_file(slides: Sequence[Slide]) -> list[Links]:
    """Return the links of each pair over all slides, as rows of the file."""
    starts = np.cumsum([0, *(len(slide.captions) for slide in slides[:-1])])
    shifted = [
        [(sender + start, receiver + start, strength) for sender, receiver, strength in slide.links]
        for slide, start in zip(slides, starts, strict=True)
    ]
    return [_joined(links) for links in zip(*shifted, strict=True)]


def _joined(links: Sequence[Links]) -> Links:
    senders, receivers, strengths = zip(*links, strict=True)
    return np.concatenate(senders), np.concatenate(receivers), np.concatenate(strengths)
