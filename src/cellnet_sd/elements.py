"""The SpatialData elements beside the table: circles, WSI images and patch stacks, each in its coordinate system."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.cellindex import Rows
from cellnet_sd.components import images
from cellnet_sd.findings import SlideFinding
from cellnet_sd.layout import CELL_DIAMETER, PATCHES, Component
from cellnet_sd.notes import Notes
from cellnet_sd.sources.base import Source

if TYPE_CHECKING:
    from anndata import AnnData
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData


def spatial_data(
    source: Source, adata: "AnnData", *, levels: Sequence[str], patches: Sequence[str], notes: Notes
) -> "SpatialData":
    """Return the table `adata` with the elements of its slides.

    Parameters
    ----------
    source
        Where the cells come from.
    adata
        The table, as `TableBuilder` makes it.
    levels
        Which images become elements: `"wsi"`, `"cell"` (the patch stacks).
    patches
        Which patches are stacked: `"cell"`, `"tissue"`.
    notes
        Where cells without a circle are counted.
    """
    from spatialdata import SpatialData

    shapes, pictures = {}, {}
    rows = adata.obs[keys.SOURCE_ROW].to_numpy()
    rows_of_slide = adata.obs.groupby(keys.SLIDE, observed=True).indices
    for slide in source.index.findings.slides:
        if (here := rows_of_slide.get(slide.name)) is None:
            continue
        circles = slide_circles(adata[here], slide, notes)
        if circles is not None:
            shapes[keys.region(slide.name)] = circles
        if "wsi" in levels and slide.wsi_row is not None and slide.wsi_frame is not None:
            image = images.whole_image(source, Component.WSI_PATCH, slide.wsi_row, slide.wsi_frame)
            pictures[keys.wsi_image(slide.name)] = images.wsi_element(
                image, scale=slide.wsi_scale, slide=slide.name, mpp=slide.mpp
            )
        if "cell" in levels:
            pictures |= _stacks(source, adata, rows, here, slide.name, patches)
    table = _annotating(adata)
    with _quiet_about_regions():
        return SpatialData(
            images=pictures,
            shapes=shapes,
            tables={keys.TABLE: table},
            attrs={keys.PROVENANCE: dict(adata.uns[keys.PROVENANCE])},
        )


def _stacks(
    source: Source, adata: "AnnData", rows: Rows, here: NDArray[np.intp], slide: str, patches: Sequence[str]
) -> dict[str, Any]:
    names = {"cell": keys.cell_patches(slide), "tissue": keys.tissue_patches(slide)}
    stacks = {}
    for level in patches:
        frame = source.index.findings.frames.get(level)
        with_patch = here[source.index.has(PATCHES[level], rows[here])]
        if frame is None or not len(with_patch):
            continue
        cells = adata.obs_names[with_patch].tolist()
        stacks[names[level]] = images.patch_stack_element(
            source, PATCHES[level], rows[with_patch], cells, frame, slide=slide
        )
    return stacks


def slide_circles(adata: "AnnData", slide: SlideFinding, notes: Notes) -> "GeoDataFrame | None":
    """Return the cells of one slide as circles; `None` if none has a position.

    The radius is half the diameter in slide pixels; where µm per pixel is unknown, half the median distance of
    nearest neighbours. Cells without a finite position or a positive diameter have no circle.

    Parameters
    ----------
    adata
        The cells of the slide.
    slide
        The slide.
    notes
        Where the cells without a circle are counted.
    """
    import pandas as pd
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity, Scale

    if keys.SPATIAL not in adata.obsm:
        notes.warn_of(f"slide {slide.name}: its cells have no {keys.SPATIAL} positions, so no circles")
        return None
    centres = np.asarray(adata.obsm[keys.SPATIAL])
    radius = _radii(adata, slide, centres, notes)
    drawn = np.isfinite(centres).all(axis=1) & np.isfinite(radius) & (radius > 0)
    if not drawn.all():
        notes.warn_of(
            f"slide {slide.name}: {int((~drawn).sum()):,} cells have no circle: no finite position or positive diameter"
        )
    if not drawn.any():
        return None
    transformations: dict[str, Any] = {slide.name: Identity()}
    if slide.mpp is not None:
        transformations[keys.micrometre_system(slide.name)] = Scale([slide.mpp, slide.mpp], axes=("x", "y"))
    index = pd.Index(adata.obs[keys.INSTANCE_KEY][drawn].to_numpy(), dtype=adata.obs[keys.INSTANCE_KEY].dtype)
    return ShapesModel.parse(
        centres[drawn], geometry=0, radius=radius[drawn], index=index, transformations=transformations
    )


def _radii(adata: "AnnData", slide: SlideFinding, centres: NDArray[np.float64], notes: Notes) -> NDArray[np.float64]:
    """Return the radius of each cell in slide pixels, NaN where unknown."""
    if slide.mpp is not None and CELL_DIAMETER in adata.obs:
        diameters: NDArray[np.float64] = adata.obs[CELL_DIAMETER].to_numpy(dtype=np.float64)
        return diameters / 2 / slide.mpp
    radius = half_spacing(centres)
    reason = "µm per pixel is unknown (pass mpp=)" if slide.mpp is None else "no cell states its diameter"
    notes.warn_of(f"slide {slide.name}: {reason}, so circles have a radius of {radius:.3g} px, half the cells' spacing")
    return np.full(len(centres), radius)


def half_spacing(centres: NDArray[np.float64]) -> float:
    """Return half the median distance of a point to its nearest neighbour; 1 where there is none."""
    from scipy.spatial import cKDTree

    finite = np.unique(centres[np.isfinite(centres).all(axis=1)], axis=0)
    if len(finite) < 2:
        return 1.0
    return float(np.median(cKDTree(finite).query(finite, k=2)[0][:, 1]) / 2)


def _annotating(adata: "AnnData") -> "AnnData":
    from spatialdata.models import TableModel

    return TableModel.parse(adata)


@contextmanager
def _quiet_about_regions() -> Iterator[None]:
    """Silence SpatialData about slides none of whose cells has a circle: the notes say so in plainer words."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The table is annotating", category=UserWarning)
        yield
