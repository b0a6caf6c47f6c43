"""The SpatialData elements beside the table: circles, WSI images and patch stacks, each in its coordinate system."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellnet_sd import keys, placement
from cellnet_sd.cellindex import Rows
from cellnet_sd.circles import Circles, circles_of
from cellnet_sd.components import images
from cellnet_sd.errors import MalformedCellError
from cellnet_sd.findings import SlideFinding
from cellnet_sd.joining import Piece
from cellnet_sd.layout import PATCHES, Component
from cellnet_sd.notes import Notes
from cellnet_sd.sources.base import Source

if TYPE_CHECKING:
    from anndata import AnnData
    from dask.array import Array
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree


_FARTHEST = 2.0**40
_MOST_BLOCKS = 2**16
"""More blocks than any slide has: a position is wrong. This many are of 262,144 by 262,144 px."""


def spatial_data(
    adata: "AnnData", pieces: Sequence[Piece], *, levels: Sequence[str], patches: Sequence[str]
) -> "SpatialData":
    """Return the table `adata` with the elements of its slides.

    Parameters
    ----------
    adata
        The table, as `TableOfFiles` makes it.
    pieces
        Its cells, file by file.
    levels
        Which images become elements: `"wsi"`, `"tissue"` (the slide, rebuilt), `"cell"` (the patch stacks).
    patches
        Which patches are stacked: `"cell"`, `"tissue"`.
    """
    pictures = plan_pictures(pieces, levels=levels, patches=patches)
    elements: dict[str, Any] = {each.name: each.element(images.mosaic_array(each.mosaic)) for each in pictures.mosaics}
    elements |= {each.name: each.element(images.stack_image(each.stack)) for each in pictures.stacks}
    shapes = {name: circles.frame() for name, circles in plan_circles(pieces).items()}
    return with_elements(adata, pictures, elements, shapes)


@dataclass(frozen=True)
class SlidePicture:
    """A rebuilt slide: the name of its element, what it is made from, and its slide."""

    name: str
    mosaic: images.Mosaic
    slide: SlideFinding

    def element(self, array: "Array") -> "DataTree":
        """Return the element with these pixels."""
        scale = placement.patch_scale(self.mosaic.frame.width, self.slide.mpp)
        place = images.TissuePlace(self.mosaic.corner, scale, self.mosaic.halvings)
        return images.tissue_element(array, place, slide=self.slide.name, mpp=self.slide.mpp)


@dataclass(frozen=True)
class StackPicture:
    """A stack of patches: the name of its element, the patches, and the slide of their cells."""

    name: str
    stack: images.PatchStack
    slide: str

    def element(self, array: "Array") -> "DataArray":
        """Return the element with these pixels."""
        return images.patch_stack_element(array, slide=self.slide)


@dataclass
class Pictures:
    """The images of a table's slides, planned; WSI images are elements already, and lazy."""

    wsi: "dict[str, DataArray]" = field(default_factory=dict)
    mosaics: list[SlidePicture] = field(default_factory=list)
    stacks: list[StackPicture] = field(default_factory=list)
    agreements: dict[str, images.Agreement] = field(default_factory=dict)
    """How far the patches that slides are rebuilt from agree with each other, by slide."""


def plan_pictures(pieces: Sequence[Piece], *, levels: Sequence[str], patches: Sequence[str]) -> Pictures:
    """Return which images the slides of a table have; see `spatial_data`."""
    found = Pictures()
    for piece in pieces:
        _plan(found, piece, levels, patches)
    return found


def _plan(found: Pictures, piece: Piece, levels: Sequence[str], patches: Sequence[str]) -> None:
    """Add the images of the slides of one file."""
    source, adata, notes = piece
    rows = adata.obs[keys.SOURCE_ROW].to_numpy()
    for slide, here in _cells_of_slides(source, adata):
        if "wsi" in levels and slide.wsi_row is not None and slide.wsi_frame is not None:
            image = images.whole_image(source, Component.WSI_PATCH, slide.wsi_row, slide.wsi_frame)
            found.wsi[keys.wsi_image(slide.name)] = images.wsi_element(
                image, scale=slide.wsi_scale, slide=slide.name, mpp=slide.mpp
            )
        if "tissue" in levels and (mosaic := slide_mosaic(source, slide, rows[here], notes)) is not None:
            found.mosaics.append(SlidePicture(keys.tissue_image(slide.name), mosaic, slide))
            found.agreements[slide.name] = _compared(mosaic, slide, notes)
        if "cell" in levels:
            found.stacks += _stacks(source, adata, rows, here, slide, patches)


def plan_circles(pieces: Sequence[Piece]) -> dict[str, Circles]:
    """Return the circles of the slides that have some, by the name of their element."""
    return {
        keys.region(slide.name): found
        for source, cells, notes in pieces
        for slide, here in _cells_of_slides(source, cells)
        if (found := circles_of(cells, here, slide, notes)) is not None
    }


