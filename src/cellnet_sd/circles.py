"""Cells as circles: the shapes of a slide, made as a GeoDataFrame or written to a store some at a time."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd import keys
from cellnet_sd.findings import SlideFinding
from cellnet_sd.layout import CELL_DIAMETER
from cellnet_sd.notes import Notes
from cellnet_sd.whole_files import appearing

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from geopandas import GeoDataFrame

Floats = NDArray[np.float64]
_AT_ONCE: Final = 2**14
"""Circles that are geometries in memory while they are written: each takes ten times the bytes of its numbers."""
_GEO: Final = b"geo"
"""Where GeoParquet keeps what it knows of geometries: https://geoparquet.org/releases/v1.1.0/."""


@dataclass(frozen=True)
class Circles:
    """The cells of one slide that have a position and a size.

    Parameters
    ----------
    slide
        The slide, whose name is that of its coordinate system.
    centres, radius
        In slide pixels, (n, 2) x then y, and (n,).
    index
        What the table calls each cell.
    """

    slide: SlideFinding
    centres: Floats
    radius: Floats
    index: "pd.Index"

    def __len__(self) -> int:
        return len(self.radius)

    def frame(self, part: slice = slice(None)) -> "GeoDataFrame":
        """Return some of the circles, or all, as SpatialData has them: points with a `radius`."""
        from spatialdata.models import ShapesModel
        from spatialdata.transformations import Identity, Scale

        name, mpp = self.slide.name, self.slide.mpp
        transformations: dict[str, Any] = {name: Identity()}
        if mpp is not None:
            transformations[keys.micrometre_system(name)] = Scale([mpp, mpp], axes=("x", "y"))
        return ShapesModel.parse(
            self.centres[part],
            geometry=0,
            radius=self.radius[part],
            index=self.index[part],
            transformations=transformations,
        )

    def write(self, path: Path) -> None:
        """Write the circles in the place of those that SpatialData wrote of `frame(slice(1))`."""
        import pyarrow.parquet as pq

        schema = pq.read_schema(path)
        about = json.loads(schema.metadata[_GEO])
        geometry = about["columns"][about["primary_column"]]
        geometry["bbox"] = [*self.centres.min(axis=0).tolist(), *self.centres.max(axis=0).tolist()]
        schema = schema.with_metadata({**schema.metadata, _GEO: json.dumps(about).encode()})
        with appearing(path) as unfinished, pq.ParquetWriter(unfinished, schema) as file:
            for start in range(0, len(self), _AT_ONCE):
                file.write_table(self._table(slice(start, start + _AT_ONCE), geometry["encoding"]).cast(schema))

    def _table(self, part: slice, encoding: str) -> Any:
        """Return some of the circles as an Arrow table, its geometries encoded as GeoParquet says."""
        import pyarrow as pa

        frame = self.frame(part)
        if encoding == "WKB":
            return pa.table(frame.to_arrow(index=True))
        return pa.table(frame.to_arrow(index=True, geometry_encoding="geoarrow", interleaved=False))


def circles_of(adata: "AnnData", here: NDArray[np.intp], slide: SlideFinding, notes: Notes) -> Circles | None:
    """Return the cells of one slide as circles; `None` if none has a position.

    The radius is half the diameter in slide pixels; where µm per pixel is unknown, half the median distance of
    nearest neighbours. Cells without a finite position or a positive diameter have no circle.

    Parameters
    ----------
    adata, here
        The table, and where in it the cells of the slide are.
    slide
        The slide.
    notes
        Where the cells without a circle are counted.
    """
    import pandas as pd

    if keys.SPATIAL not in adata.obsm:
        notes.warn_of(f"slide {slide.name}: its cells have no {keys.SPATIAL} positions, so no circles")
        return None
    centres = np.asarray(adata.obsm[keys.SPATIAL])[here]
    diameters = adata.obs[CELL_DIAMETER].to_numpy(dtype=np.float64)[here] if CELL_DIAMETER in adata.obs else None
    radius = _radii(diameters, slide, centres, notes)
    drawn = np.isfinite(centres).all(axis=1) & np.isfinite(radius) & (radius > 0)
    if not drawn.all():
        notes.warn_of(
            f"slide {slide.name}: {int((~drawn).sum()):,} cells have no circle: no finite position or positive diameter"
        )
    if not drawn.any():
        return None
    names = adata.obs[keys.INSTANCE_KEY].iloc[here[drawn]]
    return Circles(slide, centres[drawn], radius[drawn], pd.Index(names.array))


def _radii(diameters: Floats | None, slide: SlideFinding, centres: Floats, notes: Notes) -> Floats:
    """Return the radius of each cell in slide pixels, NaN where unknown."""
    if slide.mpp is not None and diameters is not None:
        return diameters / 2 / slide.mpp
    radius = half_spacing(centres)
    reason = "µm per pixel is unknown (pass mpp=)" if slide.mpp is None else "no cell states its diameter"
    notes.warn_of(f"slide {slide.name}: {reason}, so circles have a radius of {radius:.3g} px, half the cells' spacing")
    return np.full(len(centres), radius)


def half_spacing(centres: Floats) -> float:
    """Return half the median distance of a point to its nearest neighbour; 1 where there is none."""
    from scipy.spatial import cKDTree

    finite = np.unique(centres[np.isfinite(centres).all(axis=1)], axis=0)
    if len(finite) < 2:
        return 1.0
    return float(np.median(cKDTree(finite).query(finite, k=2)[0][:, 1]) / 2)
