"""Patches that are read when they are looked at: per row for batches of cells, per 64 cells for image stacks.

Everything here holds a `Fetches`, which pickles as a path, and row numbers; nothing holds an open file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from cellnet_sd import keys
from cellnet_sd.components.images.decode import Frame, read_into
from cellnet_sd.errors import NotEnoughMemoryError
from cellnet_sd.layout import Component
from cellnet_sd.notes import warn
from cellnet_sd.problems import Problems
from cellnet_sd.settings import settings
from cellnet_sd.sources.base import Fetches

if TYPE_CHECKING:
    import pandas as pd
    from dask.array import Array
    from xarray import DataArray, DataTree

Rows = NDArray[np.int64]

STACK_CHUNK: Final = 64
"""Cells per chunk of an image stack."""
_WSI_CHUNK: Final = 1024
_CHANNEL_NAMES: Final = {1: ("grey",), 3: ("r", "g", "b"), 4: ("r", "g", "b", "a")}


@dataclass(frozen=True, slots=True)
class PatchStack:
    """The patches of some rows of a source, in that order; nothing is read until `load`."""

    source: Fetches
    component: Component
    rows: Rows
    names: "Sequence[str] | pd.Index"
    frame: Frame

    def load(self, at: NDArray[np.intp], crop: tuple[Any, ...] = ()) -> NDArray[Any]:
        """Return the patches at positions `at`, each position read once, as (n, *cropped (H, W, C)).

        Cells without a patch are white, and a warning counts them.
        """
        wanted, back = np.unique(at, return_inverse=True)
        shape = _crop(np.broadcast_to(np.uint8(0), (1, *self.frame.shape)), crop).shape[1:]
        out = self._room((len(wanted), *shape))
        batch = max(1, settings.batch_bytes // self.frame.nbytes)
        absent = 0
        is_whole = _takes_all(crop, self.frame.shape)
        for start in range(0, len(wanted), batch):
            own = out[start : start + batch]
            patches = own if is_whole else np.empty((len(own), *self.frame.shape), self.frame.dtype)
            absent += int((~self._fetch(wanted[start : start + batch], patches)).sum())
            if not is_whole:
                own[...] = _crop(patches, crop)
        self._warn_absent(absent)
        return out if np.array_equal(wanted, at) else out[back]

    def _room(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an array to be filled."""
        try:
            return np.empty(shape, dtype=self.frame.dtype)
        except MemoryError as error:
            msg = f"{self.source.path.name}: {self.component} of {shape[0]:,} cells does not fit in memory: {error}"
            raise NotEnoughMemoryError(msg) from error

    def _fetch(self, at: NDArray[np.intp], out: NDArray[Any]) -> NDArray[np.bool_]:
        """Fill `out` with the patches at positions `at`; return which cells have one."""
        rows = self.rows[at]
        names = dict(zip(rows.tolist(), at.tolist(), strict=True))
        advice = "Leave the cell out with where= or cells=."
        problems = Problems(self.source.path.name, lambda row: str(self.names[names[row]]), advice=advice)
        return read_into(out, self.source, rows, self.frame, self.component, problems)

    def _warn_absent(self, absent: int) -> None:
        if absent:
            warn(f"{self.source.path.name}: {absent:,} cells have no {self.component}; theirs are white.", stacklevel=4)

    def part(self, at: slice) -> "PatchStack":
        """Return the patches of some of the rows."""
        return replace(self, rows=self.rows[at], names=self.names[at])

    def czyx(self) -> NDArray[Any]:
        """Return all patches as (c, z, y, x)."""
        patches = self.load(np.arange(len(self.rows)))
        return np.ascontiguousarray(np.moveaxis(patches, -1, 0))

    def single(self) -> NDArray[Any]:
        """Return the only patch, (H, W, C)."""
        return self.load(np.arange(1))[0]


def _takes_all(crop: tuple[Any, ...], shape: tuple[int, ...]) -> bool:
    """Whether indexing axes of this shape takes all there is, in its order."""
    every = (isinstance(key, slice) and key.indices(n) == (0, n, 1) for key, n in zip(crop, shape, strict=False))
    return all(every)


