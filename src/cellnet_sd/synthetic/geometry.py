"""The tissue of one slide: its outline, domains, vessels, and where the cells lie."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.synthetic.catalogue import DOMAINS
from cellnet_sd.synthetic.fields import Field, fractal_noise

_MAP_SIDE: Final = 800
_MARGIN_UM: Final = 25.0
_DOMAIN_SIDE_UM: Final = 260.0
_VESSEL_AREA_UM2: Final = 9_000.0
_LUMEN_UM: Final = (8.0, 17.0)
_FIBRE_WAVE_UM: Final = 130.0
_WSI_SIDE: Final = 256
_VASCULAR: Final = DOMAINS.index("vascular bed")


@dataclass(frozen=True, slots=True)
class Tissue:
    """What lies where on one slide, in pixels.

    Parameters
    ----------
    shape
        Height and width of the slide.
    inside
        Which places of the map are tissue. The map is the slide, coarser.
    domain
        Index into `DOMAINS` at each place of the map.
    flow
        Field whose contours the fibres follow, at each place of the map, px.
    vessels
        (v, 5): x, y, semi-axes and direction of each lumen.
    """

    shape: tuple[int, int]
    inside: NDArray[np.bool_]
    domain: NDArray[np.int8]
    flow: Field
    vessels: NDArray[np.float64]

    @property
    def corner(self) -> NDArray[np.int64]:
        """Left upper corner of the tissue's bounding box, x then y."""
        rows, columns = np.nonzero(self.inside)
        step = np.array([self.shape[1] / self.inside.shape[1], self.shape[0] / self.inside.shape[0]])
        corner: NDArray[np.int64] = np.floor(np.array([columns.min(), rows.min()]) * step).astype(np.int64)
        return corner

    def at(self, field: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
        """Return the values of a map at `points`, (n, 2), x then y."""
        size = np.array([field.shape[1], field.shape[0]])
        places = (points * (size / np.array([self.shape[1], self.shape[0]]))).astype(np.int64)
        columns, rows = np.clip(places, 0, size - 1).T
        values: NDArray[Any] = field[rows, columns]
        return values


def make_tissue(rng: np.random.Generator, n_cells: int, cell_area_um2: float, mpp: float) -> Tissue:
    """Return the tissue of a slide with room for `n_cells`."""
    area = n_cells * cell_area_um2 / mpp**2
    radii = np.sqrt(area / np.pi) * np.array([1.1, 1 / 1.1])
    half = np.ceil(radii * 1.12 + _MARGIN_UM / mpp).astype(int)
    shape = whole_blocks(2 * int(half[1]), 2 * int(half[0]))
    step = max(1.0, max(shape) / _MAP_SIDE)
    grid = (round(shape[0] / step), round(shape[1] / step))
    inside = _outline(rng, grid, area / (shape[0] * shape[1]), radii / np.array(shape[::-1]))
    patches = int(np.clip(round(area * mpp**2 / _DOMAIN_SIDE_UM**2 / len(DOMAINS)), 1, 12)) * len(DOMAINS)
    domain = _domains(rng, inside, shape, patches)
    flow = _flow(rng, grid, shape, mpp)
    tissue = Tissue(shape, inside, domain, flow, np.empty((0, 5)))
    return Tissue(shape, inside, domain, flow, _vessels(rng, tissue, mpp))


def block_side(shape: tuple[int, int]) -> int:
    """Return how many slide pixels make one pixel of the WSI patch: the least that keeps its long side ≤ 256."""
    return -(-max(shape) // _WSI_SIDE)


def whole_blocks(height: int, width: int) -> tuple[int, int]:
    """Return the shape rounded up to whole pixels of the WSI patch."""
    block = block_side((height, width))
    return -(-height // block) * block, -(-width // block) * block


def _grid_points(grid: tuple[int, int], shape: tuple[int, int]) -> tuple[Field, Field]:
    """Return x and y of the map's places, in slide pixels."""
    y = (np.arange(grid[0], dtype=np.float32) + 0.5) * np.float32(shape[0] / grid[0])
    x = (np.arange(grid[1], dtype=np.float32) + 0.5) * np.float32(shape[1] / grid[1])
    rows, columns = np.meshgrid(y, x, indexing="ij")
    return columns, rows


def _outline(rng: np.random.Generator, grid: tuple[int, int], share: float, radii: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a bumpy ellipse without holes, in one piece, over about `share` of the slide."""
    from scipy import ndimage

    x, y = _grid_points(grid, (1, 1))
    bumps = fractal_noise(rng, grid, max(grid) / 4, 4)
    field = 1 - np.hypot((x - 0.5) / radii[0], (y - 0.5) / radii[1]) + np.float32(0.09) * bumps
    border = np.minimum.reduce([x, 1 - x, y, 1 - y])
    field = np.where(border < 0.015, np.float32(-1), field)
    pieces, _ = ndimage.label(field > np.quantile(field, 1 - share))
    largest = pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    return np.asarray(ndimage.binary_fill_holes(largest))


def _domains(
    rng: np.random.Generator, inside: NDArray[np.bool_], shape: tuple[int, int], patches: int
) -> NDArray[np.int8]:
    """Return a Voronoi map of even patches with bent borders, each domain holding as many patches as any other."""
    from scipy.cluster.vq import kmeans2
    from scipy.spatial import cKDTree

    x, y = _grid_points(inside.shape, shape)
    tissue = np.stack([x[inside], y[inside]], axis=1)
    sample = tissue[rng.integers(len(tissue), size=200 * patches)]
    seeds, _ = kmeans2(sample.astype(np.float64), sample[:patches].astype(np.float64), minit="matrix")
    names = _spread(rng, seeds)
    side = np.sqrt(len(tissue) / patches)
    bend = 0.16 * side * shape[0] / inside.shape[0]
    bent = [axis + bend * fractal_noise(rng, inside.shape, side / 1.5, 3) for axis in (x, y)]
    nearest = cKDTree(seeds).query(np.stack(bent, axis=-1), workers=-1)[1]
    return np.asarray(names[nearest])


def _spread(rng: np.random.Generator, seeds: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return a domain for each seed, drawn so that few near seeds share one."""
    from scipy.spatial.distance import cdist

    nearness = np.exp(-cdist(seeds, seeds) / np.ptp(seeds, axis=0).mean() * 8)
    names = np.arange(len(seeds), dtype=np.int8) % len(DOMAINS)
    draws = [rng.permutation(names) for _ in range(64)]
    return min(draws, key=lambda draw: float(nearness[draw[:, None] == draw[None, :]].sum()))


def _flow(rng: np.random.Generator, grid: tuple[int, int], shape: tuple[int, int], mpp: float) -> Field:
    """Return a field that rises one per pixel across the fibres, in a direction that wanders."""
    x, y = _grid_points(grid, shape)
    direction = rng.uniform(0, 2 * np.pi)
    scale = _FIBRE_WAVE_UM / mpp
    bend = fractal_noise(rng, grid, scale * grid[1] / shape[1], 2) * np.float32(0.25 * scale)
    return np.asarray(x * np.cos(direction) + y * np.sin(direction) + bend, dtype=np.float32)


def _vessels(rng: np.random.Generator, tissue: Tissue, mpp: float) -> NDArray[np.float64]:
    """Return lumens inside the vascular bed, (v, 5): x, y, two semi-axes, direction."""
    x, y = _grid_points(tissue.domain.shape, tissue.shape)
    here = (tissue.domain == _VASCULAR) & tissue.inside
    candidates = np.stack([x[here], y[here]], axis=1).astype(np.float64)
    area = len(candidates) * tissue.shape[0] * tissue.shape[1] / tissue.domain.size * mpp**2
    kept = _apart(rng, candidates, max(1, round(area / _VESSEL_AREA_UM2)), 2.2 * _LUMEN_UM[1] / mpp)
    long = rng.uniform(*_LUMEN_UM, len(kept)) / mpp
    wide = long * rng.uniform(0.45, 0.9, len(kept))
    return np.column_stack([kept, long, wide, rng.uniform(0, np.pi, len(kept))])


def _apart(rng: np.random.Generator, points: NDArray[np.float64], count: int, gap: float) -> NDArray[np.float64]:
    """Return up to `count` of `points`, no two nearer than `gap`."""
    kept: list[NDArray[np.float64]] = []
    for point in points[rng.permutation(len(points))[: 12 * count]]:
        if len(kept) < count and all(np.hypot(*(point - other)) >= gap for other in kept):
            kept.append(point)
    return np.array(kept).reshape(-1, 2)


def ellipse_radius(points: NDArray[Any], vessels: NDArray[np.float64], grow: float = 0.0) -> NDArray[np.float64]:
    """Return how far each point lies from the nearest lumen's centre; 1 on its rim, `grow` px further out."""
    from scipy.spatial import cKDTree

    if not len(vessels):
        return np.full(len(points), np.inf)
    _, near = cKDTree(vessels[:, :2]).query(points, k=np.arange(1, min(3, len(vessels)) + 1))
    dx, dy = np.moveaxis(points[:, None] - vessels[near, :2], -1, 0)
    cos, sin = np.cos(vessels[near, 4]), np.sin(vessels[near, 4])
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    radius = np.hypot(along / (vessels[near, 2] + grow), across / (vessels[near, 3] + grow))
    return np.asarray(radius.min(axis=1))