def with_elements(
    adata: "AnnData", pictures: Pictures, elements: Mapping[str, Any], shapes: "Mapping[str, GeoDataFrame]"
) -> "SpatialData":
    """Return a table with its planned pictures, their `elements` among them, and the circles of its cells."""
    from spatialdata import SpatialData

    about = dict(adata.uns[keys.PROVENANCE])
    about[keys.TISSUE_AGREEMENT] = json.dumps({name: asdict(found) for name, found in pictures.agreements.items()})
    with quiet_about_regions():
        return SpatialData(
            images={**pictures.wsi, **elements},
            shapes=dict(shapes),
            tables={keys.TABLE: _annotating(adata)},
            attrs={keys.PROVENANCE: about},
        )


def _cells_of_slides(source: Source, adata: "AnnData") -> Iterator[tuple[SlideFinding, NDArray[np.intp]]]:
    """Yield each slide that cells of a table are of, with the positions of these."""
    cells = adata.obs.groupby(keys.SLIDE, observed=True).indices
    yield from ((slide, cells[slide.name]) for slide in source.index.findings.slides if slide.name in cells)


def slide_mosaic(source: Source, slide: SlideFinding, rows: Rows, notes: Notes) -> images.Mosaic | None:
    """Return how the slide of the cells at `rows` is rebuilt from their tissue patches; `None` if it cannot be.

    Cells without a patch or a finite position take no part, nor do those whose patch is smaller than the others
    of the slide: what of it was padded is not known before it is read.
    """
    findings = source.index.findings
    frame, positions = findings.frame_of(slide, "tissue"), source.index.obsm.get(keys.SPATIAL)
    if (error := findings.errors.get(Component.TISSUE_PATCH)) is not None:
        notes.warn_of(f"slides are not rebuilt: {error}")
        return None
    rows = rows[source.index.has(Component.TISSUE_PATCH, rows)]
    if frame is None or positions is None or not len(rows):
        return None
    damaged = [problem.row for problem in source.index.defects if problem.component == Component.TISSUE_PATCH]
    placed = (
        (np.abs(positions[rows]) < _FARTHEST).all(axis=1) & _is_whole(source, rows, frame) & ~np.isin(rows, damaged)
    )
    if not placed.all():
        left_out = f"slide {slide.name}: {int((~placed).sum()):,} tissue patches take no part in it"
        notes.warn_of(f"{left_out}: no finite position, or damaged, or smaller than the others of the slide")
    rows = rows[placed]
    if not len(rows):
        return None
    scale = placement.patch_scale(frame.width, slide.mpp)
    corners = placement.corners(positions[rows], frame.height, frame.width, scale)
    mosaic = images.Mosaic.of(source, frame, rows, *corners)
    if math.prod(mosaic.grid) > _MOST_BLOCKS:
        height, width = mosaic.shape
        notes.warn_of(
            f"slide {slide.name} is not rebuilt: its cells lie over {height:,} by {width:,} px, more than any slide "
            "has. Choose cells by their positions with cells="
        )
        return None
    return mosaic


def _is_whole(source: Source, rows: Rows, frame: images.Frame) -> NDArray[np.bool_]:
    """Return which patches are of the full size, as far as their stored form tells."""
    if not frame.padded:
        return np.ones(len(rows), bool)
    column = source.index.forms[Component.TISSUE_PATCH]
    size = (frame.height, frame.width)
    whole = [form.shape is not None and size in (form.shape[:2], form.shape[1:]) for form in column.forms]
    return np.array(whole, bool)[column.codes[rows]]


def _compared(mosaic: images.Mosaic, slide: SlideFinding, notes: Notes) -> images.Agreement:
    """Compare the patches of a slide with each other, and note what was found."""
    try:
        found = mosaic.compare()
    except MalformedCellError as error:
        notes.warn_of(f"slide {slide.name} cannot be rebuilt in whole: {error}")
        return images.Agreement()
    words = f"slide {slide.name}, rebuilt from its tissue patches, {found.words}"
    if found.is_good:
        notes.take(words)
    else:
        notes.warn_of(f"{words}. Where exact pixels matter, take patches: cellnet_sd.patches(…, 'tissue')")
    return found


def _stacks(
    source: Source, adata: "AnnData", rows: Rows, here: NDArray[np.intp], slide: SlideFinding, patches: Sequence[str]
) -> Iterator[StackPicture]:
    names = {"cell": keys.cell_patches(slide.name), "tissue": keys.tissue_patches(slide.name)}
    for level in patches:
        frame = source.index.findings.frame_of(slide, level)
        with_patch = here[source.index.has(PATCHES[level], rows[here])]
        if frame is None or not len(with_patch):
            continue
        stack = images.PatchStack(source, PATCHES[level], rows[with_patch], adata.obs_names[with_patch], frame)
        yield StackPicture(names[level], stack, slide.name)


def _annotating(adata: "AnnData") -> "AnnData":
    from spatialdata.models import TableModel

    return TableModel.parse(adata)


@contextmanager
def quiet_about_regions() -> Iterator[None]:
    """Silence SpatialData about slides none of whose cells has a circle: the notes say so in plainer words."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The table is annotating", category=UserWarning)
        yield