def _crop(patches: NDArray[Any], crop: tuple[Any, ...]) -> NDArray[Any]:
    """Index y, x and c of (n, H, W, C), each on its own (outer indexing); integers drop their axis."""
    for axis, key in reversed(list(enumerate(crop, start=1))):
        patches = patches[(slice(None),) * axis + (key,)]
    return patches


class _PatchBackend(BackendArray):  # type: ignore[misc]  # xarray is untyped for mypy here
    """What xarray indexes: reads the rows asked for, and no others."""

    __slots__ = ("dtype", "shape", "stack")

    def __init__(self, stack: PatchStack) -> None:
        self.stack = stack
        self.shape = (len(stack.rows), *stack.frame.shape)
        self.dtype = np.dtype(stack.frame.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if isinstance(key, indexing.VectorizedIndexer):
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        # Not through the adapter, which fails on reversed slices: https://github.com/pydata/xarray/issues/11000
        return self._read(key.tuple)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        cells, *crop = key
        at = np.arange(len(self.stack.rows))[cells]
        patches = self.stack.load(np.atleast_1d(at), tuple(crop))
        return np.asarray(patches[0] if np.ndim(at) == 0 else patches)


def patch_array(source: Fetches, component: Component, rows: Rows, names: Sequence[str], frame: Frame) -> "DataArray":
    """Return the patches of some cells as a lazy array, channels last.

    Indexing is lazy, and reading is per row: `array[rows].values` reads the patches of `rows` and no others. The array
    can be pickled.

    Parameters
    ----------
    source, component
        Where the patches come from, and which level.
    rows
        Rows of the source, in the order wanted.
    names
        Names of these cells.
    frame
        What `detect_frame` found for this component.

    Returns
    -------
    `xarray.DataArray` (cell, y, x, c) of the frame's dtype, with the names as coordinate `cell` and the channel names
    as `c`. Cells without a patch are white, with a `CellNetWarning` that counts them when they are read; tell them by
    `obs["cell_patch"] == -1`.

    Raises
    ------
    MalformedCellError
        When a patch that is read is malformed.
    """
    from xarray import DataArray, Variable

    stack = PatchStack(source, component, np.asarray(rows, dtype=np.int64), names, frame)
    lazy = indexing.LazilyIndexedArray(_PatchBackend(stack))
    coords = {"cell": np.asarray(names, dtype=object), "c": list(_CHANNEL_NAMES[frame.channels])}
    return DataArray(Variable(("cell", "y", "x", "c"), lazy), coords=coords, name=component.rpartition("/")[2])


# --- image elements --------------------------------------------------------------------------------------------------


def stack_image(stack: PatchStack) -> "Array":
    """Return patches as a dask array (c, z, y, x), one z per cell, 64 cells per chunk.

    Each task carries the source and its own 64 rows. Cells without a patch are white, with a warning: leave their
    rows out.
    """
    from dask.array import Array
    from dask.base import tokenize

    frame, n = stack.frame, len(stack.rows)
    name = f"{stack.component.rpartition('/')[2]}-{tokenize(stack.source, str(stack.component), stack.rows, frame)}"
    parts = [stack.part(slice(start, start + STACK_CHUNK)) for start in range(0, n, STACK_CHUNK)]
    tasks = {(name, 0, i, 0, 0): (part.czyx,) for i, part in enumerate(parts)}
    chunks = ((frame.channels,), tuple(len(part.rows) for part in parts), (frame.height,), (frame.width,))
    return Array(tasks, name, chunks, dtype=frame.dtype)


def patch_stack_element(array: "Array", *, slide: str) -> "DataArray":
    """Return patches of the cells of one slide as a SpatialData Image3D element (c, z, y, x).

    It lies in a coordinate system of its own, `{slide}_patches`: in the slide's, box queries would crop every patch.

    Parameters
    ----------
    array
        The patches, as `stack_image` gives them.
    slide
        Name of the slide.
    """
    from spatialdata.models import Image3DModel
    from spatialdata.transformations import Identity

    channels, _, height, width = array.shape
    return Image3DModel.parse(
        array,
        dims=("c", "z", "y", "x"),
        c_coords=list(_CHANNEL_NAMES[channels]),
        transformations={str(keys.patch_system(slide)): Identity()},
        chunks=(channels, STACK_CHUNK, height, width),
    )


def whole_image(source: Fetches, component: Component, row: int, frame: Frame) -> "Array":
    """Return one image of a source as a dask array (H, W, C) of a single chunk, read when it is computed."""
    from dask.array import Array
    from dask.base import tokenize

    name = f"{component.rpartition('/')[2]}-{tokenize(source, str(component), row, frame)}"
    stack = PatchStack(source, component, np.array([row]), [f"row {row}"], frame)
    return Array({(name, 0, 0, 0): (stack.single,)}, name, tuple((n,) for n in frame.shape), dtype=frame.dtype)


def wsi_element(array: "NDArray[Any] | Array", *, scale: float | None, slide: str, mpp: float | None) -> "DataArray":
    """Return a whole-slide image as a SpatialData Image2D element (c, y, x), placed on its slide.

    Pixel i covers slide pixels `i * scale ... (i + 1) * scale`, which in SpatialData's convention is a scaling alone.

    Parameters
    ----------
    array
        The image, (H, W, C).
    scale
        Slide pixels per pixel of the image. `None` where unknown: the image then lies in a coordinate system of its
        own, `{slide}_wsi`.
    slide
        Name of the slide and of its coordinate system in pixels.
    mpp
        Micrometres per slide pixel. Where known, the image lies in `{slide}_um` too.
    """
    from spatialdata.models import Image2DModel

    channels = array.shape[2]
    return Image2DModel.parse(
        np.moveaxis(array, -1, 0),
        dims=("c", "y", "x"),
        c_coords=list(_CHANNEL_NAMES[channels]),
        transformations=_wsi_transformations(scale, str(slide), mpp),
        chunks=(channels, _WSI_CHUNK, _WSI_CHUNK),
    )


class TissuePlace(NamedTuple):
    """How a rebuilt slide lies on its slide: where its corner is (y, x, in its own pixels), and its pixels' size."""

    corner: tuple[int, int]
    scale: float
    """Pixels of the slide per pixel of a patch."""
    halvings: int
    """Coarser levels."""


def tissue_element(array: "Array", place: TissuePlace, *, slide: str, mpp: float | None) -> "DataTree":
    """Return a rebuilt slide as a multiscale SpatialData Image2D element (c, y, x), in its place on the slide.

    Every level is lazy. Looking at a coarse one makes the slide: the overview is the WSI image.

    Parameters
    ----------
    array
        The slide, as `mosaic_array` gives it.
    place
        How it lies on the slide.
    slide
        Name of the slide and of its coordinate system in pixels.
    mpp
        Micrometres per pixel of the slide. Where known, the image lies in `{slide}_um` too.
    """
    from spatialdata.models import Image2DModel

    return Image2DModel.parse(
        array,
        dims=("c", "y", "x"),
        c_coords=list(_CHANNEL_NAMES[array.shape[0]]),
        transformations=_tissue_transformations(place, str(slide), mpp),
        scale_factors=[2] * place.halvings,
        chunks=array.chunksize,
    )


def _tissue_transformations(place: TissuePlace, slide: str, mpp: float | None) -> dict[str, Any]:
    from spatialdata.transformations import Scale, Sequence, Translation

    scale = place.scale
    found = {slide: scale} if mpp is None else {slide: scale, keys.micrometre_system(slide): scale * mpp}
    axes = ("c", "y", "x")
    moved = Translation([0.0, *map(float, place.corner)], axes=axes)
    return {
        str(system): moved if factor == 1 else Sequence([moved, Scale([1.0, factor, factor], axes=axes)])
        for system, factor in found.items()
    }


def _wsi_transformations(scale: float | None, slide: str, mpp: float | None) -> dict[str, Any]:
    from spatialdata.transformations import Identity, Scale

    if scale is None:
        return {str(keys.wsi_image(slide)): Identity()}
    factors = {slide: scale} if mpp is None else {slide: scale, keys.micrometre_system(slide): scale * mpp}
    # Axes (c, y, x), as SpatialData reads them back: others would make an element unequal to itself once stored.
    return {str(system): Scale([1.0, factor, factor], axes=("c", "y", "x")) for system, factor in factors.items()}
