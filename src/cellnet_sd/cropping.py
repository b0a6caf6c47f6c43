"""Where a rebuilt slide lies, after box queries too: which of its pixels a crop begins at, to the pixel.

SpatialData 0.8 takes the pixels whose centres are in the box, and records the box's edge, rounded up, as their place
(`spatialdata/_core/query/_utils.py`, `_create_slices_and_translation`). For an edge at 18.3 it takes pixels from 18 on
and records 19: each crop may lie one pixel before where it is said to. No fraction is kept, and the coordinates of a
crop are counted anew. The coarser levels tell the truth: they were cropped apart, and each of their pixels is the mean
of finer ones that began at an even pixel of the whole slide.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.components.images import halved
from cellnet_sd.registration import evenly

if TYPE_CHECKING:
    from dask.array import Array

_TILE: Final = 24
"""Side of what is compared at a time, in pixels of the coarser level."""
_MOST_TILES: Final = 16
"""After so many, an image is too plain: more would read all of it."""


class Place(NamedTuple):
    """How a rebuilt slide lies on its slide.

    Parameters
    ----------
    scale
        Pixels of the slide per pixel of the image.
    corner
        Its pixel at the top left, y then x, in its own pixels from the slide's corner.
    is_sure
        Whether that is known to the pixel; else it is what SpatialData recorded.
    """

    scale: float
    corner: tuple[int, int]
    is_sure: bool


def place_of(element: Any, slide: str, positions: NDArray[np.float64]) -> Place | None:
    """Return how an image lies on a slide; `None` if it was scaled, turned or moved by parts of a pixel.

    Of a cropped one, some pixels are read at two levels.

    Parameters
    ----------
    element
        The rebuilt slide, cropped or not.
    slide
        Its coordinate system.
    positions
        Of cells (n, 2), x then y, in pixels of the slide: where its pixels are looked at, since it shows something.
    """
    from spatialdata.transformations import get_transformation

    transformation = get_transformation(element, get_all=True).get(slide)
    if transformation is None:
        return None
    axes = ("y", "x")
    matrix = transformation.to_affine_matrix(axes, axes)
    scale = float(matrix[0, 0])
    if scale <= 0 or not np.array_equal(matrix[:2, :2], scale * np.eye(2)):
        return None
    recorded = np.rint(matrix[:2, 2] / scale).astype(np.int64)
    if not np.allclose(recorded, matrix[:2, 2] / scale, rtol=0, atol=1e-3):
        return None
    crops = _crops(transformation)
    excess = None if crops is None else _excess(element, crops, positions[:, ::-1] / scale - recorded)
    y, x = (recorded if excess is None else recorded - excess).tolist()
    return Place(scale, (y, x), excess is not None)


def _crops(transformation: Any) -> NDArray[np.int64] | None:
    """Return how far each crop moved the corner, (n, 2), y then x; `None` if others changed the transformation too."""
    from spatialdata.transformations import Scale, Translation

    leaves = _leaves(transformation)
    moves = leaves[:-1] if isinstance(leaves[-1], Scale) else leaves  # patches of resized windows
    if not moves or not all(isinstance(leaf, Translation) for leaf in moves):
        return None
    # a crop comes before all others; the last is the corner of the whole slide
    return np.array([leaf.to_translation_vector(("y", "x")) for leaf in moves[:-1]]).reshape(-1, 2).astype(np.int64)


def _leaves(transformation: Any) -> list[Any]:
    from spatialdata.transformations import Sequence as Chain

    if not isinstance(transformation, Chain):
        return [transformation]
    return [leaf for each in transformation.transformations for leaf in _leaves(each)]


def _excess(element: Any, crops: NDArray[np.int64], near: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return by how much the recorded corner of a cropped image is too large, y and x; `None` if that is not known.

    Each crop adds at most 1. So a level of which a pixel covers more of the finest than there were crops always tells;
    a finer one does if no other number of them fits.
    """
    from spatialdata import get_pyramid_levels
    from xarray import DataArray

    if not len(crops):
        return np.zeros(2, np.int64)
    levels = [element] if isinstance(element, DataArray) else list(get_pyramid_levels(element))
    halvings = min(len(crops).bit_length(), len(levels) - 1)
    if not halvings:
        return None
    finest, coarser = (levels[at].transpose("c", "y", "x").data for at in (0, halvings))
    begins = _begins(finest, coarser, halvings, near)
    if begins is None:
        return None
    excess, most = (crops.sum(axis=0) - begins) % 2**halvings, np.minimum(len(crops), crops.sum(axis=0))
    return excess if ((excess <= most) & (excess + 2**halvings > most)).all() else None


def _begins(finest: "Array", coarser: "Array", halvings: int, near: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return at which pixel of the whole slide an image begins, y and x, modulo the pixels under one of the coarser.

    `None` if the levels do not agree anywhere, or do in several ways: what is looked at is plain.
    """
    step = 2**halvings
    fits = np.ones((4 * step + 1, 4 * step + 1), bool)
    for fine, coarse in _tiles(finest, coarser, step, near):
        fits &= _fits(fine, coarse, halvings)
        found = np.unique((np.argwhere(fits) - 2 * step) % step, axis=0)
        if len(found) < 2:
            return found[0].astype(np.int64) if len(found) else None
    return None


def _tiles(
    finest: "Array", coarser: "Array", step: int, near: NDArray[np.float64]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield small parts of the coarser level, and of the finest what they may cover: two of their pixels more around.

    They lie about `near`, positions in the finest.
    """
    import dask

    shape = np.array(finest.shape[1:])
    room = np.minimum(shape // step, coarser.shape[1:]) - 4
    side = np.minimum(room, _TILE)
    inside = near[(near >= 0).all(axis=1) & (near < shape).all(axis=1)]
    if (side < 1).any() or not len(inside):
        return
    starts = np.unique(np.clip(inside.astype(np.int64) // step - side // 2, 2, 2 + room - side), axis=0)
    for start in starts[evenly(len(starts), _MOST_TILES)]:
        fine = _part(finest, step * (start - 2), step * (side + 4))
        yield dask.compute(fine, _part(coarser, start, side))


def _part(image: "Array", start: NDArray[np.int64], size: NDArray[np.int64]) -> "Array":
    (top, left), (bottom, right) = start.tolist(), (start + size).tolist()
    return image[:, top:bottom, left:right]


def _fits(fine: NDArray[Any], coarse: NDArray[Any], halvings: int) -> NDArray[np.bool_]:
    """Return at which offsets of its rows and columns the finer tile gives the coarser one."""
    step = 2**halvings
    height, width = (step * side for side in coarse.shape[1:])
    offsets = range(4 * step + 1)
    return np.array(
        [[_gives(fine[:, y : y + height, x : x + width], coarse, halvings) for x in offsets] for y in offsets]
    )


def _gives(fine: NDArray[Any], coarse: NDArray[Any], halvings: int) -> bool:
    for _ in range(halvings):
        fine = halved(fine)
    if coarse.dtype.kind == "f":  # a sum of floats depends on the order
        return bool(np.allclose(fine, coarse, rtol=1e-4, atol=1e-6))
    return np.array_equal(fine, coarse)
