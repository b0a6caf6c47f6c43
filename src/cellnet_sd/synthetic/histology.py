"""The slide as haematoxylin and eosin would show it: stains laid down as optical density, then seen as light."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellnet_sd.synthetic.catalogue import CELL_TYPES, DOMAINS, LOOKS
from cellnet_sd.synthetic.cells import Cells
from cellnet_sd.synthetic.fields import Ellipses, Field, draw, fractal_noise, smooth_noise, upsample
from cellnet_sd.synthetic.geometry import Tissue
from cellnet_sd.synthetic.patches import WHITE, Image

_HAEMATOXYLIN: Final = (0.62, 0.72, 0.30)
_EOSIN: Final = (0.10, 0.66, 0.26)
_BLOOD: Final = (0.08, 0.78, 0.62)
"""Optical density of each dye in red, green and blue."""
_GRAIN: Final = 512
_BLOOD_CELL_UM: Final = 3.0
_EDGE_UM: Final = 5.0


class Ground(NamedTuple):
    """What lies between the cells of a domain, as optical density.

    Parameters
    ----------
    eosin, haematoxylin
        Mean stain.
    fibres
        How strongly fibres show.
    """

    eosin: float
    haematoxylin: float
    fibres: float


_GROUND: Final = {
    "tumour nest": Ground(0.30, 0.16, 0.05),
    "stroma": Ground(0.42, 0.02, 0.26),
    "immune aggregate": Ground(0.22, 0.12, 0.07),
    "vascular bed": Ground(0.38, 0.03, 0.16),
}


@dataclass(slots=True)
class _Stains:
    """Optical density of each stain on the slide, (H, W)."""

    eosin: Field
    haematoxylin: Field
    blood: Field


_LOOKS = [LOOKS[name] for name in CELL_TYPES]


def _of_type(name: str) -> NDArray[np.float64]:
    return np.array([getattr(look, name) for look in _LOOKS], dtype=np.float64)


def paint_slide(rng: np.random.Generator, tissue: Tissue, cells: Cells, mpp: float) -> Image:
    """Return the slide, (H, W, 3) uint8; white where there is no tissue."""
    stains = _paint_ground(rng, tissue, mpp)
    _paint_bodies(stains, cells, mpp)
    _paint_vessels(rng, stains, tissue, mpp)
    _paint_nuclei(rng, stains, cells, mpp)
    _trim(rng, stains, tissue, mpp)
    return _as_light(rng, stains)


def _paint_ground(rng: np.random.Generator, tissue: Tissue, mpp: float) -> _Stains:
    """Return the stains of fibres and matrix, with clefts where fibres part."""
    eosin, haematoxylin, strength = (_of_domain(tissue, name) for name in Ground._fields)
    fine = _fibres(rng, tissue, (2.2 / mpp, 22 / mpp))
    coarse = _fibres(rng, tissue, (9.0 / mpp, 60 / mpp))
    blotches = fractal_noise(rng, tissue.shape, 40 / mpp, 3)
    eosin *= 1 + np.float32(0.12) * blotches
    eosin += strength * (np.float32(0.55) * fine + np.float32(0.45) * coarse)
    clefts = np.clip((-coarse - 1.0) * 2.2, 0, 1) * np.clip(strength * 4.5, 0, 1)
    open_ = 1 - np.float32(0.85) * clefts
    return _Stains(np.maximum(eosin, 0.04) * open_, haematoxylin * open_, np.zeros(tissue.shape, np.float32))


def _of_domain(tissue: Tissue, name: str) -> Field:
    """Return a property of the ground over the slide, with soft borders between domains."""
    from scipy import ndimage

    values = np.array([getattr(_GROUND[domain], name) for domain in DOMAINS], dtype=np.float32)
    return np.maximum(upsample(ndimage.gaussian_filter(values[tissue.domain], 1.5), tissue.shape), 0)


def _fibres(rng: np.random.Generator, tissue: Tissue, lengths: tuple[float, float]) -> Field:
    """Return noise drawn out along the contours of the flow; `lengths` across and along, px. Mean 0, deviation 1."""
    from scipy import ndimage

    across = upsample(tissue.flow, tissue.shape) / np.float32(lengths[0])
    rise = np.array([gradient.mean() for gradient in np.gradient(tissue.flow)])
    rise /= np.hypot(*rise)
    rows, columns = (np.arange(length, dtype=np.float32) for length in tissue.shape)
    along = (rows[:, None] * np.float32(rise[1]) - columns[None, :] * np.float32(rise[0])) / np.float32(lengths[1])
    grain = ndimage.gaussian_filter(rng.standard_normal((_GRAIN, _GRAIN), dtype=np.float32), 0.6, mode="wrap")
    woven = ndimage.map_coordinates(grain, [across, along], order=1, mode="grid-wrap", output=np.float32)
    return np.asarray((woven - woven.mean()) / woven.std())


def _blank(stains: _Stains) -> Field:
    return np.zeros_like(stains.eosin)


def _paint_bodies(stains: _Stains, cells: Cells, mpp: float) -> None:
    """Lay the cytoplasm over the ground."""
    radius = cells.diameter / 2 / mpp
    bodies = Ellipses(cells.xy, radius, radius * 0.88, cells.angle)
    cover, eosin, haematoxylin = _blank(stains), _blank(stains), _blank(stains)
    draw(
        bodies,
        3.0 / mpp,
        (cover, np.ones(len(radius))),
        (eosin, _of_type("cytoplasm_eosin")[cells.kind]),
        (haematoxylin, _of_type("cytoplasm_haematoxylin")[cells.kind]),
    )
    cover *= np.float32(0.75)
    stains.eosin += np.float32(0.75) * eosin - cover * stains.eosin
    stains.haematoxylin += np.float32(0.75) * haematoxylin - cover * stains.haematoxylin


def _paint_vessels(rng: np.random.Generator, stains: _Stains, tissue: Tissue, mpp: float) -> None:
    """Open the lumens, each in a thin wall, and fill them with more or less blood."""
    x_y, long, wide, angle = tissue.vessels[:, :2], tissue.vessels[:, 2], tissue.vessels[:, 3], tissue.vessels[:, 4]
    everywhere = np.ones(len(x_y))
    wall, lumen = _blank(stains), _blank(stains)
    draw(Ellipses(x_y, long + 2.5 / mpp, wide + 2.5 / mpp, angle), 2.0 / mpp, (wall, everywhere))
    draw(Ellipses(x_y, long, wide, angle), 1.5 / mpp, (lumen, everywhere))
    np.maximum(stains.eosin, np.float32(0.55) * wall, out=stains.eosin)
    stains.eosin *= 1 - lumen
    stains.haematoxylin *= 1 - lumen
    fill = rng.beta(0.8, 0.8, len(x_y))
    count = (fill * long * wide / (_BLOOD_CELL_UM / mpp) ** 2 * 1.1).astype(np.int64)
    home = np.repeat(np.arange(len(x_y)), count)
    reach, turn = np.sqrt(rng.random(len(home))) * 0.84, rng.uniform(0, 2 * np.pi, len(home))
    along, across = reach * np.cos(turn) * long[home], reach * np.sin(turn) * wide[home]
    cos, sin = np.cos(angle[home]), np.sin(angle[home])
    centres = x_y[home] + np.stack([along * cos - across * sin, along * sin + across * cos], axis=1)
    size = np.full(len(home), _BLOOD_CELL_UM / mpp)
    discs = Ellipses(centres, size, size * rng.uniform(0.8, 1, len(home)), turn)
    draw(discs, 1.3 / mpp, (stains.blood, rng.uniform(0.5, 0.75, len(home))))


def nuclei(cells: Cells, mpp: float) -> Ellipses:
    """Return the outlines of the nuclei: none reaches into its neighbour, unless both are at one pixel."""
    length = cells.diameter * _of_type("nucleus")[cells.kind] / 2 / mpp
    roundness = _of_type("roundness")[cells.kind]
    length = np.minimum(length, cells.room * np.where(roundness < 0.5, 1.4, 1.05))
    least = 1.2 / mpp
    return Ellipses(cells.xy, np.maximum(length, least), np.maximum(length * roundness, least), cells.angle)


def _paint_nuclei(rng: np.random.Generator, stains: _Stains, cells: Cells, mpp: float) -> None:
    """Lay the nuclei over everything: chromatin uneven, paler inside, with a nucleolus where the type shows one."""
    shapes = nuclei(cells, mpp)
    depth = _of_type("haematoxylin")[cells.kind] * rng.normal(1, 0.10, len(cells.kind)).clip(0.7, 1.3)
    cover, dye, pale = _blank(stains), _blank(stains), _blank(stains)
    draw(shapes, 1.1 / mpp, (cover, np.ones(len(depth))), (dye, depth))
    open_ = _of_type("nucleolus")[cells.kind] > 0
    inner = Ellipses(shapes.centres, shapes.lengths * 0.75, shapes.widths * 0.75, shapes.angles)[open_]
    draw(inner, 2.5 / mpp, (pale, np.full(len(inner.lengths), 0.35)))
    dye *= (1 - pale) * (1 + np.float32(0.16) * smooth_noise(rng, stains.eosin.shape, max(1.0, 1.8 / mpp)))
    _add_nucleoli(rng, dye, inner, mpp)
    stains.haematoxylin += dye - cover * stains.haematoxylin
    stains.eosin *= 1 - np.float32(0.55) * cover
    stains.blood *= 1 - cover


def _add_nucleoli(rng: np.random.Generator, dye: Field, inner: Ellipses, mpp: float) -> None:
    turn, size = rng.uniform(0, 2 * np.pi, len(inner.lengths)), rng.uniform(0.9, 1.4, len(inner.lengths)) / mpp
    off_centre = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (inner.widths * 0.4)[:, None]
    draw(Ellipses(inner.centres + off_centre, size, size, turn), 1.2 / mpp, (dye, np.full(len(turn), 1.35)))


def _trim(rng: np.random.Generator, stains: _Stains, tissue: Tissue, mpp: float) -> None:
    """Take the stain away outside the tissue, along a frayed edge a little beyond the outermost cells."""
    from scipy import ndimage

    step = tissue.shape[0] / tissue.inside.shape[0]
    inwards, outwards = (ndimage.distance_transform_edt(side) for side in (tissue.inside, ~tissue.inside))
    edge = upsample((inwards - outwards) * step * mpp, tissue.shape) + _EDGE_UM
    edge += np.float32(1.5) * fractal_noise(rng, tissue.shape, 12 / mpp, 3)
    there = np.clip(edge / 2, 0, 1)
    stains.eosin *= there
    stains.haematoxylin *= there
    stains.blood *= there


def _as_light(rng: np.random.Generator, stains: _Stains) -> Image:
    """Return what light the stains let through, each a little uneven over the slide and different on every slide."""
    shape = stains.eosin.shape
    for stain in (stains.eosin, stains.haematoxylin):
        stain *= np.float32(rng.lognormal(0, 0.06))
        stain *= 1 + np.float32(0.05) * smooth_noise(rng, shape, max(shape) / 3)
        stain *= 1 + np.float32(0.05) * smooth_noise(rng, shape, 1.5)
    slide = np.empty((*shape, 3), dtype=np.uint8)
    for channel, (h, e, b) in enumerate(zip(_HAEMATOXYLIN, _EOSIN, _BLOOD, strict=True)):
        density = np.float32(h) * stains.haematoxylin + np.float32(e) * stains.eosin + np.float32(b) * stains.blood
        slide[..., channel] = np.rint(WHITE * np.exp(-np.maximum(density, 0)))
    return slide
