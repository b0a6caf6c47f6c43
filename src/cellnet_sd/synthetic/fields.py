"""Smooth random fields, and ellipses drawn into images: the brushes of the synthetic tissue."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
_BATCH_PIXELS = 1 << 22


def upsample(field: NDArray[np.floating], shape: tuple[int, int]) -> Field:
    """Return `field` resampled to `shape`, bicubic."""
    from PIL import Image

    image = Image.fromarray(np.asarray(field, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Field:
    """Return noise of mean 0 and standard deviation 1 whose bumps are about `scale` pixels apart, (H, W) float32."""
    knots = [int(np.ceil(length / scale)) + 3 for length in shape]
    field = upsample(rng.standard_normal(knots), shape)
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def fractal_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float, octaves: int) -> Field:
    """Return a sum of `octaves` smooth noises, each half as wide and half as high as the one before."""
    field = sum(smooth_noise(rng, shape, scale / 2**k) / np.float32(2**k) for k in range(octaves))
    return np.asarray(field / np.std(field), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Ellipses:
    """Ellipses to draw.

    Parameters
    ----------
    centres
        (n, 2), x then y, px.
    lengths, widths
        (n,) semi-axes, px.
    angles
        (n,) direction of the first axis, radians from x towards y.
    """

    centres: NDArray[Any]
    lengths: NDArray[np.floating]
    widths: NDArray[np.floating]
    angles: NDArray[np.floating]

    def __getitem__(self, part: slice | NDArray[np.bool_]) -> "Ellipses":
        return Ellipses(self.centres[part], self.lengths[part], self.widths[part], self.angles[part])


def draw(ellipses: Ellipses, softness: float, *inks: tuple[Field, NDArray[np.floating]]) -> None:
    """Draw filled ellipses into canvases; where they meet, the greater value stays.

    Parameters
    ----------
    ellipses
        What to draw.
    softness
        Width of the edge, px.
    inks
        Canvases, (H, W), all of one shape and changed in place, each with the (n,) values inside the ellipses.
    """
    if not len(ellipses.centres):
        return
    height, width = inks[0][0].shape
    reach = int(np.ceil(max(ellipses.lengths.max(), ellipses.widths.max()) + softness))
    offset = np.arange(-reach, reach + 1)
    per_batch = max(1, _BATCH_PIXELS // len(offset) ** 2)
    for start in range(0, len(ellipses.centres), per_batch):
        part = slice(start, start + per_batch)
        centres = ellipses.centres[part].round().astype(np.int64)
        columns, rows = (
            centres[:, 0, None, None] + offset[None, None, :],
            centres[:, 1, None, None] + offset[None, :, None],
        )
        cover = _cover(offset, ellipses[part], softness)
        seen = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height) & (cover > 0)
        places = (rows * width + columns)[seen]
        for canvas, values in inks:
            np.maximum.at(canvas.reshape(-1), places, (cover * _deep(values[part]))[seen])


def _cover(offset: NDArray[np.int64], ellipses: Ellipses, softness: float) -> Field:
    """Return how much of each pixel of a window the ellipse at its centre covers, (n, side, side), 0 to 1."""
    x, y = offset[None, None, :].astype(np.float32), offset[None, :, None].astype(np.float32)
    cos, sin = _deep(np.cos(ellipses.angles)), _deep(np.sin(ellipses.angles))
    a, b = _deep(ellipses.lengths), _deep(ellipses.widths)
    radius = np.hypot((x * cos + y * sin) / a, (y * cos - x * sin) / b)
    return np.clip(0.5 + (1 - radius) * np.minimum(a, b) / np.float32(softness), 0, 1)


def _deep(values: NDArray[np.floating]) -> Field:
    return values.astype(np.float32)[:, None, None]
