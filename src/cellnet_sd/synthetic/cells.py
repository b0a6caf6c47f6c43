"""Where the cells of one slide lie, and of which type they are."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.synthetic.catalogue import CELL_TYPES, CROWDING, LOOKS, MIXTURES
from cellnet_sd.synthetic.geometry import Tissue, ellipse_radius

_RELAXATIONS: Final = 40
_RIM_UM: Final = 7.0
_RIM_SHARE: Final = 0.9
_ENDOTHELIAL: Final = CELL_TYPES.index("Endothelial")
_DIAMETER = np.array([LOOKS[name].diameter for name in CELL_TYPES])
_ALIGNED = np.array([LOOKS[name].aligned for name in CELL_TYPES])


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one slide in scan order: by row of pixels from the top, from left to right in each.

    Parameters
    ----------
    xy
        (n, 2) int64, slide pixels.
    domain, kind
        (n,) index into `DOMAINS` and `CELL_TYPES`.
    diameter
        (n,) µm, to a tenth.
    angle
        (n,) direction of the nucleus, radians.
    room
        (n,) half the distance to the nearest cell, px: no nucleus is wider.
    """

    xy: NDArray[np.int64]
    domain: NDArray[np.int8]
    kind: NDArray[np.int8]
    diameter: NDArray[np.float64]
    angle: NDArray[np.float64]
    room: NDArray[np.float64]


def place_cells(rng: np.random.Generator, tissue: Tissue, n_cells: int, mpp: float) -> Cells:
    """Return `n_cells` cells in the tissue, none on top of another or in a vessel's lumen."""
    from scipy.spatial import cKDTree

    xy = _positions(rng, tissue, n_cells, mpp)
    xy = xy[np.lexsort((xy[:, 0], xy[:, 1]))]
    domain = tissue.at(tissue.domain, xy).astype(np.int8)
    kind = _draw_types(rng, domain)
    rim = ellipse_radius(xy, tissue.vessels, _RIM_UM / mpp) < 1
    kind[rim & (rng.random(n_cells) < _RIM_SHARE)] = _ENDOTHELIAL
    diameter = np.round(_DIAMETER[kind] * np.clip(rng.normal(1, 0.09, n_cells), 0.75, 1.25), 1)
    room = cKDTree(xy).query(xy, k=[2])[0][:, 0] / 2
    return Cells(xy, domain, kind, diameter, _angles(rng, tissue, xy, kind, rim), room)


def _draw_types(rng: np.random.Generator, domain: NDArray[np.int8]) -> NDArray[np.int8]:
    below = np.cumsum(MIXTURES, axis=1)[domain, :-1]
    return (rng.random((len(domain), 1)) > below).sum(axis=1).astype(np.int8)


def _positions(rng: np.random.Generator, tissue: Tissue, n_cells: int, mpp: float) -> NDArray[np.int64]:
    """Return whole pixels: points drawn by local density, then pushed apart until they are spread."""
    crowding = np.where(tissue.inside, np.array(CROWDING)[tissue.domain], 0)
    points = _draw_points(rng, tissue, crowding, n_cells, mpp)
    place = tissue.shape[0] * tissue.shape[1] / crowding.size
    spacing_of = np.sqrt(2 / np.sqrt(3) * crowding.sum() * place / n_cells / np.maximum(crowding, min(CROWDING)))
    for _ in range(_RELAXATIONS):
        moved = _push_apart(points, tissue.at(spacing_of, points))
        stays = ~_allowed(tissue, moved, mpp)
        moved[stays] = points[stays]
        points = moved
    return np.floor(points).astype(np.int64)


def _draw_points(
    rng: np.random.Generator, tissue: Tissue, crowding: NDArray[np.float64], n_cells: int, mpp: float
) -> NDArray[np.float64]:
    """Return random points in the tissue and out of the lumens, by density."""
    sums = np.cumsum(crowding)
    scale = np.array([tissue.shape[1] / crowding.shape[1], tissue.shape[0] / crowding.shape[0]])
    found = np.empty((0, 2))
    while len(found) < n_cells:
        places = np.searchsorted(sums, rng.random(2 * n_cells) * sums[-1], side="right")
        rows, columns = np.unravel_index(np.minimum(places, crowding.size - 1), crowding.shape)
        points = (np.stack([columns, rows], axis=1) + rng.random((2 * n_cells, 2))) * scale
        found = np.concatenate([found, points[_allowed(tissue, points, mpp)]])
    return found[:n_cells]


def _allowed(tissue: Tissue, points: NDArray[np.float64], mpp: float) -> NDArray[np.bool_]:
    in_slide = np.all((points >= 1) & (points < np.array(tissue.shape[::-1]) - 1), axis=1)
    in_lumen = ellipse_radius(points, tissue.vessels, 2.0 / mpp) < 1
    return np.asarray(in_slide & tissue.at(tissue.inside, points) & ~in_lumen)


def _push_apart(points: NDArray[np.float64], spacing: NDArray[Any]) -> NDArray[np.float64]:
    """Return `points` after one step away from neighbours nearer than their spacing."""
    from scipy.spatial import cKDTree

    spacing = np.asarray(spacing, dtype=np.float64) * 0.95
    first, second = cKDTree(points).query_pairs(float(spacing.max()), output_type="ndarray").T
    gap = points[second] - points[first]
    distance = np.maximum(np.hypot(gap[:, 0], gap[:, 1]), 1e-6)
    lack = np.maximum((spacing[first] + spacing[second]) / 2 - distance, 0)
    push = gap * (0.3 * lack / distance)[:, None]
    moved = points.copy()
    for axis in range(2):
        moved[:, axis] -= np.bincount(first, push[:, axis], len(points))
        moved[:, axis] += np.bincount(second, push[:, axis], len(points))
    return moved


def _angles(
    rng: np.random.Generator,
    tissue: Tissue,
    xy: NDArray[np.int64],
    kind: NDArray[np.int8],
    rim: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the direction of each nucleus: around a vessel's rim, along the fibres, or any."""
    from scipy.spatial import cKDTree

    rise = np.stack([np.gradient(tissue.flow, axis=axis) for axis in (0, 1)], axis=-1)
    along = np.arctan2(*tissue.at(rise, xy).T).astype(np.float64) + np.pi / 2
    angle = np.where(_ALIGNED[kind], along + rng.normal(0, 0.25, len(xy)), rng.uniform(0, np.pi, len(xy)))
    if rim.any():
        _, nearest = cKDTree(tissue.vessels[:, :2]).query(xy[rim])
        outward = xy[rim] - tissue.vessels[nearest, :2]
        angle[rim] = np.arctan2(outward[:, 1], outward[:, 0]) + np.pi / 2
    return angle
